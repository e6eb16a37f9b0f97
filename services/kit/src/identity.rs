//! Who a running service is.

/// A service, its version and its pod.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The service's name, for example `reviews`.
    pub service: &'static str,
    /// Its version, for example `v2`.
    pub version: String,
    /// The pod it runs in (the variable `HOSTNAME`), unknown outside a pod.
    pub pod: Option<String>,
}

impl Identity {
    /// The identity of a service of this process.
    #[must_use]
    pub fn new(service: &'static str, version: &str) -> Self {
        let pod = std::env::var("HOSTNAME")
            .ok()
            .filter(|name| !name.is_empty());
        Self {
            service,
            version: version.to_owned(),
            pod,
        }
    }
}
