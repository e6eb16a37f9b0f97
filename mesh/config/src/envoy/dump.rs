//! The answer of the admin interface's `/config_dump`.

use serde_json::{Map, Value, json};

use super::{any, cluster, listener, load_assignment, route_configuration};
use crate::{Secret, Snapshot};

/// What of the configuration is asked for: the query of `/config_dump`.
#[derive(Default)]
pub struct Query<'a> {
    /// `include_eds`: endpoints too.
    pub include_eds: bool,
    /// `resource`: only the members of this field, such as `dynamic_active_clusters`, each a config of its own.
    pub resource: Option<&'a str>,
    /// `mask`: comma-separated field paths; only these fields of each config are kept.
    pub mask: Option<&'a str>,
    /// `name_regex`: only resources whose name passes.
    pub name: Option<&'a dyn Fn(&str) -> bool>,
    /// The proxy's own certificate and the mesh's authorities, which stand in no snapshot.
    pub own_secrets: &'a [Secret],
    /// What is not in effect though it was told.
    pub refused: &'a [Refused],
}

/// A resource that a proxy could not take into effect; what it had under that name before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is.
    pub kind: RefusedKind,
    /// Its name.
    pub name: String,
    /// Version of the snapshot that brought it.
    pub version: u64,
    /// Why.
    pub details: String,
}

/// Kinds of resources that can be refused one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// A listener.
    Listener,
    /// A route table.
    RouteConfiguration,
}

/// The field that `resource` names does not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownResource(
    /// As asked for.
    pub String,
);

impl std::fmt::Display for UnknownResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} not found in config dump", self.0)
    }
}

impl std::error::Error for UnknownResource {}

/// `{"configs": [...]}`.
///
/// # Errors
/// When `resource` names no field of any config; Envoy answers 404 then.
pub fn config_dump(snapshot: &Snapshot, query: &Query<'_>) -> Result<Value, UnknownResource> {
    let mut configs = sections(snapshot, query);
    if let Some(resource) = query.resource {
        configs = configs
            .iter()
            .find_map(|config| config.get(resource)?.as_array().cloned())
            .ok_or_else(|| UnknownResource(resource.into()))?;
    }
    if let Some(mask) = query.mask {
        let paths: Vec<Vec<&str>> = mask
            .split(',')
            .map(|path| path.split('.').collect())
            .collect();
        configs = configs.iter().map(|config| keep(config, &paths)).collect();
    }
    Ok(json!({ "configs": configs }))
}

fn sections(snapshot: &Snapshot, query: &Query<'_>) -> Vec<Value> {
    let wanted = |name: &str| query.name.is_none_or(|passes| passes(name));
    let version = snapshot.version.to_string();
    let clusters: Vec<Value> = snapshot
        .clusters
        .values()
        .filter(|c| wanted(&c.name))
        .map(|c| {
            json!({ "version_info": version, "cluster": any("envoy.config.cluster.v3.Cluster", cluster(c)) })
        })
        .collect();
    let listeners: Vec<Value> = snapshot
        .listeners
        .values()
        .filter(|l| wanted(&l.name))
        .map(|l| {
            let body = any(
                "envoy.config.listener.v3.Listener",
                listener(l, &snapshot.node),
            );
            let state = json!({ "name": l.name, "active_state": { "version_info": version, "listener": body } });
            with_error(state, query, RefusedKind::Listener, &l.name)
        })
        .collect();
    let routes: Vec<Value> = snapshot
        .routes
        .values()
        .filter(|r| wanted(&r.name))
        .map(|r| {
            let body = any(
                "envoy.config.route.v3.RouteConfiguration",
                route_configuration(r),
            );
            let state = json!({ "version_info": version, "route_config": body });
            with_error(state, query, RefusedKind::RouteConfiguration, &r.name)
        })
        .collect();
    let node = json!({
        "id": snapshot.node.id,
        "cluster": format!("{}.{}", snapshot.node.workload.canonical_name, snapshot.node.workload.namespace),
        "metadata": {
            "CLUSTER_ID": snapshot.node.cluster_id,
            "ISTIO_VERSION": env!("CARGO_PKG_VERSION"),
            "WORKLOAD_NAME": snapshot.node.workload.name,
        },
    });
    let mut sections = vec![
        any(
            "envoy.admin.v3.BootstrapConfigDump",
            json!({ "bootstrap": { "node": node } }),
        ),
        any(
            "envoy.admin.v3.ClustersConfigDump",
            json!({ "version_info": version, "dynamic_active_clusters": clusters }),
        ),
    ];
    if query.include_eds {
        let endpoints: Vec<Value> = snapshot
            .endpoints
            .values()
            .filter(|e| wanted(&e.cluster_name))
            .map(|e| {
                let body = any(
                    "envoy.config.endpoint.v3.ClusterLoadAssignment",
                    load_assignment(e),
                );
                json!({ "endpoint_config": body })
            })
            .collect();
        sections.push(any(
            "envoy.admin.v3.EndpointsConfigDump",
            json!({ "dynamic_endpoint_configs": endpoints }),
        ));
    }
    sections.push(any(
        "envoy.admin.v3.ListenersConfigDump",
        json!({ "version_info": version, "dynamic_listeners": listeners }),
    ));
    sections.push(any(
        "envoy.admin.v3.RoutesConfigDump",
        json!({ "dynamic_route_configs": routes }),
    ));
    let secrets: Vec<Value> = query
        .own_secrets
        .iter()
        .chain(snapshot.secrets.values().map(|secret| &**secret))
        .filter(|secret| wanted(&secret.name))
        .map(|secret| {
            let body = any(
                "envoy.extensions.transport_sockets.tls.v3.Secret",
                super::tls::redacted(secret),
            );
            json!({ "name": secret.name, "version_info": version, "secret": body })
        })
        .collect();
    sections.push(any(
        "envoy.admin.v3.SecretsConfigDump",
        json!({ "dynamic_active_secrets": secrets }),
    ));
    sections
}

/// Says of a resource that it was refused, if it was, as Envoy says it.
fn with_error(mut state: Value, query: &Query<'_>, kind: RefusedKind, name: &str) -> Value {
    let refused = |it: &&Refused| it.kind == kind && it.name == name;
    if let Some(it) = query.refused.iter().find(refused) {
        state["client_status"] = "NACKED".into();
        let version = it.version.to_string();
        state["error_state"] = json!({ "details": it.details, "version_info": version });
    }
    state
}

/// Only the fields on `paths`; arrays are passed through to their members.
fn keep(value: &Value, paths: &[Vec<&str>]) -> Value {
    match value {
        Value::Array(members) => members.iter().map(|member| keep(member, paths)).collect(),
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, field) in fields {
                let below: Vec<Vec<&str>> = paths
                    .iter()
                    .filter(|path| path.first() == Some(&name.as_str()))
                    .map(|path| path[1..].to_vec())
                    .collect();
                if name == "@type" || below.iter().any(Vec::is_empty) {
                    kept.insert(name.clone(), field.clone());
                } else if !below.is_empty() {
                    kept.insert(name.clone(), keep(field, &below));
                }
            }
            Value::Object(kept)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Cluster, Discovery};

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot {
            version: 7,
            ..Snapshot::default()
        };
        for name in ["outbound|80||a", "outbound|80||b"] {
            let cluster = Cluster::new(name, Discovery::Eds);
            snapshot.clusters.insert(name.into(), Arc::new(cluster));
        }
        snapshot
    }

    #[test]
    fn the_sections_stand_in_envoys_order() {
        let dump = config_dump(
            &snapshot(),
            &Query {
                include_eds: true,
                ..Query::default()
            },
        )
        .unwrap();
        let types: Vec<_> = dump["configs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["@type"].as_str().unwrap())
            .collect();
        let expected = [
            "Bootstrap",
            "Clusters",
            "Endpoints",
            "Listeners",
            "Routes",
            "Secrets",
        ];
        assert_eq!(
            types,
            expected.map(|s| format!("type.googleapis.com/envoy.admin.v3.{s}ConfigDump"))
        );
    }

    #[test]
    fn resource_mask_and_name_narrow_the_answer() {
        let only_b = |name: &str| name.ends_with('b');
        let query = Query {
            resource: Some("dynamic_active_clusters"),
            mask: Some("cluster.name,version_info"),
            name: Some(&only_b),
            ..Query::default()
        };
        let dump = config_dump(&snapshot(), &query).unwrap();
        let kept = json!({ "configs": [{
            "version_info": "7",
            "cluster": { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "outbound|80||b" },
        }] });
        assert_eq!(dump, kept);
    }

    #[test]
    fn what_was_refused_says_so() {
        let mut snapshot = snapshot();
        let table = crate::RouteConfiguration {
            name: "80".into(),
            virtual_hosts: Vec::new(),
        };
        snapshot.routes.insert("80".into(), Arc::new(table));
        let refused = |kind| Refused {
            kind,
            name: "80".into(),
            version: 6,
            details: "bad".into(),
        };
        let dump = |refused: &[Refused]| {
            let query = Query {
                resource: Some("dynamic_route_configs"),
                mask: Some("error_state,client_status"),
                refused,
                ..Query::default()
            };
            config_dump(&snapshot, &query).unwrap()["configs"][0].clone()
        };
        assert_eq!(dump(&[refused(RefusedKind::Listener)]), json!({}));
        let expected = json!({ "client_status": "NACKED", "error_state": { "details": "bad", "version_info": "6" } });
        assert_eq!(dump(&[refused(RefusedKind::RouteConfiguration)]), expected);
    }

    #[test]
    fn an_unknown_resource_is_an_error() {
        let query = Query {
            resource: Some("dynamic_active_cats"),
            ..Query::default()
        };
        assert_eq!(
            config_dump(&snapshot(), &query).unwrap_err().to_string(),
            "dynamic_active_cats not found in config dump"
        );
    }
}
