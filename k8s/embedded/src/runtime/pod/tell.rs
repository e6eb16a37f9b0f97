//! What the API is told of a pod: its status, events, its end.

use super::Worker;
use crate::controllers::events::EventType;
use crate::controllers::merge_patch::merge_patch;
use crate::controllers::{is_conflict, is_not_found};
use crate::informers::is_terminating;
use crate::runtime::plan::Role;
use crate::runtime::status::{self, Facts};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use std::sync::Arc;
use std::time::Duration;

impl Worker {
    /// Records an event about one of the containers.
    pub(in crate::runtime) fn tell(
        &self,
        index: usize,
        type_: EventType,
        reason: &str,
        message: String,
    ) {
        let container = &self.containers[index];
        let list = match container.role {
            Role::App => "containers",
            Role::Init | Role::Sidecar => "initContainers",
        };
        let path = format!("spec.{list}{{{}}}", container.name);
        self.context
            .recorder
            .record_field(self.pod.as_ref(), Some(path), type_, reason, message);
    }

    pub(super) async fn write_status(&mut self) {
        let facts = Facts {
            containers: &self.containers,
            outcome: self.outcome,
            overdue: self.overdue,
            pod_ip: self.place.pod_ip,
            host_ip: self.place.host_ip,
            started: self.started,
            now: jiff::Timestamp::now(),
        };
        let status = status::compute(&self.pod, &facts);
        let new = serde_json::to_value(status).unwrap_or_default();
        let Some(patch) = merge_patch(&self.written, &new) else {
            return;
        };
        let (namespace, name) = self.name();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let patch =
            serde_json::json!({"metadata": {"uid": self.pod.metadata.uid}, "status": patch});
        let params = PatchParams {
            field_manager: Some("kubelet".into()),
            ..PatchParams::default()
        };
        match api.patch_status(&name, &params, &Patch::Merge(patch)).await {
            Ok(pod) => {
                // compared with what was sent: the server may add defaults
                self.written = new;
                if !is_terminating(self.pod.as_ref()) && is_terminating(&pod) {
                    self.update(Arc::new(pod.clone()));
                } else {
                    self.pod = Arc::new(pod.clone());
                }
                self.context.informers.pods.apply(pod);
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => {
                // deleted meanwhile: the watch will say so
                tracing::debug!(pod = name, %error, "status not written");
            }
            Err(error) => tracing::warn!(pod = name, %error, "status not written"),
        }
    }

    pub(super) async fn delete(&self) {
        let (namespace, name) = self.name();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: self.pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        for pause in [10, 100, 1000, 5000] {
            match api.delete(&name, &params).await {
                Ok(_) => return,
                Err(error) if is_not_found(&error) || is_conflict(&error) => return,
                Err(error) => {
                    tracing::warn!(pod = name, %error, "pod not deleted, will retry");
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }
}
