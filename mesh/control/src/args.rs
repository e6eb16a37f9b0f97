//! Flags of the control plane.

use std::net::IpAddr;

/// The control plane of the mesh (istiod): watches the cluster, configures proxies, injects sidecars.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Accepted for manifests written for istiod, whose only command is `discovery`.
    #[arg(hide = true, value_parser = ["discovery"])]
    pub command: Option<String>,

    /// Address to listen on. In a pod of the embedded cluster the address that the cluster gives
    /// takes its place.
    #[arg(long, default_value = "127.0.0.1")]
    pub listen_address: IpAddr,

    /// Port of the configuration stream.
    #[arg(long, default_value_t = 15010)]
    pub config_port: u16,

    /// Port of the configuration stream with TLS.
    #[arg(long, default_value_t = 15012)]
    pub secure_config_port: u16,

    /// Port of the webhooks (TLS).
    #[arg(long, default_value_t = 15017)]
    pub webhook_port: u16,

    /// Port of metrics and debugging.
    #[arg(long, default_value_t = 15014)]
    pub monitoring_port: u16,

    /// Port of the readiness probe.
    #[arg(long, default_value_t = 8080)]
    pub ready_port: u16,

    /// Life of the certificates of workloads, as in 24h or 90m; they are renewed at half of it.
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_parser = certificate_life)]
    pub workload_cert_ttl: std::time::Duration,

    /// Life of our own certificate, which the API server and proxies are shown; it is renewed at half of it.
    #[arg(long, env = "SERVING_CERT_TTL", default_value = "2160h", value_parser = certificate_life)]
    pub serving_cert_ttl: std::time::Duration,

    /// What is injected.
    #[command(flatten)]
    pub injection: InjectionArgs,
}

/// What the injector adds to pods.
#[derive(Clone, Debug, clap::Args)]
pub struct InjectionArgs {
    /// Image of the sidecars that are injected.
    #[arg(long, env = "PROXY_IMAGE", default_value = concat!("meshdojo/meshdojo:", env!("CARGO_PKG_VERSION")))]
    pub proxy_image: String,

    /// Sidecars are init containers that go on running, which Kubernetes 1.29 and later have. Without,
    /// they are containers like the others; a pod's annotation sidecar.istio.io/nativeSidecar decides for it.
    #[arg(long, env = "ENABLE_NATIVE_SIDECARS", default_value_t = true, action = clap::ArgAction::Set)]
    pub native_sidecars: bool,
}

/// From ten seconds to Istio's limit of ninety days.
fn certificate_life(text: &str) -> Result<std::time::Duration, String> {
    let life: mesh_api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    let bounds = std::time::Duration::from_secs(10)..=std::time::Duration::from_secs(90 * 86_400);
    if bounds.contains(&life.0) {
        Ok(life.0)
    } else {
        Err("must be between 10s and 2160h".into())
    }
}

impl Args {
    /// Under which name we lead: the pod's, or in no pod the process's.
    pub(crate) fn identity(&self) -> String {
        std::env::var("POD_NAME").unwrap_or_else(|_| format!("istiod-{}", std::process::id()))
    }

    /// Where to listen: what the embedded cluster gives outranks the flag.
    pub(crate) fn address(&self) -> anyhow::Result<IpAddr> {
        match std::env::var("DOJO_LISTEN_IP") {
            Ok(text) => text
                .parse()
                .map_err(|_| anyhow::anyhow!("DOJO_LISTEN_IP={text:?} is not an IP address")),
            Err(_) => Ok(self.listen_address),
        }
    }
}
