//! Job controller: pods that are to end well, as often as asked for.
//!
//! Not carried out, and said in an event: `completionMode: Indexed`, pod failure and success policies.

use super::events::{EventType, Recorder, now};
use super::owned_pods::{Pods, from_template};
use super::{earlier, ignore_races, keep};
use crate::informers::{Informers, is_terminating};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The pause after the first failure; it doubles with each.
const BACK_OFF: i64 = 10;
/// Longest pause, in seconds.
const LONGEST_BACK_OFF: i64 = 360;

/// What to do for one Job.
#[derive(Debug, Default)]
struct Decision {
    create: usize,
    delete: Vec<Arc<Pod>>,
    status: JobStatus,
    /// When to look again.
    again: Option<Duration>,
    /// It has ended, and this is to be told: reason and message.
    ended: Option<(&'static str, String)>,
    /// Its time is over: to be deleted.
    expired: bool,
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether the Job has ended; the moment of the condition that says so.
fn end(job: &Job) -> Option<jiff::Timestamp> {
    let conditions = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut ends = conditions
        .filter(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True");
    let end = ends.next()?;
    Some(
        end.last_transition_time
            .as_ref()
            .map_or_else(jiff::Timestamp::now, |t| t.0),
    )
}

fn seconds(n: i64) -> Duration {
    Duration::from_secs(u64::try_from(n.max(0)).unwrap_or(0))
}

fn condition(type_: &str, reason: &str, message: &str) -> JobCondition {
    JobCondition {
        type_: type_.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(now()),
        last_transition_time: Some(now()),
    }
}

/// Decides, given the Job's pods.
fn decide(job: &Job, pods: &[Arc<Pod>], at: jiff::Timestamp) -> Decision {
    let mut decision = Decision {
        status: job.status.clone().unwrap_or_default(),
        ..Decision::default()
    };
    let Some(spec) = job.spec.as_ref().filter(|_| !is_terminating(job)) else {
        return decision;
    };
    if let Some(end) = end(job) {
        if let Some(keep) = spec.ttl_seconds_after_finished {
            let left = end.as_second() + i64::from(keep) - at.as_second();
            decision.expired = left <= 0;
            decision.again = (left > 0).then(|| seconds(left));
        }
        return decision;
    }
    let suspended = spec.suspend == Some(true);
    let of = |wanted: &str| pods.iter().filter(|p| phase(p) == wanted).count();
    let (succeeded, failed) = (of("Succeeded"), of("Failed"));
    let active: Vec<_> = pods
        .iter()
        .filter(|p| !matches!(phase(p), "Succeeded" | "Failed") && !is_terminating(p.as_ref()))
        .cloned()
        .collect();
    let restarts: i32 = active
        .iter()
        .flat_map(|p| p.status.iter())
        .flat_map(|s| s.container_statuses.iter().flatten())
        .map(|c| c.restart_count)
        .sum();
    let status = &mut decision.status;
    if !suspended && status.start_time.is_none() {
        status.start_time = Some(now());
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let started = status.start_time.as_ref().map_or(at, |t| t.0).as_second();
    let deadline = spec
        .active_deadline_seconds
        .map(|s| started + s - at.as_second());
    let completions = spec.completions.map(|n| usize::try_from(n).unwrap_or(0));
    let parallel = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let limit = spec.backoff_limit.unwrap_or(6);
    let done = match completions {
        Some(wanted) => succeeded >= wanted,
        // a queue of work: one that ends well says that there is no more
        None => succeeded > 0 && active.is_empty(),
    };
    let failure = if count(failed) + restarts > limit {
        Some((
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ))
    } else if deadline.is_some_and(|left| left <= 0) && !suspended {
        Some((
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ))
    } else {
        None
    };
    if done {
        const REASON: &str = "CompletionsReached";
        const MESSAGE: &str = "Reached expected number of succeeded pods";
        let conditions = status.conditions.get_or_insert_default();
        conditions.push(condition("SuccessCriteriaMet", REASON, MESSAGE));
        conditions.push(condition("Complete", REASON, MESSAGE));
        status.completion_time = Some(now());
        decision.delete = active.clone();
        decision.ended = Some(("Completed", "Job completed".into()));
    } else if let Some((reason, message)) = failure {
        let conditions = status.conditions.get_or_insert_default();
        conditions.push(condition("FailureTarget", reason, message));
        conditions.push(condition("Failed", reason, message));
        decision.delete = active.clone();
        decision.ended = Some((reason, message.into()));
    } else if suspended {
        decision.delete = active.clone();
    } else {
        let missing = match completions {
            Some(wanted) => (wanted - succeeded).min(parallel),
            None if succeeded > 0 => 0,
            None => parallel,
        };
        let wait = back_off(pods, failed, at);
        if active.len() < missing {
            match wait {
                Some(left) => decision.again = Some(left),
                None => decision.create = missing - active.len(),
            }
        } else {
            decision.delete = active.iter().skip(missing).cloned().collect();
        }
        decision.again = earlier(decision.again, deadline.map(seconds));
    }
    let over = decision.ended.is_some() || suspended;
    let status = &mut decision.status;
    let now_active = if over { 0 } else { active.len() };
    status.active = (now_active > 0).then(|| count(now_active));
    status.succeeded = (succeeded > 0).then(|| count(succeeded));
    status.failed = (failed > 0).then(|| count(failed));
    let ready = active
        .iter()
        .filter(|p| super::replica_set::has_condition(p, "Ready"))
        .count();
    status.ready = Some(if over { 0 } else { count(ready) });
    status.terminating = Some(0);
    decision
}

/// How long to wait before the next pod, after failures.
fn back_off(pods: &[Arc<Pod>], failed: usize, at: jiff::Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failed.checked_sub(1)?).unwrap_or(u32::MAX);
    let pause = BACK_OFF.saturating_mul(2_i64.saturating_pow(doublings));
    let last = pods
        .iter()
        .filter(|p| phase(p) == "Failed")
        .filter_map(|p| {
            let statuses = p.status.as_ref()?.container_statuses.as_ref()?;
            let ends = statuses.iter().filter_map(|c| {
                Some(
                    c.state
                        .as_ref()?
                        .terminated
                        .as_ref()?
                        .finished_at
                        .as_ref()?
                        .0,
                )
            });
            ends.max()
        })
        .max()?;
    let left = last.as_second() + pause.min(LONGEST_BACK_OFF) - at.as_second();
    (left > 0).then(|| seconds(left))
}

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let changes = vec![informers.jobs.changed(), informers.pods.changed()];
    let hands = Pods {
        client,
        informers,
        recorder,
    };
    keep("job", changes, shutdown, async || {
        let mut again = None;
        for job in hands.informers.jobs.list() {
            again = earlier(again, reconcile(&hands, &job).await?);
        }
        Ok(again)
    })
    .await;
}

async fn reconcile(hands: &Pods, job: &Job) -> Result<Option<Duration>, kube::Error> {
    let pods = hands.of(job);
    let decision = decide(job, &pods, jiff::Timestamp::now());
    if decision.expired {
        let api: Api<Job> =
            Api::namespaced(hands.client.clone(), &job.namespace().unwrap_or_default());
        ignore_races(
            api.delete(&job.name_any(), &DeleteParams::background())
                .await,
        )?;
        return Ok(None);
    }
    let spec = job.spec.as_ref();
    if pods.is_empty() && decision.create > 0 {
        let mut silent = Vec::new();
        if spec.and_then(|s| s.completion_mode.as_deref()) == Some("Indexed") {
            silent.push("completionMode: Indexed");
        }
        if spec.is_some_and(|s| s.pod_failure_policy.is_some()) {
            silent.push("podFailurePolicy");
        }
        if spec.is_some_and(|s| s.success_policy.is_some()) {
            silent.push("successPolicy");
        }
        for field in silent {
            let message = format!("field spec.{field} is not carried out by the embedded cluster");
            hands
                .recorder
                .record(job, EventType::Warning, "NotCarriedOut", message);
        }
    }
    for pod in &decision.delete {
        hands.delete(job, pod).await?;
    }
    let template = spec.map(|s| &s.template);
    for _ in 0..decision.create {
        hands.create(job, &from_template(job, template)).await?;
    }
    if let Some((reason, message)) = &decision.ended {
        let type_ = match *reason {
            "Completed" => EventType::Normal,
            _ => EventType::Warning,
        };
        hands.recorder.record(job, type_, reason, message.clone());
    }
    let mut status = decision.status;
    if decision.create > 0 {
        let active = i32::try_from(decision.create).unwrap_or(i32::MAX);
        status.active = Some(status.active.unwrap_or(0) + active);
    }
    let old = job.status.clone().unwrap_or_default();
    hands
        .write_status(&hands.informers.jobs, job, &old, &status)
        .await?;
    Ok(decision.again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(spec: serde_json::Value) -> Job {
        let mut job = json!({"metadata": {"name": "j"}, "spec": {"template": {}}});
        for (key, value) in spec.as_object().unwrap() {
            job["spec"][key] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    fn pod(phase: &str) -> Arc<Pod> {
        let ended = json!([{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}}]);
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": phase, "containerStatuses": ended}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn as_many_as_asked_for_so_many_at_once() {
        let job = job(json!({"completions": 3, "parallelism": 2}));
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(decide(&job, &[], now).create, 2);
        let some = [pod("Succeeded"), pod("Running")];
        assert_eq!(decide(&job, &some, now).create, 1);
        let done = decide(
            &job,
            &[pod("Succeeded"), pod("Succeeded"), pod("Succeeded")],
            now,
        );
        assert_eq!(done.ended.unwrap().0, "Completed");
        assert_eq!(done.status.succeeded, Some(3));
    }

    #[test]
    fn failures_are_tried_again_later_and_not_for_ever() {
        let twice = job(json!({"completions": 1, "backoffLimit": 1}));
        let soon = decide(&twice, &[pod("Failed")], at("2026-01-01T00:00:03Z"));
        assert_eq!((soon.create, soon.again), (0, Some(Duration::from_secs(7))));
        let later = decide(&twice, &[pod("Failed")], at("2026-01-01T00:00:10Z"));
        assert_eq!(later.create, 1);
        let over = decide(
            &twice,
            &[pod("Failed"), pod("Failed")],
            at("2026-01-01T00:01:00Z"),
        );
        assert_eq!(over.ended.unwrap().0, "BackoffLimitExceeded");
    }

    #[test]
    fn suspended_jobs_have_no_pods() {
        let job = job(json!({"completions": 1, "suspend": true}));
        let decision = decide(&job, &[pod("Running")], at("2026-01-01T00:00:00Z"));
        assert_eq!((decision.create, decision.delete.len()), (0, 1));
    }
}
