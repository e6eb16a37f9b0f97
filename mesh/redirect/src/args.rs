//! The command line, which is that of Istio's `istio-iptables`.

use crate::rules::{Network, Ports, Rules};

/// Redirects a pod's connections to its sidecar.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port of the sidecar that takes outbound connections.
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 15001)]
    pub envoy_port: u16,

    /// Port of the sidecar that takes inbound connections.
    #[arg(short = 'z', long, value_name = "PORT", default_value_t = 15006)]
    pub inbound_capture_port: u16,

    /// User of the sidecar: its own connections are left alone.
    #[arg(short = 'u', long, value_name = "UID", default_value_t = 1337)]
    pub proxy_uid: u32,

    /// Group of the sidecar; as for the user.
    #[arg(short = 'g', long, value_name = "GID", default_value_t = 1337)]
    pub proxy_gid: u32,

    /// How connections come to the sidecar.
    #[arg(short = 'm', long, value_enum, ignore_case = true, default_value_t = Mode::Redirect)]
    pub istio_inbound_interception_mode: Mode,

    /// Networks whose outbound connections are redirected: `*`, or CIDRs with commas between.
    #[arg(short = 'i', long, value_name = "CIDRS", default_value = "*")]
    pub istio_service_cidr: Networks,

    /// Networks that are left alone.
    #[arg(short = 'x', long, value_name = "CIDRS", default_value = "")]
    pub istio_service_exclude_cidr: Networks,

    /// Inbound ports that are redirected: `*`, or numbers with commas between; empty: none.
    #[arg(short = 'b', long, value_name = "PORTS", default_value = "*")]
    pub istio_inbound_ports: Ports,

    /// Inbound ports that are left alone.
    #[arg(short = 'd', long, value_name = "PORTS", default_value = "")]
    pub istio_local_exclude_ports: Ports,

    /// Outbound ports that are redirected whatever their address.
    #[arg(short = 'q', long, value_name = "PORTS", default_value = "")]
    pub istio_outbound_ports: Ports,

    /// Outbound ports that are left alone.
    #[arg(short = 'o', long, value_name = "PORTS", default_value = "")]
    pub istio_local_outbound_ports_exclude: Ports,

    /// Network interfaces that are left alone, with commas between.
    #[arg(short = 'c', long, value_name = "NAMES", value_delimiter = ',')]
    pub istio_exclude_interfaces: Vec<String>,

    /// Print the script instead of carrying it out.
    #[arg(long)]
    pub dry_run: bool,
}

/// Istio's `interceptionMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Destination addresses are rewritten; the workload sees the sidecar as its client.
    Redirect,
    /// Keeps the client's address. Not carried out.
    Tproxy,
    /// Nothing is intercepted.
    None,
}

/// `None`: all networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub(crate) Option<Vec<Network>>);

impl std::str::FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self(None));
        }
        list(text, |item| item.parse()).map(|networks| Self(Some(networks)))
    }
}

impl std::str::FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let port = |item: &str| match item.parse() {
            Ok(0) | Err(_) => Err(format!("{item:?} is not a port (1 to 65535)")),
            Ok(port) => Ok(port),
        };
        list(text, port).map(Self::These)
    }
}

fn list<T>(text: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(item)
        .collect()
}

impl Args {
    /// What the flags ask for.
    pub(crate) fn rules(&self) -> Rules {
        let these = |ports: &Ports| match ports {
            Ports::All => Vec::new(),
            Ports::These(ports) => ports.clone(),
        };
        Rules {
            outbound_port: self.envoy_port,
            inbound_port: self.inbound_capture_port,
            uid: self.proxy_uid,
            gid: self.proxy_gid,
            inbound: self.istio_inbound_ports.clone(),
            inbound_excluded: these(&self.istio_local_exclude_ports),
            outbound_networks: self.istio_service_cidr.0.clone(),
            outbound_networks_excluded: self
                .istio_service_exclude_cidr
                .0
                .clone()
                .unwrap_or_default(),
            outbound_ports: these(&self.istio_outbound_ports),
            outbound_ports_excluded: these(&self.istio_local_outbound_ports_exclude),
            interfaces_excluded: self.istio_exclude_interfaces.clone(),
        }
    }
}
