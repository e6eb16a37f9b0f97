//! HorizontalPodAutoscaler controller: replicas after the load of pods.
//!
//! It measures through `metrics.k8s.io`, as any client could, every [`PERIOD`] while there are
//! autoscalers, and decides by the rules of Kubernetes: [`measure`] turns pods and their use into a
//! proposal, [`behavior`] bounds how fast it is followed.

mod behavior;
mod measure;
mod status;

use super::events::{EventType, Recorder};
use super::ownership::controller_of;
use super::replica_set::{api_message, is_finished, manager};
use super::{ignore_races, keep};
use crate::informers::{Cache, Informers, is_terminating, key_of, uid_of};
use behavior::History;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch};
use kube::{Api, Client, ResourceExt};
use measure::{PodUse, Proposal};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often is measured. Kubernetes' own default is 15 seconds; here a lab waits for it.
pub const PERIOD: Duration = Duration::from_secs(5);

/// Runs the controller until `shutdown`.
pub async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    shutdown: &CancellationToken,
) {
    let autoscalers = informers.autoscalers.clone();
    let mut controller = Controller {
        client,
        informers,
        recorder,
        histories: HashMap::new(),
        next: Instant::now(),
    };
    let changes = vec![autoscalers.changed()];
    keep("autoscaler", changes, shutdown, async || {
        controller.pass(&autoscalers).await
    })
    .await;
}

struct Controller {
    client: Client,
    informers: Informers,
    recorder: Recorder,
    /// By the autoscaler's uid.
    histories: HashMap<String, History>,
    next: Instant,
}

/// What an autoscaler scales, now.
struct Target {
    api: Api<DynamicObject>,
    name: String,
    replicas: i32,
    pods: Vec<Arc<k8s_openapi::api::core::v1::Pod>>,
}

impl Controller {
    async fn pass(
        &mut self,
        autoscalers: &Cache<HorizontalPodAutoscaler>,
    ) -> Result<Option<Duration>, kube::Error> {
        let all = autoscalers.list();
        self.histories
            .retain(|uid, _| all.iter().any(|a| a.metadata.uid.as_deref() == Some(uid)));
        if all.is_empty() {
            return Ok(None);
        }
        // writing the status wakes this controller; a new autoscaler is looked at at once
        let known = all
            .iter()
            .all(|a| self.histories.contains_key(&uid_of(a.as_ref())));
        let now = Instant::now();
        if known && now < self.next {
            return Ok(Some(self.next - now));
        }
        self.next = now + PERIOD;
        for autoscaler in all {
            if !is_terminating(autoscaler.as_ref()) {
                self.reconcile(autoscalers, &autoscaler).await?;
            }
        }
        Ok(Some(self.next.saturating_duration_since(Instant::now())))
    }

    async fn reconcile(
        &mut self,
        autoscalers: &Cache<HorizontalPodAutoscaler>,
        autoscaler: &HorizontalPodAutoscaler,
    ) -> Result<(), kube::Error> {
        let history = self.histories.entry(uid_of(autoscaler)).or_default();
        let target = find(&self.client, &self.informers, autoscaler).await;
        let report = match target {
            Err(why) => {
                let event = (EventType::Warning, "FailedGetScale", why.clone());
                status::Report::failed(autoscaler, "AbleToScale", "FailedGetScale", why, event)
            }
            Ok(target) => {
                let pods = pods_in_use(&self.client, autoscaler, &target).await;
                let report = decide(autoscaler, &target, &pods, history, Instant::now());
                if let Some(wanted) = report.wanted.filter(|w| *w != target.replicas) {
                    let patch = json!({"spec": {"replicas": wanted}});
                    let scaled = target
                        .api
                        .patch_scale(&target.name, &manager(), &Patch::Merge(patch))
                        .await;
                    ignore_races(scaled)?;
                    history.scaled(target.replicas, wanted, Instant::now());
                }
                report
            }
        };
        for (type_, reason, message) in &report.events {
            self.recorder
                .record(autoscaler, *type_, reason, message.clone());
        }
        let old = serde_json::to_value(&autoscaler.status).unwrap_or_default();
        let Some(patch) = super::merge_patch::merge_patch(&old, &report.status) else {
            return Ok(());
        };
        let (namespace, name) = key_of(autoscaler);
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"metadata": {"uid": autoscaler.metadata.uid}, "status": patch});
        let written = api
            .patch_status(&name, &manager(), &Patch::Merge(patch))
            .await;
        if let Some(written) = ignore_races(written)? {
            autoscalers.apply(written);
        }
        Ok(())
    }
}

/// The target's scale and pods.
async fn find(
    client: &Client,
    informers: &Informers,
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<Target, String> {
    let reference = &autoscaler.spec.scale_target_ref;
    let version = reference.api_version.as_deref().unwrap_or("v1");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &reference.kind));
    let namespace = autoscaler.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let scale = api.get_scale(&reference.name).await;
    let scale = scale.map_err(|error| {
        format!(
            "the HPA controller was unable to get the target's current scale: {}",
            api_message(&error)
        )
    })?;
    let object = api
        .get_metadata(&reference.name)
        .await
        .map_err(|error| api_message(&error))?;
    let uid = object.metadata.uid.unwrap_or_default();
    let sets = informers.replica_sets.list();
    // a Deployment's pods are its ReplicaSets'
    let owns = |pod: &k8s_openapi::api::core::v1::Pod| {
        controller_of(&pod.metadata).is_some_and(|owner| {
            owner.uid == uid
                || sets.iter().any(|set| {
                    set.metadata.uid.as_ref() == Some(&owner.uid)
                        && controller_of(&set.metadata).is_some_and(|o| o.uid == uid)
                })
        })
    };
    let pods = informers.pods.list().into_iter().filter(|pod| {
        pod.metadata.namespace.as_deref() == Some(&namespace)
            && !is_terminating(pod.as_ref())
            && !is_finished(pod)
            && owns(pod)
    });
    Ok(Target {
        api,
        name: reference.name.clone(),
        replicas: scale.spec.and_then(|s| s.replicas).unwrap_or(0),
        pods: pods.collect(),
    })
}

/// The target's pods with what they ask for and use.
async fn pods_in_use(
    client: &Client,
    autoscaler: &HorizontalPodAutoscaler,
    target: &Target,
) -> Vec<PodUse> {
    let namespace = autoscaler.namespace().unwrap_or_default();
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let metrics = match http::Request::get(path).body(Vec::new()) {
        Ok(request) => client.request::<Value>(request).await.unwrap_or_default(),
        Err(_) => Value::Null,
    };
    target
        .pods
        .iter()
        .map(|pod| {
            let items = metrics["items"].as_array().into_iter().flatten();
            let mut measured = items.filter(|m| m["metadata"]["name"] == pod.name_any());
            PodUse::of(pod, measured.next())
        })
        .collect()
}

/// What to tell, and how many replicas there should be.
fn decide(
    autoscaler: &HorizontalPodAutoscaler,
    target: &Target,
    pods: &[PodUse],
    history: &mut History,
    now: Instant,
) -> status::Report {
    let spec = &autoscaler.spec;
    if target.replicas == 0 {
        return status::Report::disabled(autoscaler);
    }
    let bounds = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    match measure::propose(metrics, target.replicas, pods) {
        Err(failure) => status::Report::unmeasured(autoscaler, target.replicas, &failure),
        Ok(proposal) => {
            let Proposal { replicas, .. } = proposal;
            let stable = history.stabilize(spec.behavior.as_ref(), target.replicas, replicas, now);
            let limited = history.limit(spec.behavior.as_ref(), target.replicas, stable, now);
            let wanted = limited.clamp(bounds.0, bounds.1);
            status::Report::decided(
                autoscaler,
                target.replicas,
                &proposal,
                &status::Steps {
                    stable,
                    limited,
                    wanted,
                    bounds,
                },
            )
        }
    }
}
