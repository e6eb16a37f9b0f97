//! Endpoints: of all of a proxy's configuration what it knows itself, too (who is put out).

use serde_json::{Value, json};

use super::{Listing, dump::text};

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only endpoints of this cluster: outbound|9080||reviews.default.svc.cluster.local
    #[arg(long)]
    cluster: Option<String>,
    /// Only endpoints of this address
    #[arg(long)]
    address: Option<String>,
    /// Only endpoints of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only endpoints of this status: healthy, unhealthy or draining
    #[arg(long)]
    status: Option<String>,
}

/// An endpoint of a cluster.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint<'a> {
    address: &'a str,
    port: u64,
    cluster: &'a str,
    status: &'a str,
    ejected: bool,
}

impl Filter {
    fn keeps(&self, endpoint: &Endpoint<'_>) -> bool {
        let same = |wanted: &Option<String>, value: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        same(&self.cluster, endpoint.cluster)
            && same(&self.address, endpoint.address)
            && self
                .port
                .is_none_or(|port| u64::from(port) == endpoint.port)
            && same(&self.status, endpoint.status)
    }
}

pub(super) fn list(page: &Value, filter: &Filter) -> Option<Listing> {
    let mut rows = Vec::new();
    let mut messages = Vec::new();
    for cluster in page["cluster_statuses"].as_array()? {
        let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
        let hosts = hosts.map(|host| (endpoint(text(cluster, "name"), host), host));
        let kept: Vec<_> = hosts
            .filter(|(endpoint, _)| filter.keeps(endpoint))
            .collect();
        if kept.is_empty() {
            continue;
        }
        let hosts: Vec<&Value> = kept.iter().map(|(_, host)| *host).collect();
        messages.push(json!({ "name": cluster["name"], "host_statuses": hosts }));
        rows.extend(kept.into_iter().map(|(endpoint, _)| endpoint));
    }
    rows.sort();
    let rows = rows.into_iter().map(|endpoint| {
        [
            match endpoint.address.contains(':') {
                true => format!("[{}]:{}", endpoint.address, endpoint.port),
                false => format!("{}:{}", endpoint.address, endpoint.port),
            },
            endpoint.status.to_owned(),
            if endpoint.ejected { "FAILED" } else { "OK" }.to_owned(),
            endpoint.cluster.to_owned(),
        ]
    });
    let heads = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"];
    Some(Listing::of(heads, rows, messages.into()))
}

fn endpoint<'a>(cluster: &'a str, host: &'a Value) -> Endpoint<'a> {
    let address = &host["address"]["socket_address"];
    let health = &host["health_status"];
    Endpoint {
        address: text(address, "address"),
        port: address["port_value"].as_u64().unwrap_or_default(),
        cluster,
        status: text(health, "eds_health_status"),
        ejected: health["failed_outlier_check"] == true,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::columns, *};

    fn page() -> Value {
        let host = |address: &str, port: u16, health: Value| json!({ "address": { "socket_address": { "address": address, "port_value": port } }, "health_status": health });
        json!({ "cluster_statuses": [
            { "name": "outbound|80||web", "host_statuses": [
                host("127.16.0.3", 8080, json!({ "eds_health_status": "HEALTHY", "failed_outlier_check": true })),
                host("127.16.0.2", 8080, json!({ "eds_health_status": "HEALTHY" })),
            ] },
            { "name": "outbound|81||web", "host_statuses": [
                host("fd00::1", 8081, json!({ "eds_health_status": "UNHEALTHY" })),
            ] },
            { "name": "BlackHoleCluster", "host_statuses": [] },
        ] })
    }

    #[test]
    fn each_endpoint_is_a_line() {
        let listing = list(&page(), &Filter::default()).unwrap();
        let expected = "\
ENDPOINT            STATUS        OUTLIER CHECK     CLUSTER
127.16.0.2:8080     HEALTHY       OK                outbound|80||web
127.16.0.3:8080     HEALTHY       FAILED            outbound|80||web
[fd00::1]:8081      UNHEALTHY     OK                outbound|81||web
";
        assert_eq!(columns(&listing.table), expected);
    }

    #[test]
    fn filters_hold_for_the_messages_too() {
        let filter = Filter {
            status: Some("unhealthy".into()),
            ..Filter::default()
        };
        let listing = list(&page(), &filter).unwrap();
        assert_eq!(listing.table.len(), 2);
        assert_eq!(listing.messages[0]["name"], "outbound|81||web");
        assert_eq!(listing.messages.as_array().unwrap().len(), 1);
    }
}
