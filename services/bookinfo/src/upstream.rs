//! The addresses of the services that a bookinfo service calls.

use std::fmt;

/// The address of a service that is called, for example `http://ratings:9080`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    base: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.base)
    }
}

impl Upstream {
    /// `domain` (the variable `SERVICES_DOMAIN`) is appended to the host name when it is not empty.
    pub(crate) fn new(host: &str, port: u16, domain: Option<&str>) -> Self {
        let base = match domain {
            Some(domain) if !domain.is_empty() => format!("http://{host}.{domain}:{port}"),
            _ => format!("http://{host}:{port}"),
        };
        Self { base }
    }

    /// The address without a path.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_domain_is_appended_to_the_host() {
        assert_eq!(
            Upstream::new("ratings", 9080, None).base(),
            "http://ratings:9080"
        );
        assert_eq!(
            Upstream::new("ratings", 9080, Some("")).base(),
            "http://ratings:9080"
        );
        assert_eq!(
            Upstream::new("ratings", 80, Some("default.svc.cluster.local")).base(),
            "http://ratings.default.svc.cluster.local:80"
        );
    }
}
