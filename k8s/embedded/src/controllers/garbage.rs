//! Garbage collector: dependents follow their owners.
//!
//! Three things keep it busy: an object whose owners are all gone is deleted; an owner that waits
//! with the finalizer `foregroundDeletion` has its blocking dependents deleted first; one that
//! waits with `orphan` has itself struck from its dependents' references. It watches the kinds
//! that the [`Informers`] hold, which are all those that controllers own something of or by.

use super::replica_set::manager;
use super::{ignore_races, is_not_found, keep};
use crate::informers::{Cache, Informers};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Resource};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// The kinds that [`nodes`] looks at. Others are collected by the API server when an owner goes.
pub(crate) const WATCHED: [&str; 11] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "Pod",
    "Service",
    "EndpointSlice",
    "Endpoints",
    "ServiceAccount",
    "StatefulSet",
];

/// An object as the collector sees it.
#[derive(Debug, Clone)]
pub struct Node {
    /// What kind it is.
    pub resource: ApiResource,
    /// Its metadata.
    pub meta: ObjectMeta,
}

impl Node {
    fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    fn owners(&self) -> impl Iterator<Item = &OwnerReference> {
        self.meta.owner_references.iter().flatten()
    }

    fn waits_for(&self, finalizer: &str) -> bool {
        self.meta.deletion_timestamp.is_some()
            && self
                .meta
                .finalizers
                .iter()
                .flatten()
                .any(|f| f == finalizer)
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Delete the object (by its place in the list) if its owners are truly gone.
    Collect(usize),
    /// Delete a dependent of an owner that is deleted in the foreground.
    DeleteInForeground(usize),
    /// Take a finalizer off.
    Release(usize, &'static str),
    /// Strike the owner with this uid from the object's references.
    Disown(usize, String),
}

/// Decides what to do, given all objects. Whether an owner that is not among them exists has to
/// be asked: it may be of a kind that is not watched, or just created.
pub fn decide(nodes: &[Node]) -> Vec<Action> {
    let present: HashSet<&str> = nodes.iter().map(Node::uid).collect();
    let mut dependents: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for owner in node.owners() {
            dependents.entry(&owner.uid).or_default().push(at);
        }
    }
    let mut actions = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let mine = dependents.get(node.uid()).map_or(&[][..], Vec::as_slice);
        if node.waits_for(ORPHAN) {
            if mine.is_empty() {
                actions.push(Action::Release(at, ORPHAN));
            }
            let uid = node.uid().to_owned();
            actions.extend(mine.iter().map(|d| Action::Disown(*d, uid.clone())));
            continue;
        }
        if node.waits_for(FOREGROUND) {
            let blocking: Vec<usize> = mine
                .iter()
                .copied()
                .filter(|d| {
                    nodes[*d]
                        .owners()
                        .any(|o| o.uid == node.uid() && o.block_owner_deletion == Some(true))
                })
                .collect();
            if blocking.is_empty() {
                actions.push(Action::Release(at, FOREGROUND));
            }
            actions.extend(
                blocking
                    .into_iter()
                    .filter(|d| nodes[*d].meta.deletion_timestamp.is_none())
                    .map(Action::DeleteInForeground),
            );
        }
        if node.meta.deletion_timestamp.is_none()
            && node.owners().next().is_some()
            && node.owners().all(|o| !present.contains(o.uid.as_str()))
        {
            actions.push(Action::Collect(at));
        }
    }
    actions
}

/// Runs the collector until `shutdown`.
pub async fn run(client: Client, informers: Informers, shutdown: &CancellationToken) {
    let changes = vec![
        informers.pods.changed(),
        informers.replica_sets.changed(),
        informers.deployments.changed(),
        informers.daemon_sets.changed(),
        informers.stateful_sets.changed(),
        informers.jobs.changed(),
        informers.cron_jobs.changed(),
        informers.services.changed(),
        informers.endpoint_slices.changed(),
        informers.endpoints.changed(),
        informers.service_accounts.changed(),
    ];
    let mut collector = Collector {
        client,
        foreign_owners: HashSet::new(),
    };
    keep("garbage-collector", changes, shutdown, async || {
        let nodes = nodes(&informers);
        for action in decide(&nodes) {
            collector.act(&nodes, action).await?;
        }
        Ok(None::<Duration>)
    })
    .await;
}

fn nodes(informers: &Informers) -> Vec<Node> {
    fn of<K: Resource<DynamicType = ()> + Clone>(cache: &Cache<K>, nodes: &mut Vec<Node>) {
        let resource = ApiResource::erase::<K>(&());
        nodes.extend(cache.list().into_iter().map(|object| {
            let meta = object.meta();
            Node {
                resource: resource.clone(),
                // the parts that decide, not the annotations and labels
                meta: ObjectMeta {
                    name: meta.name.clone(),
                    namespace: meta.namespace.clone(),
                    uid: meta.uid.clone(),
                    owner_references: meta.owner_references.clone(),
                    finalizers: meta.finalizers.clone(),
                    deletion_timestamp: meta.deletion_timestamp.clone(),
                    ..ObjectMeta::default()
                },
            }
        }));
    }
    let mut nodes = Vec::new();
    of(&informers.deployments, &mut nodes);
    of(&informers.daemon_sets, &mut nodes);
    of(&informers.stateful_sets, &mut nodes);
    of(&informers.jobs, &mut nodes);
    of(&informers.cron_jobs, &mut nodes);
    of(&informers.replica_sets, &mut nodes);
    of(&informers.pods, &mut nodes);
    of(&informers.services, &mut nodes);
    of(&informers.endpoint_slices, &mut nodes);
    of(&informers.endpoints, &mut nodes);
    of(&informers.service_accounts, &mut nodes);
    nodes
}

struct Collector {
    client: Client,
    /// Owners of kinds that are not watched and that were there when asked.
    foreign_owners: HashSet<String>,
}

impl Collector {
    fn api(&self, node: &Node) -> Api<DynamicObject> {
        match &node.meta.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &node.resource),
            None => Api::all_with(self.client.clone(), &node.resource),
        }
    }

    async fn act(&mut self, nodes: &[Node], action: Action) -> Result<(), kube::Error> {
        match action {
            Action::Collect(at) => {
                let node = &nodes[at];
                if self.owners_are_gone(node).await? {
                    self.delete(node, DeleteParams::background()).await?;
                }
            }
            Action::DeleteInForeground(at) => {
                self.delete(&nodes[at], DeleteParams::foreground()).await?;
            }
            Action::Release(at, finalizer) => {
                let node = &nodes[at];
                let mut finalizers = node.meta.finalizers.clone().unwrap_or_default();
                finalizers.retain(|f| f != finalizer);
                let patch = json!({"metadata": {"uid": node.uid(), "finalizers": finalizers}});
                self.patch(node, patch).await?;
            }
            Action::Disown(at, uid) => {
                let node = &nodes[at];
                let owners: Vec<_> = node.owners().filter(|o| o.uid != uid).collect();
                let patch = json!({"metadata": {"uid": node.uid(), "ownerReferences": owners}});
                self.patch(node, patch).await?;
            }
        }
        Ok(())
    }

    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<(), kube::Error> {
        let name = node.meta.name.as_deref().unwrap_or_default();
        let patched = self
            .api(node)
            .patch(name, &manager(), &Patch::Merge(patch))
            .await;
        ignore_races(patched).map(|_| ())
    }

    async fn delete(&self, node: &Node, params: DeleteParams) -> Result<(), kube::Error> {
        let name = node.meta.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: node.meta.uid.clone(),
                resource_version: None,
            }),
            ..params
        };
        ignore_races(self.api(node).delete(name, &params).await).map(|_| ())
    }

    async fn owners_are_gone(&mut self, node: &Node) -> Result<bool, kube::Error> {
        for owner in node.owners() {
            if self.foreign_owners.contains(&owner.uid) || self.exists(node, owner).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn exists(&mut self, node: &Node, owner: &OwnerReference) -> Result<bool, kube::Error> {
        let (group, version) = owner
            .api_version
            .split_once('/')
            .unwrap_or(("", &owner.api_version));
        let gvk = GroupVersionKind::gvk(group, version, &owner.kind);
        let resource = ApiResource::from_gvk(&gvk);
        let found = |result: Result<DynamicObject, kube::Error>| match result {
            Ok(object) => Ok(object.metadata.uid.as_deref() == Some(&owner.uid)),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error),
        };
        let mut exists = false;
        if let Some(namespace) = &node.meta.namespace {
            let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
            exists = found(api.get(&owner.name).await)?;
        }
        // a namespaced object may also be owned by a cluster-scoped one
        if !exists {
            let api = Api::all_with(self.client.clone(), &resource);
            exists = found(api.get(&owner.name).await)?;
        }
        // the end of an owner that is watched will be seen; others are asked for once
        if exists && !WATCHED.contains(&owner.kind.as_str()) {
            self.foreign_owners.insert(owner.uid.clone());
        }
        Ok(exists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn node(uid: &str, owners: &[&str], finalizers: &[&str]) -> Node {
        let owners: Vec<_> = owners
            .iter()
            .map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": uid, "blockOwnerDeletion": true}))
            .collect();
        let deleted = (!finalizers.is_empty()).then_some("2026-01-01T00:00:00Z");
        Node {
            resource: ApiResource::erase::<Pod>(&()),
            meta: serde_json::from_value(json!({
                "name": uid, "namespace": "ns", "uid": uid, "ownerReferences": owners,
                "finalizers": finalizers, "deletionTimestamp": deleted,
            }))
            .unwrap(),
        }
    }

    #[test]
    fn dependents_without_owner_are_collected() {
        let nodes = [
            node("a", &[], &[]),
            node("b", &["a"], &[]),
            node("c", &["gone"], &[]),
        ];
        assert_eq!(decide(&nodes), [Action::Collect(2)]);
        let shared = [node("a", &[], &[]), node("b", &["a", "gone"], &[])];
        assert!(decide(&shared).is_empty());
    }

    #[test]
    fn foreground_deletes_dependents_first() {
        let nodes = [node("a", &[], &[FOREGROUND]), node("b", &["a"], &[])];
        assert_eq!(decide(&nodes), [Action::DeleteInForeground(1)]);
        let nodes = [node("a", &[], &[FOREGROUND])];
        assert_eq!(decide(&nodes), [Action::Release(0, FOREGROUND)]);
    }

    #[test]
    fn orphans_are_disowned_not_deleted() {
        let nodes = [node("a", &[], &[ORPHAN]), node("b", &["a"], &[])];
        assert_eq!(decide(&nodes), [Action::Disown(1, "a".into())]);
        let nodes = [node("a", &[], &[ORPHAN]), node("b", &[], &[])];
        assert_eq!(decide(&nodes), [Action::Release(0, ORPHAN)]);
    }
}
