//! Kubernetes Services.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use mesh_api::Host;

use super::{Entry, Pod, Resolution};

/// A Service, trimmed; or what a ServiceEntry declares to be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `reviews.default.svc.cluster.local`; may be a wildcard when it comes from a ServiceEntry.
    pub host: Host,
    /// `reviews`; the host when it comes from a ServiceEntry.
    pub name: String,
    /// `default`.
    pub namespace: String,
    /// Its cluster IPs (none when headless), or the addresses and ranges of a ServiceEntry.
    pub addresses: Vec<String>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// TCP ports in their order; UDP is not captured.
    pub ports: Vec<ServicePort>,
    /// Labels of its pods; empty: endpoints are managed by hand.
    pub selector: BTreeMap<String, String>,
    /// Annotation `networking.istio.io/exportTo`.
    pub export_to: Vec<String>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Outside the mesh: no mutual TLS.
    pub external: bool,
    /// Endpoints that are no pods.
    pub entries: Vec<Entry>,
    /// ExternalName Services that stand for it: their names and namespaces.
    pub aliases: Vec<(String, String)>,
    /// What an ExternalName Service stands for.
    pub external_name: Option<Host>,
    /// Comes from a ServiceEntry.
    pub of_entry: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Its name; may be empty when it is the only one.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Port of the pods.
    pub target: TargetPort,
}

/// Port of the pods behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

impl TargetPort {
    /// The number that it has on a pod; `None`: no port of the pod has this name.
    pub fn on(&self, pod: &Pod) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => pod
                .ports
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, number)| *number),
        }
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 when the client speaks it.
    Http,
    /// HTTP/2 and gRPC.
    Http2,
    /// TLS, which the service itself ends: told apart by server name.
    Tls,
    /// Anything else.
    Tcp,
    /// Not declared: found out per connection.
    Sniff,
}

impl Protocol {
    /// Istio's rule: `appProtocol` first, then the port's name up to the first dash, then sniffing,
    /// except for the ports of some protocols in which the server speaks first.
    pub fn of(app_protocol: Option<&str>, name: &str, number: u16) -> Self {
        let word = app_protocol.unwrap_or_else(|| name.split('-').next().unwrap_or_default());
        match word.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" => Self::Http,
            "grpc"
                if app_protocol.is_none() && name.to_ascii_lowercase().starts_with("grpc-web") =>
            {
                Self::Http
            }
            "grpc-web" => Self::Http,
            "http2" | "grpc" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "https" | "tls" | "kubernetes.io/wss" => Self::Tls,
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            _ if matches!(number, 25 | 53 | 3306 | 27017) => Self::Tcp,
            _ => Self::Sniff,
        }
    }
}

impl Service {
    /// From the API object.
    pub fn read(from: &core::Service) -> Option<Self> {
        let metadata = &from.metadata;
        let spec = from.spec.as_ref()?;
        let external_name = spec
            .external_name
            .as_ref()
            .filter(|_| spec.type_.as_deref() == Some("ExternalName"))
            .map(|name| Host::resolve(name.trim_end_matches('.'), ""));
        let (name, namespace) = (metadata.name.clone()?, metadata.namespace.clone()?);
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
        let export_to = metadata
            .annotations
            .iter()
            .flatten()
            .find(|(name, _)| *name == "networking.istio.io/exportTo");
        Some(Self {
            host: Host::service(&name, &namespace),
            addresses: spec
                .cluster_ips
                .iter()
                .flatten()
                .chain(&spec.cluster_ip)
                .filter_map(|ip| Some(ip.parse::<IpAddr>().ok()?.to_string()))
                .fold(Vec::new(), |mut ips, ip| {
                    if !ips.contains(&ip) {
                        ips.push(ip);
                    }
                    ips
                }),
            headless: spec.cluster_ip.as_deref() == Some("None"),
            ports: ports.filter_map(port).collect(),
            selector: spec.selector.clone().unwrap_or_default(),
            export_to: export_to
                .map(|(_, text)| text.split(',').map(|part| part.trim().to_owned()).collect())
                .unwrap_or_default(),
            resolution: Resolution::Slices,
            external: external_name.is_some(),
            entries: Vec::new(),
            aliases: Vec::new(),
            external_name,
            of_entry: false,
            name,
            namespace,
        })
    }

    /// Those of its addresses that stand for many: `10.0.0.0/8`.
    pub fn ranges(&self) -> impl Iterator<Item = &String> {
        self.addresses.iter().filter(|text| text.contains('/'))
    }

    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

fn port(from: &core::ServicePort) -> Option<ServicePort> {
    let number = u16::try_from(from.port).ok()?;
    let name = from.name.clone().unwrap_or_default();
    let target = match &from.target_port {
        Some(IntOrString::String(name)) => TargetPort::Name(name.clone()),
        Some(IntOrString::Int(target)) => {
            TargetPort::Number(u16::try_from(*target).ok().filter(|t| *t > 0)?)
        }
        None => TargetPort::Number(number),
    };
    Some(ServicePort {
        protocol: Protocol::of(from.app_protocol.as_deref(), &name, number),
        name,
        number,
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_comes_from_app_protocol_then_name_then_number() {
        for (app, name, number, protocol) in [
            (None, "http", 80, Protocol::Http),
            (None, "http-web", 80, Protocol::Http),
            (None, "httpx", 80, Protocol::Sniff),
            (None, "grpc-web", 80, Protocol::Http),
            (None, "grpc-api", 80, Protocol::Http2),
            (None, "web", 80, Protocol::Sniff),
            (None, "", 3306, Protocol::Tcp),
            (Some("http"), "tcp-x", 80, Protocol::Http),
            (Some("kubernetes.io/h2c"), "", 80, Protocol::Http2),
            (Some("https"), "http", 443, Protocol::Tls),
        ] {
            assert_eq!(
                Protocol::of(app, name, number),
                protocol,
                "{app:?} {name} {number}"
            );
        }
    }
}
