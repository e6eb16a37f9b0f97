//! Which listeners there should be, and why one may be missing.

use super::addresses::AddressPlan;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// Annotation with the local ports of a LoadBalancer: `80=8080,443=8443`.
pub const LOAD_BALANCER_PORTS: &str = "embedded.meshdojo.dev/load-balancer-ports";

/// Why a listener is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The Service's cluster IP.
    ClusterIp,
    /// A node port.
    NodePort,
    /// A load balancer's port.
    LoadBalancer,
}

/// A listener that a Service should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Service's port.
    pub port: u16,
    /// Why.
    pub purpose: Purpose,
}

/// The local ports that the annotation gives, by Service port.
///
/// # Errors
/// The entry that cannot be understood.
pub fn load_balancer_ports(annotation: &str) -> Result<BTreeMap<u16, u16>, String> {
    annotation
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let parsed = entry.split_once('=').and_then(|(port, local)| {
                Some((port.trim().parse().ok()?, local.trim().parse().ok()?))
            });
            parsed.ok_or_else(|| {
                format!(
                    "annotation {LOAD_BALANCER_PORTS}: {entry:?} is not SERVICE-PORT=LOCAL-PORT"
                )
            })
        })
        .collect()
}

/// The local port of a load balancer's port that no annotation gives: itself, or, where an
/// ordinary user may not listen, 8000 more.
fn default_local(port: u16) -> u16 {
    if port >= 1024 { port } else { port + 8000 }
}

/// The listeners that a Service should have, and what is wrong with its annotation.
pub fn wanted(service: &Service, plan: AddressPlan) -> (Vec<Wanted>, Option<String>) {
    let mut list = Vec::new();
    let mut mistake = None;
    let Some(spec) = &service.spec else {
        return (list, mistake);
    };
    let type_ = spec.type_.as_deref().unwrap_or("ClusterIP");
    if type_ == "ExternalName" {
        return (list, mistake);
    }
    let cluster_ip = spec
        .cluster_ip
        .as_deref()
        .and_then(|ip| ip.parse::<Ipv4Addr>().ok())
        .filter(|ip| plan.is_service(*ip));
    let locals = match service.annotations().get(LOAD_BALANCER_PORTS) {
        Some(text) => load_balancer_ports(text).unwrap_or_else(|error| {
            mistake = Some(error);
            BTreeMap::new()
        }),
        None => BTreeMap::new(),
    };
    for port in spec.ports.iter().flatten() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        let mut add = |ip: Ipv4Addr, local: u16, purpose| {
            list.push(Wanted {
                address: SocketAddr::from((ip, local)),
                port: number,
                purpose,
            });
        };
        if let Some(ip) = cluster_ip {
            add(ip, number, Purpose::ClusterIp);
        }
        let node_port = port.node_port.and_then(|p| u16::try_from(p).ok());
        if let (Some(local), "NodePort" | "LoadBalancer") = (node_port.filter(|p| *p > 0), type_) {
            add(Ipv4Addr::LOCALHOST, local, Purpose::NodePort);
        }
        if type_ == "LoadBalancer" {
            let local = locals
                .get(&number)
                .copied()
                .unwrap_or_else(|| default_local(number));
            // port 0 in the annotation: this one is not wanted on this machine
            if local > 0 {
                add(Ipv4Addr::LOCALHOST, local, Purpose::LoadBalancer);
            }
        }
    }
    (list, mistake)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn addresses(service: serde_json::Value) -> (Vec<String>, Option<String>) {
        let service = serde_json::from_value(service).unwrap();
        let (list, mistake) = wanted(&service, AddressPlan::new(20).unwrap());
        let texts = list
            .iter()
            .map(|w| format!("{} {:?}", w.address, w.purpose))
            .collect();
        (texts, mistake)
    }

    #[test]
    fn a_load_balancer_has_all_three() {
        let (list, mistake) = addresses(json!({
            "metadata": {"name": "gw", "annotations": {LOAD_BALANCER_PORTS: "80=18080,9000=0"}},
            "spec": {
                "type": "LoadBalancer", "clusterIP": "127.20.128.9",
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}, {"port": 15021}, {"port": 9000}],
            },
        }));
        assert_eq!(mistake, None);
        assert_eq!(
            list,
            [
                "127.20.128.9:80 ClusterIp",
                "127.0.0.1:30080 NodePort",
                "127.0.0.1:18080 LoadBalancer",
                "127.20.128.9:443 ClusterIp",
                "127.0.0.1:8443 LoadBalancer",
                "127.20.128.9:15021 ClusterIp",
                "127.0.0.1:15021 LoadBalancer",
                "127.20.128.9:9000 ClusterIp",
            ]
        );
    }

    #[test]
    fn headless_and_external_services_have_none() {
        let ports = json!([{"port": 80}]);
        let headless = json!({"spec": {"clusterIP": "None", "ports": ports}});
        assert!(addresses(headless).0.is_empty());
        let external = json!({"spec": {"type": "ExternalName", "ports": ports}});
        assert!(addresses(external).0.is_empty());
    }

    #[test]
    fn a_bad_annotation_is_quoted() {
        let error = load_balancer_ports("80=8080,x").unwrap_err();
        assert!(error.contains("\"x\""), "{error}");
    }
}
