//! Names in the pod network: what DNS and kube-proxy know, as one pure function.
//!
//! A host in a request is a Service's name in one of the forms that a pod's resolver would
//! accept, a Service's or pod's address, the pod's own loopback, or a host of the outer world.

use super::addresses::AddressPlan;
use std::net::Ipv4Addr;

/// The cluster's DNS domain.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// What a host stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A Service, by namespace and name. It exists.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The pod that is calling: its loopback.
    Loopback,
    /// An address in this cluster's network that is not a Service's.
    Address(Ipv4Addr),
    /// A host outside of the cluster.
    External(String),
    /// A host that must not be reached from a pod, and why.
    Refused(String),
}

/// The Services, as far as names go.
pub trait Services {
    /// Whether there is a Service of that name.
    fn exists(&self, namespace: &str, name: &str) -> bool;
    /// The Service with that cluster IP.
    fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)>;
}

/// Resolves `host` for a pod in `namespace`.
pub fn resolve(host: &str, namespace: &str, plan: AddressPlan, services: &impl Services) -> Host {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" {
        return Host::Loopback;
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return address(ip, plan, services);
    }
    if host == "[::1]" || host == "::1" {
        return Host::Loopback;
    }
    let parts: Vec<&str> = host.split('.').collect();
    let domain = host.ends_with(&format!(".{CLUSTER_DOMAIN}"));
    // the forms that the search domains of a pod's resolver complete
    let service = match parts.as_slice() {
        [name] => Some((*name, namespace)),
        [name, ns] | [name, ns, "svc"] => Some((*name, *ns)),
        [name, ns, "svc", ..] if domain && parts.len() == 5 => Some((*name, *ns)),
        _ => None,
    };
    if let Some((name, ns)) = service
        && services.exists(ns, name)
    {
        return Host::Service {
            namespace: ns.to_owned(),
            name: name.to_owned(),
        };
    }
    if domain || parts.len() == 1 || host.ends_with(".svc") {
        return Host::Refused(format!(
            "no such service: {host} (looked up from namespace {namespace})"
        ));
    }
    Host::External(host)
}

fn address(ip: Ipv4Addr, plan: AddressPlan, services: &impl Services) -> Host {
    if let Some((namespace, name)) = services.by_ip(ip) {
        return Host::Service { namespace, name };
    }
    if plan.is_pod(ip) || plan.pod_of_loopback(ip).is_some() || ip == plan.node() {
        return Host::Address(ip);
    }
    if plan.is_service(ip) {
        return Host::Refused(format!("no service has the address {ip}"));
    }
    if ip == Ipv4Addr::LOCALHOST {
        return Host::Loopback;
    }
    if ip.is_loopback() || ip.is_unspecified() {
        return Host::Refused(format!("{ip} is not an address of this cluster's network"));
    }
    Host::External(ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Services for Fake {
        fn exists(&self, namespace: &str, name: &str) -> bool {
            matches!((namespace, name), ("default", "reviews") | ("other", "api"))
        }
        fn by_ip(&self, ip: Ipv4Addr) -> Option<(String, String)> {
            (ip == Ipv4Addr::new(127, 20, 128, 5)).then(|| ("default".into(), "reviews".into()))
        }
    }

    fn resolved(host: &str) -> Host {
        resolve(host, "default", AddressPlan::new(20).unwrap(), &Fake)
    }

    fn service(namespace: &str, name: &str) -> Host {
        Host::Service {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn all_forms_of_a_service_name() {
        let reviews = service("default", "reviews");
        for host in [
            "reviews",
            "Reviews",
            "reviews.default",
            "reviews.default.svc",
            "reviews.default.svc.cluster.local",
            "reviews.default.svc.cluster.local.",
            "127.20.128.5",
        ] {
            assert_eq!(resolved(host), reviews, "{host}");
        }
        assert_eq!(resolved("api.other"), service("other", "api"));
    }

    #[test]
    fn unknown_names_of_the_cluster_are_refused_others_are_external() {
        assert!(matches!(resolved("api"), Host::Refused(_)));
        assert!(matches!(
            resolved("x.default.svc.cluster.local"),
            Host::Refused(_)
        ));
        assert!(matches!(resolved("x.default.svc"), Host::Refused(_)));
        assert_eq!(
            resolved("www.example.com"),
            Host::External("www.example.com".into())
        );
        assert_eq!(
            resolved("example.com"),
            Host::External("example.com".into())
        );
    }

    #[test]
    fn addresses() {
        assert_eq!(resolved("localhost"), Host::Loopback);
        assert_eq!(resolved("127.0.0.1"), Host::Loopback);
        let pod = Ipv4Addr::new(127, 20, 0, 9);
        assert_eq!(resolved("127.20.0.9"), Host::Address(pod));
        assert!(matches!(resolved("127.21.0.9"), Host::Refused(_)));
        assert!(matches!(resolved("127.20.128.9"), Host::Refused(_)));
        assert_eq!(resolved("1.2.3.4"), Host::External("1.2.3.4".into()));
    }
}
