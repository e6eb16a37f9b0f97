//! A whole configuration, and the difference between two of them.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Cluster, ClusterLoadAssignment, Listener, Node, RouteConfiguration, Secret,
    table_step::{Piece, UnknownBase, pieces, rebuilt, same},
};

/// Everything a proxy is told, at one moment. Resources are shared, so keeping two snapshots costs
/// only what differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshot {
    /// Grows with each change; printed as `version_info`.
    pub version: u64,
    /// The proxy's own place in the mesh.
    pub node: Arc<Node>,
    /// By name.
    pub listeners: BTreeMap<String, Arc<Listener>>,
    /// By name.
    pub routes: BTreeMap<String, Arc<RouteConfiguration>>,
    /// By name.
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    /// By name of the cluster.
    pub endpoints: BTreeMap<String, Arc<ClusterLoadAssignment>>,
    /// Certificates and authorities of a gateway's own, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

/// What changed for one kind of resource: by name, the new value or `None` for removed.
pub type Changes<T> = BTreeMap<String, Option<Arc<T>>>;

/// The step from one snapshot to the next; one line of the configuration stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// Version after the step.
    pub version: u64,
    /// The receiver forgets what it had: the first step of a stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Present when it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<Node>>,
    /// Changed and removed listeners.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: Changes<Listener>,
    /// Changed route tables, each as what it is made of, and removed ones.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, Option<Vec<Piece>>>,
    /// Changed and removed clusters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: Changes<Cluster>,
    /// Changed and removed endpoint sets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: Changes<ClusterLoadAssignment>,
    /// Changed and removed secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: Changes<Secret>,
}

impl Update {
    /// Nothing but the version differs: not worth sending.
    pub fn is_empty(&self) -> bool {
        !self.complete
            && self.node.is_none()
            && self.listeners.is_empty()
            && self.routes.is_empty()
            && self.clusters.is_empty()
            && self.endpoints.is_empty()
            && self.secrets.is_empty()
    }
}

impl Snapshot {
    /// The first step of a stream: everything.
    pub fn complete(&self) -> Update {
        Update {
            complete: true,
            ..Snapshot::default().diff(self)
        }
    }

    /// What leads from `self` to `newer`.
    pub fn diff(&self, newer: &Snapshot) -> Update {
        Update {
            version: newer.version,
            complete: false,
            node: (self.node != newer.node).then(|| newer.node.clone()),
            listeners: changes(&self.listeners, &newer.listeners),
            routes: tables(&self.routes, &newer.routes),
            clusters: changes(&self.clusters, &newer.clusters),
            endpoints: changes(&self.endpoints, &newer.endpoints),
            secrets: changes(&self.secrets, &newer.secrets),
        }
    }

    /// The snapshot after `update`.
    ///
    /// # Errors
    /// The update does not start from this snapshot.
    pub fn apply(&self, update: Update) -> Result<Snapshot, UnknownBase> {
        let mut next = if update.complete {
            Snapshot::default()
        } else {
            self.clone()
        };
        next.version = update.version;
        if let Some(node) = update.node {
            next.node = node;
        }
        carry_out(&mut next.listeners, update.listeners);
        let mut routes = Changes::new();
        for (name, pieces) in update.routes {
            let table = match pieces {
                Some(pieces) => Some(Arc::new(rebuilt(&name, next.routes.get(&name), pieces)?)),
                None => None,
            };
            routes.insert(name, table);
        }
        carry_out(&mut next.routes, routes);
        carry_out(&mut next.clusters, update.clusters);
        carry_out(&mut next.endpoints, update.endpoints);
        carry_out(&mut next.secrets, update.secrets);
        Ok(next)
    }
}

fn changes<T: PartialEq>(
    old: &BTreeMap<String, Arc<T>>,
    new: &BTreeMap<String, Arc<T>>,
) -> Changes<T> {
    let changed = differing(old, new);
    changed
        .map(|(name, value)| (name.clone(), value.cloned()))
        .collect()
}

fn tables(
    old: &BTreeMap<String, Arc<RouteConfiguration>>,
    new: &BTreeMap<String, Arc<RouteConfiguration>>,
) -> BTreeMap<String, Option<Vec<Piece>>> {
    let step = |(name, table): (&String, Option<&Arc<RouteConfiguration>>)| {
        let pieces = table.map(|table| pieces(old.get(name), table));
        (name.clone(), pieces)
    };
    differing(old, new).map(step).collect()
}

/// What is new or other in `new`, and what is there no more. One walk along both, because it is
/// done for each proxy at each push, and nearly all of both is the same.
fn differing<'a, T: PartialEq>(
    old: &'a BTreeMap<String, Arc<T>>,
    new: &'a BTreeMap<String, Arc<T>>,
) -> impl Iterator<Item = (&'a String, Option<&'a Arc<T>>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((before, _)), Some((now, _))) => before.cmp(now),
            };
            match order {
                Ordering::Less => return old.next().map(|(name, _)| (name, None)),
                Ordering::Greater => return new.next().map(|(name, value)| (name, Some(value))),
                Ordering::Equal => {
                    let (Some((_, before)), Some((name, now))) = (old.next(), new.next()) else {
                        return None;
                    };
                    if !same(before, now) {
                        return Some((name, Some(now)));
                    }
                }
            }
        }
    })
}

fn carry_out<T>(into: &mut BTreeMap<String, Arc<T>>, changes: Changes<T>) {
    for (name, change) in changes {
        match change {
            Some(value) => {
                into.insert(name, value);
            }
            None => {
                into.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VirtualHost;

    fn table(name: &str, host: &str) -> (String, Arc<RouteConfiguration>) {
        let host = VirtualHost {
            name: host.into(),
            domains: vec![host.into()],
            routes: vec![],
        };
        (
            name.into(),
            Arc::new(RouteConfiguration {
                name: name.into(),
                virtual_hosts: vec![Arc::new(host)],
            }),
        )
    }

    fn snapshot(version: u64, tables: &[(&str, &str)]) -> Snapshot {
        let routes = tables
            .iter()
            .map(|(name, host)| table(name, host))
            .collect();
        Snapshot {
            version,
            routes,
            ..Snapshot::default()
        }
    }

    #[test]
    fn diff_holds_only_what_changed_and_apply_undoes_nothing_else() {
        let old = snapshot(1, &[("80", "a"), ("81", "b"), ("82", "c")]);
        let new = snapshot(2, &[("80", "a"), ("81", "B"), ("83", "d")]);
        let update = old.diff(&new);
        assert_eq!(update.routes.keys().collect::<Vec<_>>(), ["81", "82", "83"]);
        assert!(update.routes["82"].is_none());
        assert_eq!(old.apply(update).unwrap(), new);
    }

    #[test]
    fn a_complete_update_replaces_everything() {
        let old = snapshot(9, &[("80", "stale")]);
        let new = snapshot(1, &[("81", "fresh")]);
        assert_eq!(old.apply(new.complete()).unwrap(), new);
    }

    #[test]
    fn equal_snapshots_differ_in_nothing() {
        let one = snapshot(1, &[("80", "a")]);
        assert!(one.diff(&snapshot(2, &[("80", "a")])).is_empty());
    }

    #[test]
    fn updates_travel_as_json() {
        let update = snapshot(3, &[("80", "a")]).complete();
        let line = serde_json::to_string(&update).unwrap();
        assert_eq!(serde_json::from_str::<Update>(&line).unwrap(), update);
    }
}
