//! CronJob controller: a Job whenever the schedule says so.

use super::events::{EventType, Recorder};
use super::owned_pods::Pods;
use super::ownership::{controller_reference, is_controlled_by};
use super::replica_set::api_message;
use super::{FIELD_MANAGER, earlier, ignore_races, is_conflict, keep};
use crate::informers::{Informers, is_terminating, uid_of};
use cronexpr::Crontab;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a schedule says.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The latest moment that has passed since `after` and was not used.
    missed: Option<jiff::Timestamp>,
    /// The next one.
    next: jiff::Timestamp,
}

/// The schedule's moments around `now`; those up to `after` have been used.
fn due(
    spec: &str,
    zone: &str,
    after: jiff::Timestamp,
    now: jiff::Timestamp,
) -> Result<Due, String> {
    let text = match spec.trim() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    };
    let crontab: Crontab = format!("{text} {zone}")
        .parse()
        .map_err(|error: cronexpr::Error| error.to_string())?;
    let next_after = |at: jiff::Timestamp| {
        let zoned = crontab
            .find_next(cronexpr::MakeTimestamp(at))
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(zoned.timestamp())
    };
    let next = next_after(now)?;
    // at most a hundred are looked at, as in Kubernetes; of a longer sleep only the last counts
    let mut missed = None;
    let mut at = after.max(now - jiff::SignedDuration::from_mins(100));
    loop {
        at = next_after(at)?;
        if at > now {
            break;
        }
        missed = Some(at);
    }
    Ok(Due { missed, next })
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let changes = vec![informers.cron_jobs.changed(), informers.jobs.changed()];
    let hands = Pods {
        client,
        informers,
        recorder,
    };
    keep("cronjob", changes, shutdown, async || {
        let mut again = None;
        for cron in hands.informers.cron_jobs.list() {
            if !is_terminating(cron.as_ref()) {
                again = earlier(again, reconcile(&hands, &cron).await?);
            }
        }
        Ok(again)
    })
    .await;
}

fn is_over(job: &Job) -> Option<bool> {
    let conditions = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut ends = conditions.filter(|c| c.status == "True");
    ends.find_map(|c| match c.type_.as_str() {
        "Complete" => Some(true),
        "Failed" => Some(false),
        _ => None,
    })
}

async fn reconcile(hands: &Pods, cron: &CronJob) -> Result<Option<Duration>, kube::Error> {
    let spec = &cron.spec;
    let namespace = cron.namespace().unwrap_or_default();
    let uid = uid_of(cron);
    let mut jobs = hands.informers.jobs.list();
    jobs.retain(|job| is_controlled_by(&job.metadata, &uid));
    let api: Api<Job> = Api::namespaced(hands.client.clone(), &namespace);
    forget_old(hands, &api, cron, &jobs).await?;
    let mut status = cron.status.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let last = status.last_schedule_time.as_ref().map(|t| t.0);
    let born = cron
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |t| t.0);
    let zone = spec.time_zone.as_deref().unwrap_or("UTC");
    let due = match due(&spec.schedule, zone, last.unwrap_or(born), now) {
        Ok(due) => due,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            hands
                .recorder
                .record(cron, EventType::Warning, "UnparseableSchedule", message);
            return Ok(None);
        }
    };
    let mut running: Vec<_> = jobs
        .iter()
        .filter(|j| is_over(j).is_none())
        .cloned()
        .collect();
    let until = |at: jiff::Timestamp| {
        Duration::from_millis(
            u64::try_from((at - now).total(jiff::Unit::Millisecond).unwrap_or(0.0) as i64)
                .unwrap_or(0)
                + 1,
        )
    };
    let too_late = |at: jiff::Timestamp| {
        spec.starting_deadline_seconds
            .is_some_and(|limit| now.as_second() - at.as_second() > limit)
    };
    let missed = due
        .missed
        .filter(|at| spec.suspend != Some(true) && !too_late(*at));
    if let Some(at) = missed {
        let policy = spec.concurrency_policy.as_deref();
        if policy == Some("Forbid") && !running.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            hands
                .recorder
                .record(cron, EventType::Normal, "JobAlreadyActive", message);
        } else {
            if policy == Some("Replace") {
                for job in running.drain(..) {
                    delete(hands, &api, &job).await?;
                }
            }
            if let Some(job) = start(hands, &api, cron, at).await? {
                running.push(Arc::new(job));
            }
            status.last_schedule_time = Some(Time(at));
        }
    }
    let active: Vec<_> = running.iter().map(|job| reference(job)).collect();
    let succeeded = jobs
        .iter()
        .filter(|j| is_over(j) == Some(true))
        .filter_map(|j| j.status.as_ref()?.completion_time.clone())
        .max_by_key(|t| t.0);
    let new = CronJobStatus {
        active: (!active.is_empty()).then_some(active),
        last_successful_time: succeeded.or(status.last_successful_time.clone()),
        last_schedule_time: status.last_schedule_time,
    };
    let old = cron.status.clone().unwrap_or_default();
    hands
        .write_status(&hands.informers.cron_jobs, cron, &old, &new)
        .await?;
    Ok(Some(until(due.next)))
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Creates the Job of a moment; its name says which, so that there is only one.
async fn start(
    hands: &Pods,
    api: &Api<Job>,
    cron: &CronJob,
    at: jiff::Timestamp,
) -> Result<Option<Job>, kube::Error> {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(
        "batch.kubernetes.io/cronjob-scheduled-timestamp".into(),
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    let job = Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name_any(), at.as_second() / 60)),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    match api.create(&params, &job).await {
        Ok(job) => {
            let message = format!("Created job {}", job.name_any());
            hands
                .recorder
                .record(cron, EventType::Normal, "SuccessfulCreate", message);
            hands.informers.jobs.apply(job.clone());
            Ok(Some(job))
        }
        // it was made before
        Err(error) if is_conflict(&error) => Ok(None),
        Err(error) => {
            let message = format!("Error creating job: {}", api_message(&error));
            hands
                .recorder
                .record(cron, EventType::Warning, "FailedCreate", message);
            Err(error)
        }
    }
}

/// Deletes ended Jobs beyond those that are to be kept.
async fn forget_old(
    hands: &Pods,
    api: &Api<Job>,
    cron: &CronJob,
    jobs: &[Arc<Job>],
) -> Result<(), kube::Error> {
    let spec = &cron.spec;
    let limits = [
        (true, spec.successful_jobs_history_limit, 3),
        (false, spec.failed_jobs_history_limit, 1),
    ];
    for (outcome, limit, default) in limits {
        let mut ended: Vec<_> = jobs
            .iter()
            .filter(|j| is_over(j) == Some(outcome))
            .collect();
        ended.sort_by_key(|j| j.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let keep = usize::try_from(limit.unwrap_or(default)).unwrap_or(0);
        let old = ended.len().saturating_sub(keep);
        for job in ended.into_iter().take(old) {
            delete(hands, api, job).await?;
        }
    }
    Ok(())
}

async fn delete(hands: &Pods, api: &Api<Job>, job: &Job) -> Result<(), kube::Error> {
    ignore_races(
        api.delete(&job.name_any(), &DeleteParams::background())
            .await,
    )?;
    hands.informers.jobs.remove(job);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn schedules_name_moments() {
        let due_at = |schedule: &str, after: &str, now: &str| {
            due(schedule, "UTC", at(after), at(now)).unwrap()
        };
        let five = due_at(
            "*/5 * * * *",
            "2026-01-01T00:00:30Z",
            "2026-01-01T00:04:00Z",
        );
        assert_eq!(five.missed, None);
        assert_eq!(five.next, at("2026-01-01T00:05:00Z"));
        let passed = due_at(
            "*/5 * * * *",
            "2026-01-01T00:00:30Z",
            "2026-01-01T00:11:00Z",
        );
        assert_eq!(passed.missed, Some(at("2026-01-01T00:10:00Z")));
        assert_eq!(
            due_at("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T00:30:00Z").next,
            at("2026-01-01T01:00:00Z")
        );
        assert_eq!(
            due(
                "0 9 * * 1-5",
                "Asia/Seoul",
                at("2026-01-01T00:00:00Z"),
                at("2026-01-01T01:00:00Z")
            )
            .unwrap()
            .next,
            at("2026-01-02T00:00:00Z")
        );
        assert!(
            due(
                "often",
                "UTC",
                at("2026-01-01T00:00:00Z"),
                at("2026-01-01T00:00:00Z")
            )
            .is_err()
        );
    }
}
