//! `meshdojo class`: a class of students on one cluster, real or embedded.
//!
//! ```text
//! roster, options ──► objects (pure) ──► apply ──► a namespace per student
//!                                          │
//!                                          └─► a kubeconfig file per student, with a token that expires
//! labs of the students ──► ConfigMap lab-progress in each namespace ──► status, export
//! ```
//!
//! What a student's labs read and write in the namespace is `lab_runner::class`.

mod broadcast;
mod connect;
mod create;
mod credentials;
mod delete;
mod follow;
mod objects;
mod preflight;
mod quantity;
mod reset;
mod roster;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

use crate::arguments::{Choice, Output};
use connect::Connection;

/// `meshdojo class`.
#[derive(Args)]
pub struct ClassArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Context of the kubeconfig: which cluster
    #[arg(long, global = true)]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Say whether the cluster can take the class: version, mesh, permissions, room, image
    Preflight(ClassSize),
    /// Make, or complete, a namespace, an account and a kubeconfig file for each student
    Create(CreateArgs),
    /// Show how far each student is
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
        /// Print again with every change, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Print all progress, step by step, for other programs
    Export {
        /// As what
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
    },
    /// Say something to everybody: their next `meshdojo lab` shows it
    Broadcast {
        /// What; empty: nothing any more
        message: String,
    },
    /// Delete what students made, and their progress, and put back what they began with
    Reset {
        /// Who
        #[arg(required_unless_present = "all")]
        users: Vec<String>,
        /// Everybody
        #[arg(long, conflicts_with = "users")]
        all: bool,
    },
    /// Serve a page where each student fetches the own kubeconfig, once, with a PIN
    Serve(serve::ServeArgs),
    /// Delete the class: every namespace, account and rule of it
    Delete {
        /// Seconds to wait until the namespaces are gone
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
}

/// Who is in the class, and what each may use.
#[derive(Args, Clone, Debug)]
struct ClassSize {
    /// So many students: student-01, student-02, ...
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=999), conflicts_with = "roster", required_unless_present = "roster")]
    students: Option<u16>,
    /// A file with a student on each line; of several columns the first counts
    #[arg(long)]
    roster: Option<PathBuf>,
    /// Applications in each namespace
    #[arg(long, value_enum, value_delimiter = ',')]
    apps: Vec<Choice>,
    /// CPU that a student's pods may ask for together
    #[arg(long, default_value = "500m", value_parser = quantity::checked)]
    cpu: String,
    /// Memory that a student's pods may ask for together
    #[arg(long, default_value = "1Gi", value_parser = quantity::checked)]
    memory: String,
    /// Pods of a student
    #[arg(long, default_value_t = 30)]
    pods: u32,
}

/// `meshdojo class create`.
#[derive(Args, Clone, Debug)]
struct CreateArgs {
    #[command(flatten)]
    size: ClassSize,
    /// Hosts of students are STUDENT.DOMAIN; its names must lead to the ingress gateway [default: localhost, on the embedded cluster]
    #[arg(long, value_parser = roster::domain)]
    domain: Option<String>,
    /// Folder for the kubeconfig files
    #[arg(long, default_value = "class")]
    out: PathBuf,
    /// Hours for which the students' tokens are good
    #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=8760))]
    token_hours: u32,
    /// Address of the API server for students [default: that of your kubeconfig]
    #[arg(long)]
    server: Option<String>,
    /// Address of the ingress gateway [default: as its Service says]
    #[arg(long)]
    gateway: Option<String>,
}

/// What other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Csv,
}

/// Runs a verb. `embedded` is the kubeconfig of the embedded cluster, used when neither KUBECONFIG nor a context says otherwise.
///
/// # Errors
/// When the cluster cannot be asked or refuses, or the roster cannot be read.
pub async fn run(args: ClassArgs, embedded: &std::path::Path) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(embedded, args.context.as_deref()).await?;
    match args.verb {
        Verb::Preflight(size) => return preflight::run(&connection, &size).await,
        Verb::Create(args) => create::run(&connection, &args).await,
        Verb::Status {
            output,
            watch: false,
        } => follow::status(&connection, output).await,
        Verb::Status { output, .. } => follow::watch(&connection, output).await,
        Verb::Export { format } => follow::export(&connection, format).await,
        Verb::Broadcast { message } => broadcast::run(&connection, &message).await,
        Verb::Reset { users, .. } => reset::run(&connection, &users).await,
        Verb::Serve(args) => serve::run(&connection, &args).await,
        Verb::Delete { timeout } => delete::run(&connection, timeout).await,
    }?;
    Ok(ExitCode::SUCCESS)
}
