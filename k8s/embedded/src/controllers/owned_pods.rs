//! What all controllers that make pods have in common.

use super::events::{EventType, Recorder};
use super::merge_patch::merge_patch;
use super::ownership::{controller_reference, is_controlled_by};
use super::replica_set::{api_message, manager};
use super::{FIELD_MANAGER, ignore_races};
use crate::informers::{Cache, Informers, uid_of};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::sync::Arc;

/// An object that has pods.
pub trait Owner:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Owner for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// A controller's hands.
#[derive(Clone)]
pub struct Pods {
    /// The API.
    pub client: Client,
    /// The caches.
    pub informers: Informers,
    /// Events in the controller's name.
    pub recorder: Recorder,
}

/// The pod that an owner makes, with a generated name.
pub fn from_template<K: Owner>(owner: &K, template: Option<&PodTemplateSpec>) -> Pod {
    let (meta, spec) = template.map_or((None, None), |t| (t.metadata.clone(), t.spec.clone()));
    let meta = meta.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

impl Pods {
    /// The pods that `owner` controls, ordered by name.
    pub fn of<K: Owner>(&self, owner: &K) -> Vec<Arc<Pod>> {
        let (namespace, uid) = (owner.namespace(), uid_of(owner));
        let mut pods = self.informers.pods.list();
        pods.retain(|pod| {
            pod.metadata.namespace == namespace && is_controlled_by(&pod.metadata, &uid)
        });
        pods
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// Creates a pod and tells of it.
    ///
    /// # Errors
    /// When the pod is refused; that has been told too.
    pub async fn create<K: Owner>(&self, owner: &K, pod: &Pod) -> Result<(), kube::Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match self.api(pod).create(&params, pod).await {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.name_any());
                self.recorder
                    .record(owner, EventType::Normal, "SuccessfulCreate", message);
                self.informers.pods.apply(pod);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {}", api_message(&error));
                self.recorder
                    .record(owner, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    /// Deletes a pod and tells of it.
    ///
    /// # Errors
    /// When the API fails.
    pub async fn delete<K: Owner>(&self, owner: &K, pod: &Pod) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match ignore_races(self.api(pod).delete(&pod.name_any(), &params).await)? {
            Some(answer) => match answer.left() {
                Some(pod) => self.informers.pods.apply(pod),
                None => self.informers.pods.remove(pod),
            },
            None => self.informers.pods.remove(pod),
        }
        let message = format!("Deleted pod: {}", pod.name_any());
        self.recorder
            .record(owner, EventType::Normal, "SuccessfulDelete", message);
        Ok(())
    }

    /// Writes an owner's status if it differs from `old`.
    ///
    /// # Errors
    /// When the API fails.
    pub async fn write_status<K: Owner>(
        &self,
        cache: &Cache<K>,
        owner: &K,
        old: &impl Serialize,
        new: &impl Serialize,
    ) -> Result<(), kube::Error> {
        let json = |status: &serde_json::Value| match status {
            serde_json::Value::Null => json!({}),
            status => status.clone(),
        };
        let old = json(&serde_json::to_value(old).unwrap_or_default());
        let new = json(&serde_json::to_value(new).unwrap_or_default());
        let Some(patch) = merge_patch(&old, &new) else {
            return Ok(());
        };
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &owner.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": owner.meta().uid}, "status": patch});
        let written = api
            .patch_status(&owner.name_any(), &manager(), &Patch::Merge(patch))
            .await;
        if let Some(written) = ignore_races(written)? {
            cache.apply(written);
        }
        Ok(())
    }
}
