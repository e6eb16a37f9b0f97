//! The command line of a proxy, with the environment that the injector gives a container.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use mesh_config::{Interception, ProxyId, Role};

/// A sidecar or a gateway. Flags fall back to the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What the proxy is for.
    #[arg(value_enum)]
    pub role: RoleArg,

    /// Name of the pod.
    #[arg(long, env = "POD_NAME", default_value = "proxy")]
    pub pod_name: String,

    /// Namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,

    /// Address of the pod [env: INSTANCE_IP, else DOJO_POD_IP; default: 127.0.0.1].
    #[arg(long)]
    pub address: Option<IpAddr>,

    /// Address that upstream connections leave from; none: the system chooses.
    #[arg(long, env = "DOJO_POD_IP")]
    pub source_address: Option<IpAddr>,

    /// The pod's loopback, where the workload listens behind this sidecar; none: connections are
    /// redirected by the kernel.
    #[arg(long, env = "DOJO_LOOPBACK_IP")]
    pub loopback: Option<IpAddr>,

    /// Where the control plane streams configuration from [default: https://istiod.istio-system.svc:15012,
    /// on the embedded cluster http://istiod.istio-system.svc:15010].
    #[arg(long, env = "DISCOVERY_ADDRESS")]
    pub discovery_address: Option<String>,

    /// File with the authorities that an https:// control plane's certificate must come from
    /// [default: var/run/secrets/istio/root-cert.pem under DOJO_ROOT].
    #[arg(long)]
    pub root_cert_file: Option<PathBuf>,

    /// File with the ServiceAccount token [default: var/run/secrets/tokens/istio-token under
    /// DOJO_ROOT, else Kubernetes' own mount].
    #[arg(long)]
    pub token_file: Option<PathBuf>,

    /// DNS suffix of the pod's namespace, as Istio's own arguments have it; only
    /// NAMESPACE.svc.cluster.local is known.
    #[arg(long)]
    pub domain: Option<String>,

    /// What the proxy logs of itself: trace, debug, info, warning, error, critical or off.
    #[arg(long = "proxyLogLevel", alias = "proxy-log-level")]
    pub proxy_log_level: Option<String>,

    /// The same for single loggers: router:debug,http:info.
    #[arg(long = "proxyComponentLogLevel", alias = "proxy-component-log-level")]
    pub proxy_component_log_level: Option<String>,

    /// What the agent logs, SCOPE:LEVEL; here the agent is a part of the proxy.
    #[arg(long = "log_output_level", alias = "log-output-level")]
    pub log_output_level: Option<String>,

    /// Worker threads.
    #[arg(long, env = "PROXY_CONCURRENCY", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Connections from clients at one time; more are closed at once.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_connections: u64,

    /// A snapshot as JSON to run instead of asking a control plane.
    #[arg(long)]
    pub config: Option<PathBuf>,

    /// Seconds that requests in flight may take when the proxy is told to stop.
    #[arg(long, env = "DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,

    /// Port of the admin interface, on the pod's loopback; 0: any.
    #[arg(long, default_value_t = 15000)]
    pub admin_port: u16,

    /// Do not serve the agent's ports (15020 merged metrics and probes, 15021 readiness, 15090 statistics).
    #[arg(long)]
    pub no_agent: bool,
}

/// [`Role`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RoleArg {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

impl Args {
    /// Levels of logging, the agent's among them.
    pub(crate) fn component_levels(&self) -> Option<String> {
        let agent = self.log_output_level.iter().flat_map(|scopes| {
            let levels = scopes
                .split(',')
                .map(|scope| scope.rsplit(':').next().unwrap_or(scope));
            levels.map(|level| format!("main:{level}"))
        });
        let all: Vec<String> = agent
            .chain(self.proxy_component_log_level.clone())
            .collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// The address of the pod.
    pub(crate) fn pod_address(&self) -> IpAddr {
        let from = |name| std::env::var(name).ok()?.parse().ok();
        self.address
            .or_else(|| from("INSTANCE_IP"))
            .or(self.source_address)
            .unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }

    /// Who the proxy is.
    pub(crate) fn identity(&self) -> ProxyId {
        let role = match self.role {
            RoleArg::Sidecar => Role::Sidecar,
            RoleArg::Router => Role::Router,
        };
        let interception = match (role, self.loopback) {
            (Role::Sidecar, Some(loopback)) => Interception::Door { loopback },
            (Role::Sidecar, None) => Interception::Redirect,
            (Role::Router, _) => Interception::None,
        };
        ProxyId {
            role,
            pod: self.pod_name.clone(),
            namespace: self.pod_namespace.clone(),
            address: self.pod_address(),
            interception,
        }
    }

    /// Where the control plane is. What is said on the embedded cluster's network never leaves the
    /// machine; everywhere else it is encrypted.
    pub(crate) fn discovery_address(&self) -> String {
        let embedded = self.source_address.is_some_and(|ip| ip.is_loopback());
        let default = if embedded {
            "http://istiod.istio-system.svc:15010"
        } else {
            "https://istiod.istio-system.svc:15012"
        };
        let given = self.discovery_address.as_deref();
        given.unwrap_or(default).to_owned()
    }

    /// Where the authorities are.
    pub(crate) fn root_cert_path(&self) -> PathBuf {
        let default = || root().join("var/run/secrets/istio/root-cert.pem");
        self.root_cert_file.clone().unwrap_or_else(default)
    }

    /// Where the token is.
    pub(crate) fn token_path(&self) -> PathBuf {
        const TOKEN: &str = "var/run/secrets/tokens/istio-token";
        const KUBERNETES: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        if let Some(path) = &self.token_file {
            return path.clone();
        }
        let path = root().join(TOKEN);
        if path.exists() {
            path
        } else {
            PathBuf::from(KUBERNETES)
        }
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// The folder that stands for the container's root.
fn root() -> PathBuf {
    std::env::var_os("DOJO_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
