//! The answers of Envoy's discovery services (LDS, RDS, CDS, EDS) in their JSON form, which a real
//! Envoy polls over REST.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{any, cluster, listener, load_assignment, route_configuration};
use crate::{
    Accept, Discovery, FilterChain, HttpConnectionManager, Listener, NetworkFilter,
    RouteConfiguration, Snapshot, Transport, VirtualHost,
};

/// Name of the static cluster in an Envoy's bootstrap that leads to the control plane.
pub const CONTROL_PLANE: &str = "xds";

/// How often an Envoy asks again.
const REFRESH: &str = "0.500s";

/// Listener and route table that stand for a door.
pub(super) const DOOR: &str = "virtualOutbound";

/// What a discovery service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LDS.
    Listeners,
    /// RDS.
    Routes,
    /// CDS.
    Clusters,
    /// EDS.
    Endpoints,
}

impl Kind {
    /// Of the last part of the path: `discovery:listeners`.
    pub fn of_path(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("discovery:")? {
            "listeners" => Self::Listeners,
            "routes" => Self::Routes,
            "clusters" => Self::Clusters,
            "endpoints" => Self::Endpoints,
            _ => return None,
        })
    }

    fn message(self) -> &'static str {
        match self {
            Self::Listeners => "envoy.config.listener.v3.Listener",
            Self::Routes => "envoy.config.route.v3.RouteConfiguration",
            Self::Clusters => "envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
        }
    }
}

/// A `DiscoveryResponse` with the resources of these names; of none: with all. A door becomes what
/// Envoy can be: a listener that routes by host and port.
pub fn response(snapshot: &Snapshot, kind: Kind, names: &[String]) -> Value {
    let snapshot = &without_door(snapshot);
    let named = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let resources: Vec<Value> = match kind {
        Kind::Listeners => {
            let all = snapshot.listeners.values().filter(|it| named(&it.name));
            all.map(|it| listener(it, &snapshot.node)).collect()
        }
        Kind::Routes => {
            let all = snapshot.routes.values().filter(|it| named(&it.name));
            all.map(|it| route_configuration(it)).collect()
        }
        Kind::Clusters => {
            let all = snapshot.clusters.values().filter(|it| named(&it.name));
            all.map(|it| cluster(it)).collect()
        }
        Kind::Endpoints => {
            let clusters = snapshot.clusters.values();
            let eds = clusters.filter(|it| it.discovery == Discovery::Eds && named(&it.name));
            eds.map(|it| match snapshot.endpoints.get(&it.name) {
                Some(assignment) => load_assignment(assignment),
                None => json!({ "cluster_name": it.name }),
            })
            .collect()
        }
    };
    let version = snapshot.version.to_string();
    json!({
        "version_info": version,
        "nonce": version,
        "type_url": format!("{}{}", super::TYPE, kind.message()),
        "resources": resources.into_iter()
            .map(|fields| by_polling(any(kind.message(), fields)))
            .collect::<Vec<_>>(),
    })
}

/// Where further resources come from.
fn rest() -> Value {
    json!({
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST", "transport_api_version": "V3", "cluster_names": [CONTROL_PLANE],
            "refresh_delay": REFRESH, "request_timeout": "5s",
        },
    })
}

/// Replaces the aggregated stream, from which our messages say that resources come.
fn by_polling(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("ads") => rest(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name, by_polling(value)))
                    .collect(),
            )
        }
        Value::Array(values) => values.into_iter().map(by_polling).collect(),
        value => value,
    }
}

/// The bootstrap of an Envoy that polls the control plane at `address` as the node `id`, with a
/// bearer token that it reads from a file. `loopback` is where a sidecar without redirection finds
/// its workload.
pub fn bootstrap(
    id: &str,
    loopback: Option<std::net::IpAddr>,
    address: std::net::SocketAddr,
    token_file: &std::path::Path,
    admin: std::net::SocketAddr,
) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let secret =
        json!({ "name": "token", "generic_secret": { "secret": { "filename": token_file } } });
    let token = any(
        "envoy.extensions.http.injected_credentials.generic.v3.Generic",
        json!({ "credential": { "name": "token" }, "header": "authorization", "header_value_prefix": "Bearer " }),
    );
    let injector = any(
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        json!({ "overwrite": true, "credential": { "name": "envoy.http.injected_credentials.generic", "typed_config": token } }),
    );
    let codec = any(
        "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
        json!({}),
    );
    let options = json!({
        "explicit_http_config": { "http_protocol_options": {} },
        "http_filters": [
            { "name": "envoy.filters.http.credential_injector", "typed_config": injector },
            { "name": "envoy.filters.http.upstream_codec", "typed_config": codec },
        ],
    });
    json!({
        "node": { "id": id, "cluster": id, "metadata": { "LOOPBACK": loopback.map(|ip| ip.to_string()) } },
        "admin": { "address": super::socket_address(admin) },
        "dynamic_resources": { "lds_config": rest(), "cds_config": rest() },
        "static_resources": {
            "secrets": [secret],
            "clusters": [{
                "name": CONTROL_PLANE,
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": { OPTIONS: any(OPTIONS, options) },
                "load_assignment": { "cluster_name": CONTROL_PLANE, "endpoints": [
                    { "lb_endpoints": [{ "endpoint": { "address": super::socket_address(address) } }] },
                ] },
            }],
        },
    })
}

/// A door tells filter chains apart by the port of an absolute-form request, for which Envoy has no
/// word. Routing by the authority comes to the same for HTTP: one table, whose domains have ports.
fn without_door(snapshot: &Snapshot) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let is_door = |listener: &&Arc<Listener>| listener.accept == Accept::HttpProxy;
    let Some(door) = snapshot.listeners.values().find(is_door).cloned() else {
        return snapshot;
    };
    let mut table = RouteConfiguration {
        name: DOOR.into(),
        virtual_hosts: Vec::new(),
    };
    for chain in &door.filter_chains {
        let (NetworkFilter::Http(http) | NetworkFilter::Sniff { http, .. }) = &chain.filter else {
            continue;
        };
        if let Some(routes) = snapshot.routes.get(&http.route_config) {
            let hosts = routes.virtual_hosts.iter();
            table
                .virtual_hosts
                .extend(hosts.map(|host| Arc::new(with_port(host, chain.destination_port))));
        }
    }
    // Chains of one port may name the same host; the first wins, as among chains.
    let mut seen = std::collections::BTreeSet::new();
    for (number, host) in table.virtual_hosts.iter_mut().enumerate() {
        let host = Arc::make_mut(host);
        host.name = format!("{}#{number}", host.name);
        host.domains.retain(|domain| seen.insert(domain.clone()));
    }
    table.virtual_hosts.retain(|host| !host.domains.is_empty());
    let mut listener = (*door).clone();
    listener.accept = Accept::Direct;
    listener.filter_chains = vec![FilterChain {
        name: DOOR.into(),
        destination_port: None,
        destinations: Vec::new(),
        server_names: Vec::new(),
        transport: Transport::default(),
        filter: NetworkFilter::Http(HttpConnectionManager {
            stat_prefix: DOOR.into(),
            route_config: DOOR.into(),
            authorization: None,
        }),
    }];
    snapshot
        .listeners
        .insert(door.name.clone(), Arc::new(listener));
    snapshot.routes.insert(DOOR.into(), Arc::new(table));
    snapshot
}

fn with_port(host: &VirtualHost, port: Option<u16>) -> VirtualHost {
    let mut host = host.clone();
    if let Some(port) = port {
        let domains = std::mem::take(&mut host.domains);
        // Port 80 is not written; a wildcard for everything is left to the last table.
        let bare = domains
            .iter()
            .filter(|domain| port == 80 && *domain != "*")
            .cloned();
        let bare: Vec<String> = bare.collect();
        host.domains = domains
            .iter()
            .map(|domain| format!("{domain}:{port}"))
            .collect();
        host.domains.extend(bare);
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cluster, TrafficDirection};

    fn snapshot() -> Snapshot {
        let table = |name: &str, domains: &[&str]| RouteConfiguration {
            name: name.into(),
            virtual_hosts: vec![Arc::new(VirtualHost {
                name: name.into(),
                domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
                routes: vec![],
            })],
        };
        let chain = |table: &str, destination_port| FilterChain {
            name: table.into(),
            destination_port,
            destinations: vec![],
            server_names: vec![],
            transport: Transport::default(),
            filter: NetworkFilter::Http(HttpConnectionManager {
                stat_prefix: table.into(),
                route_config: table.into(),
                authorization: None,
            }),
        };
        let door = Listener {
            name: DOOR.into(),
            address: "127.0.0.1:15001".parse().unwrap(),
            direction: TrafficDirection::Outbound,
            accept: Accept::HttpProxy,
            filter_chains: vec![
                chain("80", Some(80)),
                chain("81", Some(81)),
                chain("any", None),
            ],
        };
        let tables = [
            table("80", &["web"]),
            table("81", &["web", "*"]),
            table("any", &["*"]),
        ];
        Snapshot {
            version: 7,
            listeners: [(door.name.clone(), Arc::new(door))].into(),
            routes: tables
                .map(|table| (table.name.clone(), Arc::new(table)))
                .into(),
            clusters: [("a".into(), Arc::new(Cluster::new("a", Discovery::Eds)))].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_door_routes_by_host_and_port() {
        let answer = response(&snapshot(), Kind::Routes, &[DOOR.into()]);
        let hosts = answer["resources"][0]["virtual_hosts"].as_array().unwrap();
        let domains: Vec<_> = hosts
            .iter()
            .map(|host| host["domains"].to_string())
            .collect();
        assert_eq!(
            domains,
            [r#"["web:80","web"]"#, r#"["web:81","*:81"]"#, r#"["*"]"#]
        );
        assert_eq!(
            answer["resources"][0]["ignore_port_in_host_matching"],
            false
        );
    }

    #[test]
    fn what_resources_refer_to_is_polled_too() {
        let answer = response(&snapshot(), Kind::Clusters, &[]);
        let source = &answer["resources"][0]["eds_cluster_config"]["eds_config"];
        assert_eq!(source["api_config_source"]["api_type"], "REST");
        assert_eq!(answer["version_info"], "7");
    }

    #[test]
    fn a_cluster_without_endpoints_has_an_empty_assignment() {
        let answer = response(&snapshot(), Kind::Endpoints, &["a".into()]);
        assert_eq!(answer["resources"][0]["cluster_name"], "a");
    }
}
