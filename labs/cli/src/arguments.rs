//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::home::{DEFAULT_NAME, cluster_name};

/// A service-mesh training lab in one binary: a cluster, a mesh and applications to learn with.
#[derive(Parser)]
#[command(name = "meshdojo", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    /// Run one sample service alone, without a cluster
    #[command(subcommand)]
    Service(bookinfo::Command),
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
    /// Applications to run; `none` for the mesh alone
    #[arg(value_enum, default_value = "bookinfo")]
    pub apps: Vec<App>,
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

/// The applications that `up` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum App {
    /// The bookstore: productpage, details, reviews v1 to v3, ratings
    Bookinfo,
    /// No application
    None,
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
