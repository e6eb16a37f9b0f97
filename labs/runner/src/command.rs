//! `meshdojo lab`: its arguments, and which function does what.

mod authors;
mod desk;
mod export;
mod verbs;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

use crate::{book::Book, language::Language, say};

/// Exit code: the check ran and is not passed yet.
pub const NOT_YET: u8 = 3;
/// Exit code: labs with mistakes.
pub const MISTAKES: u8 = 6;

/// `meshdojo lab`.
#[derive(Args)]
pub struct LabArgs {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
}

/// What every verb takes.
#[derive(Args)]
pub struct Options {
    /// Language of the texts [default: that of the environment]
    #[arg(long, global = true, value_enum)]
    lang: Option<Language>,
    /// Folder of the labs [default: labs/book, here or above]
    #[arg(long, global = true, env = "MESHDOJO_BOOK")]
    book: Option<PathBuf>,
    /// Context of the kubeconfig: which cluster
    #[arg(long, global = true)]
    context: Option<String>,
    /// Address of the ingress gateway [default: as its Service says]
    #[arg(long, global = true)]
    gateway: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Show all labs and how far you are
    List,
    /// Begin a lab, or go on with it: brings the cluster to its start and shows the first step
    Start {
        /// Its number or a part of its name [default: the current one, else the first]
        lab: Option<String>,
    },
    /// Show the current step
    Show,
    /// Check the current step; exit code 3: not yet
    Check,
    /// Go to the next step, if this one has passed
    Next {
        /// Go even if it has not
        #[arg(long)]
        anyway: bool,
    },
    /// Answer the question of the current step before you type its commands
    Predict {
        /// Number of the choice
        choice: usize,
    },
    /// Check again with every change, until you quit
    Watch,
    /// Show the next hint of the current step
    Hint,
    /// Let the machine type the current step
    Solve,
    /// Put the cluster back to where the current step began
    Reset,
    /// Go to a step, as if those before it were done
    Goto {
        /// Its number
        step: usize,
    },
    /// Type labs as written, each on a fresh cluster or with --context all on that one, and hold their checks against it
    Test {
        /// Which [default: the current one]
        labs: Vec<String>,
        /// Every lab
        #[arg(long, conflicts_with = "labs")]
        all: bool,
        /// So many at a time [default: one for each processor]
        #[arg(long)]
        jobs: Option<usize>,
        /// With the kubectl of this program, even where there is another
        #[arg(long)]
        own_kubectl: bool,
    },
    /// Find the mistakes in labs, with file and line
    Lint {
        /// Which [default: all]
        labs: Vec<String>,
        /// Print the JSON schema of check blocks instead
        #[arg(long)]
        schema: bool,
    },
    /// Print your progress for other programs
    Export {
        /// As what
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
    },
}

/// What other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Csv,
    Junit,
}

/// What the runner is told about this machine.
pub struct Place {
    /// Folder where progress is kept.
    pub state: PathBuf,
    /// The embedded cluster's kubeconfig, used when neither KUBECONFIG nor a context says otherwise.
    pub kubeconfig: PathBuf,
}

/// Runs a verb.
///
/// # Errors
/// When the cluster, the book or the progress cannot be read.
pub async fn run(args: LabArgs, place: Place) -> anyhow::Result<ExitCode> {
    let language = args.options.lang.unwrap_or_else(Language::of_environment);
    if let Verb::Lint { schema: true, .. } = args.verb {
        say::line(serde_json::to_string_pretty(&crate::check::schema())?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut desk = desk::Desk {
        book: Book::find(args.options.book.as_deref())?,
        keeper: crate::progress::Keeper::new(&place.state),
        language,
        kubeconfig: place.kubeconfig,
        context: args.options.context,
        gateway: args.options.gateway,
        class: None,
    };
    if !matches!(args.verb, Verb::Test { .. } | Verb::Lint { .. }) {
        desk.join_class(&place.state).await?;
    }
    match args.verb {
        Verb::List => verbs::list(&desk),
        Verb::Start { lab } => verbs::start(&desk, lab.as_deref()).await,
        Verb::Show => verbs::show(&desk).await,
        Verb::Check => verbs::check(&desk).await,
        Verb::Next { anyway } => verbs::next(&desk, anyway).await,
        Verb::Predict { choice } => verbs::predict(&desk, choice),
        Verb::Watch => watch::watch(&desk).await,
        Verb::Hint => verbs::hint(&desk),
        Verb::Solve => verbs::solve(&desk).await,
        Verb::Reset => verbs::reset(&desk).await,
        Verb::Goto { step } => verbs::goto(&desk, step).await,
        Verb::Test {
            labs,
            all,
            jobs,
            own_kubectl,
        } => authors::test(&desk, &labs, all, jobs, own_kubectl).await,
        Verb::Lint { labs, .. } => authors::lint(&desk, &labs),
        Verb::Export { format } => export::print(&desk, format),
    }
}
