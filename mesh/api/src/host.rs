//! Host names: how a short name in a resource is completed, and which wildcard covers what.

use std::fmt;

/// Domain of the cluster.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// A complete host name, lower-case: a FQDN, a wildcard (`*`, `*.example.com`) or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

impl Host {
    /// Completes `name` as Istio does: a name without a dot gets the namespace of the resource it
    /// stands in and the cluster's domain; anything with a dot or a `*` is taken literally
    /// (`reviews.foo` is **not** completed).
    pub fn resolve(name: &str, namespace: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if name.is_empty() || name.contains(['.', '*', ':']) {
            Self(name)
        } else {
            Self::service(&name, namespace)
        }
    }

    /// The host of a Kubernetes Service.
    pub fn service(name: &str, namespace: &str) -> Self {
        Self(format!("{name}.{namespace}.{CLUSTER_DOMAIN}"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Starts with `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Every name that `other` stands for is covered by `self`.
    pub fn covers(&self, other: &Host) -> bool {
        matches(&self.0, &other.0)
    }

    /// The more specific of two hosts, when one covers the other.
    pub fn intersect<'a>(&'a self, other: &'a Host) -> Option<&'a Host> {
        if self.covers(other) {
            Some(other)
        } else {
            other.covers(self).then_some(self)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// `host` (which may be a wildcard itself) falls under `pattern`: equal, or `pattern` is `*` or a
/// `*.suffix` that `host` ends with.
pub fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == host,
        Some(suffix) => {
            let host = host.strip_prefix('*').unwrap_or(host);
            host.len() >= suffix.len() && host.ends_with(suffix)
        }
    }
}

/// A Gateway named by a VirtualService.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayRef {
    /// The reserved word `mesh`: all sidecars.
    Mesh,
    /// A Gateway by namespace and name.
    Named {
        /// Namespace of the Gateway.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl GatewayRef {
    /// `mesh`, `gw` (namespace of the VirtualService), `ns/gw`, or the old form
    /// `gw.ns.svc.cluster.local`.
    pub fn resolve(text: &str, namespace: &str) -> Self {
        let named = |namespace: &str, name: &str| Self::Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        if text == "mesh" {
            return Self::Mesh;
        }
        if let Some((other, name)) = text.split_once('/') {
            return named(if other == "." { namespace } else { other }, name);
        }
        let mut parts = text.splitn(3, '.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(other), Some(CLUSTER_DOMAIN)) => named(other, name),
            _ => named(namespace, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_without_a_dot_are_completed() {
        for (name, host) in [
            ("reviews", "reviews.shop.svc.cluster.local"),
            ("Reviews", "reviews.shop.svc.cluster.local"),
            ("reviews.foo", "reviews.foo"),
            ("*", "*"),
            ("*.com", "*.com"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(Host::resolve(name, "shop").as_str(), host);
        }
    }

    #[test]
    fn wildcards_cover_longer_names_and_longer_wildcards() {
        for (pattern, host, covers) in [
            ("*", "a.com", true),
            ("*", "*.com", true),
            ("*.com", "a.com", true),
            ("*.com", "*.a.com", true),
            ("*.a.com", "*.com", false),
            ("*.com", "*", false),
            ("*.com", "com", false),
            ("a.com", "a.com", true),
            ("a.com", "*.com", false),
        ] {
            assert_eq!(matches(pattern, host), covers, "{pattern} {host}");
        }
    }

    #[test]
    fn intersection_is_the_more_specific_side() {
        let host = |text: &str| Host::resolve(text, "ns");
        assert_eq!(host("*").intersect(&host("a.com")), Some(&host("a.com")));
        assert_eq!(
            host("a.com").intersect(&host("*.com")),
            Some(&host("a.com"))
        );
        assert_eq!(host("a.com").intersect(&host("b.com")), None);
    }

    #[test]
    fn gateways_are_named_in_four_ways() {
        let named = |namespace: &str, name: &str| GatewayRef::Named {
            namespace: namespace.into(),
            name: name.into(),
        };
        assert_eq!(GatewayRef::resolve("mesh", "a"), GatewayRef::Mesh);
        assert_eq!(GatewayRef::resolve("gw", "a"), named("a", "gw"));
        assert_eq!(GatewayRef::resolve("b/gw", "a"), named("b", "gw"));
        assert_eq!(
            GatewayRef::resolve("gw.b.svc.cluster.local", "a"),
            named("b", "gw")
        );
    }
}
