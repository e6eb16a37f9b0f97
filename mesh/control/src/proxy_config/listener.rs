//! Listeners, a line for each of their filter chains.

use mesh_config::names;
use serde_json::Value;

use super::{
    Listing,
    dump::{Section, text},
};

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only listeners of this address
    #[arg(long)]
    address: Option<String>,
    /// Only listeners of this port
    #[arg(long)]
    port: Option<u16>,
    /// Only filter chains of this type: HTTP or TCP
    #[arg(long = "type")]
    kind: Option<String>,
}

/// A filter chain, as it is shown.
struct Line {
    address: String,
    port: u64,
    matches: String,
    destination: String,
    kind: &'static str,
}

impl Filter {
    fn keeps(&self, line: &Line) -> bool {
        let same = |wanted: &Option<String>, value: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        same(&self.address, &line.address)
            && self.port.is_none_or(|port| u64::from(port) == line.port)
            && same(&self.kind, line.kind)
    }
}

pub(super) fn list(dump: &Value, filter: &Filter) -> Option<Listing> {
    let mut rows = Vec::new();
    let mut messages = Vec::new();
    for listener in Section::Listeners.resources(dump)? {
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let lines = chains.map(|chain| line(listener, chain));
        let kept: Vec<Line> = lines.filter(|line| filter.keeps(line)).collect();
        if !kept.is_empty() {
            messages.push(listener.clone());
        }
        rows.extend(kept);
    }
    rows.sort_by(|one, other| (&one.address, one.port).cmp(&(&other.address, other.port)));
    let rows = rows.into_iter().map(|line| {
        [
            line.address,
            line.port.to_string(),
            line.matches,
            line.destination,
        ]
    });
    let heads = ["ADDRESSES", "PORT", "MATCH", "DESTINATION"];
    Some(Listing::of(heads, rows, messages.into()))
}

/// One listener takes all that leaves a pod: its chains are shown as the listeners that Istio has in
/// its place, by what they are for.
fn line(listener: &Value, chain: &Value) -> Line {
    let socket = &listener["address"]["socket_address"];
    let condition = &chain["filter_chain_match"];
    let to_port = condition["destination_port"].as_u64();
    let ranges = ranges(condition);
    let listens = text(socket, "address");
    let outbound = text(listener, "traffic_direction") == "OUTBOUND";
    let (address, port, to) = match to_port {
        Some(port) if outbound => {
            let address = if ranges.is_empty() {
                "0.0.0.0".into()
            } else {
                ranges
            };
            (address, port, String::new())
        }
        _ => {
            let port = socket["port_value"].as_u64().unwrap_or_default();
            let any = if ranges.is_empty() {
                "*".into()
            } else {
                ranges
            };
            let to = match to_port {
                Some(to) => format!("{any}:{to}"),
                None if any == "*" => String::new(),
                None => any,
            };
            (listens.to_owned(), port, to)
        }
    };
    let (kind, destination) = destination(chain);
    Line {
        address,
        port,
        matches: matches(condition, &to),
        destination,
        kind,
    }
}

fn ranges(condition: &Value) -> String {
    let all = condition["prefix_ranges"].as_array().into_iter().flatten();
    let text = all.map(|range| {
        let (address, bits) = (text(range, "address_prefix"), range["prefix_len"].as_u64());
        match bits {
            Some(bits) if bits < if address.contains(':') { 128 } else { 32 } => {
                format!("{address}/{bits}")
            }
            _ => address.to_owned(),
        }
    });
    text.collect::<Vec<_>>().join(",")
}

fn matches(condition: &Value, to: &str) -> String {
    let list = |field: &str| {
        let all = condition[field].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let parts = [
        ("SNI", list("server_names")),
        ("Trans", text(condition, "transport_protocol").to_owned()),
        ("App", list("application_protocols")),
        ("Addr", to.to_owned()),
    ];
    let said = parts.iter().filter(|(_, value)| !value.is_empty());
    let said: Vec<String> = said
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    match said.is_empty() {
        true => "ALL".into(),
        false => said.join("; "),
    }
}

/// What takes the connections of a chain: HTTP or TCP, and to where.
fn destination(chain: &Value) -> (&'static str, String) {
    for filter in chain["filters"].as_array().into_iter().flatten() {
        let config = &filter["typed_config"];
        match text(filter, "name") {
            "envoy.filters.network.http_connection_manager" => {
                let named = config["rds"]["route_config_name"].as_str();
                let name = named.unwrap_or_else(|| text(&config["route_config"], "name"));
                return ("HTTP", format!("Route: {name}"));
            }
            "envoy.filters.network.tcp_proxy" => return ("TCP", clusters(config)),
            _ => {}
        }
    }
    ("TCP", "Non-HTTP/Non-TCP".into())
}

fn clusters(tcp: &Value) -> String {
    let weighted = tcp["weighted_clusters"]["clusters"].as_array();
    let weighted = weighted.into_iter().flatten().map(|to| text(to, "name"));
    let names: Vec<&str> = tcp["cluster"]
        .as_str()
        .into_iter()
        .chain(weighted)
        .collect();
    match names[..] {
        [names::PASSTHROUGH_CLUSTER | names::BLACK_HOLE_CLUSTER] => names[0].into(),
        _ => format!("Cluster: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_config::{
        Accept, FilterChain, HttpConnectionManager, Listener, NetworkFilter, Snapshot, TcpProxy,
        TrafficDirection, Transport, envoy::dump::config_dump,
    };

    use super::{super::columns, *};

    fn dump() -> Value {
        let chain = |port: Option<u16>, to: &[&str], filter: NetworkFilter| FilterChain {
            name: "x".into(),
            destination_port: port,
            destinations: to.iter().map(|text| (*text).into()).collect(),
            server_names: Vec::new(),
            transport: Transport::default(),
            filter,
        };
        let http = |table: &str| HttpConnectionManager {
            stat_prefix: "x".into(),
            route_config: table.into(),
            authorization: None,
        };
        let mut snapshot = Snapshot::default();
        let mut add = |name: &str, address: &str, direction, filter_chains| {
            let listener = Listener {
                name: name.into(),
                address: address.parse().unwrap(),
                direction,
                accept: Accept::Direct,
                filter_chains,
            };
            snapshot.listeners.insert(name.into(), Arc::new(listener));
        };
        let tcp = TcpProxy::to("outbound|27017||mongo");
        let sniff = NetworkFilter::Sniff {
            http: http("unknown"),
            tcp: TcpProxy::to(names::PASSTHROUGH_CLUSTER),
        };
        let outbound = vec![
            chain(Some(9080), &[], NetworkFilter::Http(http("9080"))),
            chain(
                Some(27017),
                &["mongo", "127.16.128.9"],
                NetworkFilter::Tcp(tcp),
            ),
            chain(None, &[], sniff),
        ];
        add(
            "virtualOutbound",
            "127.16.192.2:15001",
            TrafficDirection::Outbound,
            outbound,
        );
        let inbound = chain(Some(9080), &[], NetworkFilter::Http(http("inbound|9080||")));
        add(
            "virtualInbound",
            "127.16.0.2:15006",
            TrafficDirection::Inbound,
            vec![inbound],
        );
        config_dump(&snapshot, &Default::default()).unwrap()
    }

    #[test]
    fn each_chain_is_a_line() {
        let listing = list(&dump(), &Filter::default()).unwrap();
        let expected = "\
ADDRESSES        PORT      MATCH                          DESTINATION
0.0.0.0          9080      ALL                            Route: 9080
127.16.0.2       15006     Addr: *:9080                   Route: inbound|9080||
127.16.128.9     27017     ALL                            Cluster: outbound|27017||mongo
127.16.192.2     15001     App: http/1.0,http/1.1,h2c     Route: unknown
127.16.192.2     15001     ALL                            PassthroughCluster
";
        assert_eq!(columns(&listing.table), expected);
    }

    #[test]
    fn filters_hold_for_the_messages_too() {
        let count = |filter: Filter| {
            let listing = list(&dump(), &filter).unwrap();
            (
                listing.table.len() - 1,
                listing.messages.as_array().unwrap().len(),
            )
        };
        let port = Some(9080);
        assert_eq!(
            count(Filter {
                port,
                ..Filter::default()
            }),
            (1, 1)
        );
        let kind = Some("tcp".to_owned());
        assert_eq!(
            count(Filter {
                kind,
                ..Filter::default()
            }),
            (2, 1)
        );
        let address = Some("127.0.0.9".to_owned());
        assert_eq!(
            count(Filter {
                address,
                ..Filter::default()
            }),
            (0, 0)
        );
    }
}
