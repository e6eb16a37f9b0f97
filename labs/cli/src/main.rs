//! The `meshdojo` binary: one file for everything.
//!
//! Most verbs live in the crate that they are about; here they get their name on the command line.
//! What is the binary's own is the life of a cluster on this machine:
//!
//! ```text
//! meshdojo up ── starts ──► meshdojo cluster ── starts ──► pods: meshdojo service | proxy | control
//!    │                          ▲
//!    └── Kubernetes API ────────┘   applies k8s/install, k8s/apps, waits until they serve
//! ```
//!
//! Data goes to stdout, progress and errors to stderr. Exit codes: [`exit::Kind`].

#![expect(
    unreachable_pub,
    reason = "in a binary `pub` means: for the other modules"
)]

mod apply;
mod arguments;
mod catalogue;
mod class;
mod cluster;
mod down;
mod exit;
mod home;
mod installed;
mod kubeconfig;
mod kubectl;
mod manifests;
mod progress;
mod request;
mod status;
mod up;
mod wait;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::{CommandFactory, Parser};
use dojo_tools::shell::Shell;

fn main() -> ExitCode {
    carry_out(Arguments::parse_as_called()).unwrap_or_else(|error| exit::report(&error))
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tool(tool) => block_on(async { Ok(tool.run().await) }),
        Command::Load(load) => block_on(async { Ok(load.run(&Shell::process()).await) }),
        Command::Lab(lab) => {
            home::Home::locate().and_then(|home| block_on(lab_runner::run(*lab, lab_place(&home))))
        }
        Command::Class(args) => home::Home::locate().and_then(|home| {
            let kubeconfig = lab_place(&home).kubeconfig;
            block_on(class::run(*args, &kubeconfig))
        }),
        Command::Kubectl(line) => home::Home::locate().and_then(|home| {
            let embedded = lab_place(&home).kubeconfig;
            block_on(async { Ok(kubectl::run(*line, &embedded).await) })
        }),
        Command::Analyze(args) => home::Home::locate().and_then(|home| {
            let kubeconfig = lab_place(&home).kubeconfig;
            block_on(mesh_control::analyze::run(args, &kubeconfig))
        }),
        Command::Helm { words } => Ok(installed::say(installed::helm(&words))),
        Command::Istioctl { words } => match installed::istioctl(&words) {
            Some(answer) => Ok(installed::say(answer)),
            None => {
                let own = ["istioctl".to_owned()].into_iter().chain(words);
                carry_out(Arguments::parse_from(own).command)
            }
        },
        command => run(command).map(|()| ExitCode::SUCCESS),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let home = home::Home::locate;
    match command {
        Command::Up(args) => block_on(up::run(&home()?, args)),
        Command::Down(args) => block_on(down::run(&home()?, args)),
        Command::Status(args) => block_on(status::run(&home()?, args)),
        Command::Kubeconfig(args) => kubeconfig::print_path(&home()?, &args),
        Command::Env(args) => kubeconfig::print_env(&home()?, &args),
        Command::Images(args) => catalogue::list(&home()?, &args),
        Command::Image(command) => catalogue::image(&home()?, command),
        Command::KubeInject(args) => mesh_control::kube_inject::run(&args),
        Command::ProxyConfig(args) => {
            let kubeconfig = lab_place(&home()?).kubeconfig;
            block_on(mesh_control::proxy_config::run(args, &kubeconfig))
        }
        Command::ProxyStatus(args) => {
            let kubeconfig = lab_place(&home()?).kubeconfig;
            block_on(mesh_control::proxy_status::run(args, &kubeconfig))
        }
        Command::Explain(args) => {
            let kubeconfig = lab_place(&home()?).kubeconfig;
            block_on(mesh_control::explain::run(args, &kubeconfig))
        }
        Command::Tap(args) => {
            let kubeconfig = lab_place(&home()?).kubeconfig;
            block_on(mesh_control::tap::run(args, &kubeconfig))
        }
        Command::Certs(args) => mesh_control::certs::run(&args),
        Command::Version => {
            println!("meshdojo {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Completion { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "meshdojo", &mut std::io::stdout());
            Ok(())
        }
        Command::Crds => print_crds(),
        Command::Tool(_)
        | Command::Load(_)
        | Command::Lab(_)
        | Command::Class(_)
        | Command::Kubectl(_)
        | Command::Helm { .. }
        | Command::Istioctl { .. }
        | Command::Analyze(_) => {
            unreachable!("main runs them for their exit codes")
        }
        Command::Service(service) => block_on(service.run()),
        Command::Proxy(args) => block_on(mesh_proxy::run(args)),
        Command::Request(args) => block_on(request::run(args)),
        Command::IstioIptables(args) => Ok(mesh_redirect::run(&args)?),
        Command::Control(args) => logged(mesh_control::run(args)),
        Command::Cluster(args) => cluster::run(args),
        Command::ContainerShim { arguments } => Ok(k8s_embedded::runtime::shim::run(arguments)?),
    }
}

/// Where the labs find the cluster and keep the progress.
fn lab_place(home: &home::Home) -> lab_runner::Place {
    let name = std::env::var("MESHDOJO_NAME").unwrap_or_else(|_| home::DEFAULT_NAME.into());
    lab_runner::Place {
        state: home.labs(),
        kubeconfig: home.cluster(&name).kubeconfig(),
    }
}

/// Runs a verb on one thread: none of them needs more, and each thread costs memory in every pod.
fn block_on<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(verb)
}

/// What is logged when `RUST_LOG` does not say. kube's client repeats each error that we tell of ourselves.
const LOGGED: &str = "info,kube_client::client::builder=off";

/// The same for what runs in the background: events go to stderr, filtered by `RUST_LOG`.
fn logged<T>(verb: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let given = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse_lossy(if given.is_empty() { LOGGED } else { &given });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    block_on(verb)
}

fn print_crds() -> anyhow::Result<()> {
    for crd in mesh_api::crds() {
        println!("---\n{}", serde_norway::to_string(&crd)?.trim_end());
    }
    Ok(())
}
