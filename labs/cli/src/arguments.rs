//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    home::{DEFAULT_NAME, cluster_name},
    kubectl,
};

/// A service-mesh training lab in one binary: a cluster, a mesh and applications to learn with.
#[derive(Parser)]
#[command(name = "meshdojo", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The command line of this process. Called by the name of a tool (`fortio`, `siege`, `http`), the
    /// program is that tool; called `kubectl`, `helm` or `istioctl`, it is that verb.
    pub fn parse_as_called() -> Command {
        let argv: Vec<String> = std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let words = || argv.iter().skip(1).cloned().collect();
        if is_called(&argv, "helm") {
            return Command::Helm { words: words() };
        }
        if is_called(&argv, "istioctl") {
            return Command::Istioctl { words: words() };
        }
        if is_called(&argv, kubectl::NAME) {
            return Command::Kubectl(Box::new(kubectl::AsKubectl::parse().line));
        }
        match dojo_tools::Command::by_name(&argv) {
            Some(Ok(tool)) => Command::Tool(tool),
            Some(Err(error)) => error.exit(),
            None => Self::parse().command,
        }
    }
}

/// Whether the program was called by a name, with or without a folder.
fn is_called(argv: &[String], name: &str) -> bool {
    let called = argv.first().map(std::path::Path::new);
    called.and_then(std::path::Path::file_name) == Some(name.as_ref())
}

/// The verbs.
#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster with the mesh and applications, and wait until they serve
    Up(UpArgs),
    /// Stop a cluster; its objects are kept unless --purge
    Down(DownArgs),
    /// Show what runs and where
    Status(StatusArgs),
    /// Print the path of the kubeconfig file: export KUBECONFIG=$(meshdojo kubeconfig)
    Kubeconfig(NameArgs),
    /// Print the shell commands that point kubectl at the cluster: eval "$(meshdojo env)"
    Env(NameArgs),
    /// List the images that pods can name
    Images(ImagesArgs),
    /// Change what an image stands for, or save the image for other clusters
    #[command(subcommand)]
    Image(ImageCommand),
    /// Say what is wrong with the resources of a cluster, or of files before they are applied
    Analyze(mesh_control::analyze::AnalyzeArgs),
    /// Add sidecars to the manifests of a file, as the webhook does to pods
    KubeInject(mesh_control::kube_inject::KubeInjectArgs),
    /// Show what the proxy of a pod was told, as istioctl does: cluster, listener, route, endpoint, secret
    #[command(visible_alias = "pc")]
    ProxyConfig(mesh_control::proxy_config::ProxyConfigArgs),
    /// Show which proxies are connected and whether they have taken what they were told; of one pod, how the two differ
    #[command(visible_alias = "ps")]
    ProxyStatus(mesh_control::proxy_status::ProxyStatusArgs),
    /// Say how the proxy of a pod would route a request: which rule matches and why others do not, then where it goes
    Explain(mesh_control::explain::ExplainArgs),
    /// Watch the requests that pass through the proxy of a pod: routes, flags, identities; --raw: the bytes of the wire
    Tap(mesh_control::tap::TapArgs),
    /// The labs: list, start, show, check, next, watch, hint, solve, reset, goto, test, lint, export
    Lab(Box<lab_runner::LabArgs>),
    /// A class of students on one cluster: preflight, create, serve, status, export, broadcast, reset, delete
    Class(Box<crate::class::ClassArgs>),
    /// The verbs of kubectl that the labs use, where there is none: get, apply, delete, logs, exec, ...
    Kubectl(Box<kubectl::Line>),
    /// Run one sample service alone, without a cluster
    #[command(subcommand)]
    Service(Box<Service>),
    /// Send requests to an address and report rates, times and statuses
    Load(Box<dojo_tools::load::LoadArgs>),
    /// The tools of the labs under their own names: fortio, siege, http
    #[command(subcommand)]
    Tool(dojo_tools::Command),
    /// Make certificates for the labs, from an authority beside them
    Certs(mesh_control::certs::CertsArgs),
    /// What Helm would install, and where it is already
    #[command(hide = true)]
    Helm {
        /// Helm's words
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// The verbs of istioctl, which are these; and where that is which it would install
    #[command(hide = true)]
    Istioctl {
        /// The words of istioctl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the CustomResourceDefinitions of the Istio kinds, as YAML
    #[command(hide = true)]
    Crds,
    /// The mesh proxy (runs in pods)
    #[command(hide = true)]
    Proxy(mesh_proxy::Args),
    /// Asks the admin interface of the pod's proxy (in pods, as pilot-agent request)
    #[command(hide = true)]
    Request(crate::request::RequestArgs),
    /// Redirects a pod's connections to its sidecar (runs in pods of a real cluster)
    #[command(hide = true, name = "istio-iptables")]
    IstioIptables(mesh_redirect::Args),
    /// The mesh control plane (runs in a pod)
    #[command(hide = true)]
    Control(mesh_control::Args),
    /// The embedded cluster itself (started by up)
    #[command(hide = true)]
    Cluster(ClusterArgs),
    /// Ties a container's process to the life of its cluster
    #[command(hide = true)]
    ContainerShim {
        /// What the cluster's process passes on
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// Which cluster.
#[derive(Args)]
pub struct NameArgs {
    /// Name of the cluster
    #[arg(long, default_value = DEFAULT_NAME, env = "MESHDOJO_NAME", value_parser = cluster_name)]
    pub name: String,
}

/// `meshdojo up`.
#[derive(Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub cluster: NameArgs,
    /// Applications to run
    #[arg(value_enum, default_value = "bookinfo")]
    pub apps: Vec<Choice>,
    /// Port of the ingress gateway on 127.0.0.1 [default: 8080, or the one used before]; HTTPS is 363 above it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65_172))]
    pub gateway_port: Option<u16>,
    /// Keep the cluster in this terminal; Ctrl-C stops it
    #[arg(long)]
    pub foreground: bool,
    /// Seconds to wait until everything serves
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// What `up` can be told to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The bookstore: productpage, details, reviews v1 to v3, ratings
    Bookinfo,
    /// A haulage firm: vehicles on a live map, with staff photos in two versions
    Fleetman,
    /// hello-server in two deployments, one of which fails at random
    Hello,
    /// Istio's helloworld, v1 and v2
    Helloworld,
    /// A delivery service whose copies can be put down
    Delivery,
    /// simple-web and simple-backend: the fake service of the resilience lab
    Simple,
    /// booking, which calls vaccine
    Booking,
    /// httpbin: answers with what it was asked
    Httpbin,
    /// A list of users
    Userlist,
    /// A TCP echo and a gRPC echo, v1 and v2
    Echo,
    /// Every application
    All,
    /// No application: the mesh alone
    None,
}

/// An application with manifests in `k8s/apps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum App {
    Bookinfo,
    Fleetman,
    Hello,
    Helloworld,
    Delivery,
    Simple,
    Booking,
    Httpbin,
    Userlist,
    Echo,
}

impl App {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bookinfo,
        Self::Fleetman,
        Self::Hello,
        Self::Helloworld,
        Self::Delivery,
        Self::Simple,
        Self::Booking,
        Self::Httpbin,
        Self::Userlist,
        Self::Echo,
    ];

    /// Name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookinfo => "bookinfo",
            Self::Fleetman => "fleetman",
            Self::Hello => "hello",
            Self::Helloworld => "helloworld",
            Self::Delivery => "delivery",
            Self::Simple => "simple",
            Self::Booking => "booking",
            Self::Httpbin => "httpbin",
            Self::Userlist => "userlist",
            Self::Echo => "echo",
        }
    }

    /// Its page behind the gateway, for those that any host name reaches.
    pub fn page(self) -> Option<&'static str> {
        match self {
            Self::Bookinfo => Some("/productpage"),
            Self::Fleetman => Some("/"),
            _ => None,
        }
    }
}

impl Choice {
    /// The applications that are meant, each once.
    pub fn apps(choices: &[Self]) -> Vec<App> {
        let one = |choice: &Self| match choice {
            Self::Bookinfo => vec![App::Bookinfo],
            Self::Fleetman => vec![App::Fleetman],
            Self::Hello => vec![App::Hello],
            Self::Helloworld => vec![App::Helloworld],
            Self::Delivery => vec![App::Delivery],
            Self::Simple => vec![App::Simple],
            Self::Booking => vec![App::Booking],
            Self::Httpbin => vec![App::Httpbin],
            Self::Userlist => vec![App::Userlist],
            Self::Echo => vec![App::Echo],
            Self::All => App::ALL.to_vec(),
            Self::None => Vec::new(),
        };
        let mut apps: Vec<App> = choices.iter().flat_map(one).collect();
        apps.sort();
        apps.dedup();
        apps
    }
}

/// The sample services, each on its own.
#[derive(Subcommand)]
pub enum Service {
    #[command(flatten)]
    Bookinfo(bookinfo::Command),
    #[command(flatten)]
    Fleetman(fleetman::Command),
    #[command(flatten)]
    Hello(hello::Command),
    #[command(flatten)]
    Delivery(delivery::Command),
    #[command(flatten)]
    Simple(simple::Command),
    #[command(flatten)]
    Booking(booking::Command),
    #[command(flatten)]
    Httpbin(httpbin::Command),
    #[command(flatten)]
    Userlist(userlist::Command),
    #[command(flatten)]
    Echo(echo::Command),
}

impl Service {
    /// Serves until told to stop.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Bookinfo(service) => service.run().await,
            Self::Fleetman(service) => service.run().await,
            Self::Hello(service) => service.run().await,
            Self::Delivery(service) => service.run().await,
            Self::Simple(service) => service.run().await,
            Self::Booking(service) => service.run().await,
            Self::Httpbin(service) => service.run().await,
            Self::Userlist(service) => service.run().await,
            Self::Echo(service) => service.run().await,
        }
    }
}

/// `meshdojo down`.
#[derive(Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub cluster: NameArgs,
    /// Forget the cluster's objects, keys and logs too
    #[arg(long)]
    pub purge: bool,
}

/// `meshdojo status`.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: NameArgs,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `meshdojo images`.
#[derive(Args)]
pub struct ImagesArgs {
    #[command(flatten)]
    pub cluster: NameArgs,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `meshdojo image ...`.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Let an image name stand for a program of this machine: meshdojo image map my/app -- ./server --port 8080
    Map {
        #[command(flatten)]
        cluster: NameArgs,
        /// Name of the image; with a tag only that tag, without one every tag
        image: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Write the image that clusters run as one file (an OCI archive): meshdojo image save meshdojo.tar, then kind load image-archive meshdojo.tar
    Save(k8s_image::SaveArgs),
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `meshdojo cluster`: the process that `up` starts.
#[derive(Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    pub cluster: NameArgs,
    /// Leave the terminal's session, so that closing the terminal does not stop the cluster
    #[arg(long)]
    pub detach: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Arguments::command().debug_assert();
    }
}
