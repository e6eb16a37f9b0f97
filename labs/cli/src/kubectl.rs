//! `meshdojo kubectl`: the verbs of kubectl that the labs use, for machines without it.
//!
//! A client of its own, which works with any cluster and never calls another kubectl; it prints what that one prints.
//! The binary called by the name `kubectl` is this, too.
//!
//! ```text
//! words ── clap ──► verb ── kinds: what the cluster calls it ──► server: the request ──► table, output: the answer
//! ```

mod annotate;
mod api_resources;
mod apply;
mod attach;
mod auth;
mod autoscale;
mod cp;
mod create;
mod delete;
mod describe;
mod diff;
mod edit;
mod exec;
mod expose;
mod get;
mod jsonpath;
mod kinds;
mod kustomize;
mod logs;
mod manifest;
mod objects;
mod output;
mod patch;
mod pods;
mod port_forward;
mod rollout;
mod run;
mod scale;
mod server;
mod set;
mod table;
mod top;
mod version;
mod wait;

pub use table::Columns;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use server::Server;

/// The name that a link to the binary may have.
pub const NAME: &str = "kubectl";

/// The words after `meshdojo kubectl`.
#[derive(Args)]
pub struct Line {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// The words after `kubectl`, where the binary is called so.
#[derive(Parser)]
#[command(
    name = NAME,
    about = "The verbs of kubectl that the labs use, by meshdojo",
    disable_version_flag = true
)]
pub struct AsKubectl {
    /// The words.
    #[command(flatten)]
    pub line: Line,
}

/// Which cluster, and where in it.
#[derive(Args)]
pub struct Place {
    /// Namespace [default: that of the kubeconfig's context]
    #[arg(short, long, global = true, overrides_with = "namespace")]
    namespace: Option<String>,
    /// The kubeconfig file [default: KUBECONFIG, else that of the embedded cluster]
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// One of its contexts
    #[arg(long, global = true)]
    context: Option<String>,
    /// Be this user: system:serviceaccount:NAMESPACE:NAME
    #[arg(long = "as", global = true)]
    impersonate: Option<String>,
    /// and of this group
    #[arg(long = "as-group", global = true)]
    groups: Vec<String>,
}

/// The verbs, one file each.
#[derive(Subcommand)]
enum Verb {
    /// Show objects
    Get(get::GetArgs),
    /// Show an object and what happened to it
    Describe(describe::DescribeArgs),
    /// Make objects be as manifests say
    Apply(apply::ApplyArgs),
    /// Make an object
    Create(create::CreateArgs),
    /// Delete objects
    Delete(delete::DeleteArgs),
    /// Make a pod
    Run(run::RunArgs),
    /// Make a Service for an object
    Expose(expose::ExposeArgs),
    /// Change the number of replicas
    Scale(scale::ScaleArgs),
    /// Let the number of replicas follow the load
    Autoscale(autoscale::AutoscaleArgs),
    /// Status, restart, undo and history of a workload
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Change environment variables or images
    #[command(subcommand)]
    Set(set::Set),
    /// Change labels
    Label(annotate::AnnotateArgs),
    /// Change annotations
    Annotate(annotate::AnnotateArgs),
    /// Change fields
    Patch(patch::PatchArgs),
    /// Print what a container printed
    Logs(logs::LogsArgs),
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// See what a container's own process prints, and type into it
    Attach(attach::AttachArgs),
    /// Copy files to and from a container
    Cp(cp::CpArgs),
    /// Change an object in an editor
    Edit(edit::EditArgs),
    /// Show what apply would change
    Diff(diff::DiffArgs),
    /// Show what pods and nodes use
    #[command(subcommand)]
    Top(top::Top),
    /// What one may do
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Show the kinds that the cluster has
    ApiResources(api_resources::ApiResourcesArgs),
    /// Lead ports of this machine to a pod
    PortForward(port_forward::PortForwardArgs),
    /// Wait until a condition holds
    Wait(wait::WaitArgs),
    /// Print the objects of a folder with a kustomization
    Kustomize(kustomize::KustomizeArgs),
    /// Print the versions of this program and of the cluster
    Version(version::VersionArgs),
}

/// Runs one verb. What it refuses goes to stderr in kubectl's words, with exit code 1.
pub async fn run(line: Line, embedded: &Path) -> ExitCode {
    match obey(line, embedded).await {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error as kubectl does.
fn complain(error: &anyhow::Error) {
    let broken_pipe = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    });
    match error.downcast_ref::<server::Refusal>() {
        _ if broken_pipe => {}
        Some(refusal) => eprintln!("{refusal}"),
        None => eprintln!("error: {error:#}"),
    }
}

async fn obey(line: Line, embedded: &Path) -> anyhow::Result<ExitCode> {
    // This one needs no cluster.
    if let Verb::Kustomize(args) = &line.verb {
        return kustomize::run(args);
    }
    let server = Server::connect(&line.place, embedded).await?;
    let server = &server;
    match line.verb {
        Verb::Get(args) => get::run(server, args).await,
        Verb::Describe(args) => describe::run(server, args).await,
        Verb::Apply(args) => apply::run(server, args).await,
        Verb::Create(args) => create::run(server, args).await,
        Verb::Delete(args) => delete::run(server, args).await,
        Verb::Run(args) => run::run(server, args).await,
        Verb::Expose(args) => expose::run(server, args).await,
        Verb::Scale(args) => scale::run(server, args).await,
        Verb::Autoscale(args) => autoscale::run(server, args).await,
        Verb::Rollout(args) => rollout::run(server, args).await,
        Verb::Set(args) => set::run(server, args).await,
        Verb::Label(args) => annotate::run(server, args, &annotate::LABELS).await,
        Verb::Annotate(args) => annotate::run(server, args, &annotate::ANNOTATIONS).await,
        Verb::Patch(args) => patch::run(server, args).await,
        Verb::Logs(args) => logs::run(server, args).await,
        Verb::Exec(args) => exec::run(server, args).await,
        Verb::Attach(args) => attach::run(server, args).await,
        Verb::Cp(args) => cp::run(server, args).await,
        Verb::Edit(args) => edit::run(server, args).await,
        Verb::Diff(args) => diff::run(server, args).await,
        Verb::Top(top) => top::run(server, top).await,
        Verb::Auth(auth) => auth::run(server, auth).await,
        Verb::ApiResources(args) => api_resources::run(server, args).await,
        Verb::PortForward(args) => port_forward::run(server, args).await,
        Verb::Wait(args) => wait::run(server, args).await,
        Verb::Kustomize(args) => kustomize::run(&args),
        Verb::Version(args) => version::run(server, &args).await,
    }
}

/// Does the same to each, tells each refusal, and fails if there was one.
fn all_well(outcomes: impl IntoIterator<Item = anyhow::Result<()>>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        if let Err(error) = outcome {
            complain(&error);
            code = ExitCode::FAILURE;
        }
    }
    code
}
