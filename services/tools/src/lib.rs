//! The client tools that labs run in pods, found there by name.
//!
//! | tool | front end | what it imitates |
//! | --- | --- | --- |
//! | `fortio` | [`fortio`] | fortio's `load`, `curl` and `server` |
//! | `siege` | [`siege`] | siege 4 |
//! | `http` | [`http`] | HTTPie's everyday syntax |
//! | `nc` | [`nc`] | netcat as a client |
//! | `load` | [`load`] | nothing: our own words |
//!
//! The front ends are thin: they turn a command line into an engine's plan and what was recorded into
//! their lines. Below them:
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`engine`] | who sends when, and who keeps what of the answers? |
//! | [`schedule`] | when is the next request due? |
//! | [`connection`] | how is one request sent and answered? |
//! | [`dial`], [`tls`] | how is a connection opened? |
//! | [`route`] | straight or by a proxy? |
//! | [`request`] | what is sent? |
//! | [`shell`] | where do tools write, and what stops them? |
//!
//! All of them honour `http_proxy`, which in a pod names the door, and leave from `DOJO_LISTEN_IP`,
//! by which the door knows who calls.

pub mod connection;
pub mod dial;
pub mod engine;
pub mod fortio;
pub mod http;
pub mod load;
pub mod nc;
pub mod request;
pub mod route;
pub mod schedule;
pub mod shell;
pub mod siege;
pub mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::Shell;

/// The names that tools are found by.
pub const NAMES: [&str; 5] = ["fortio", "siege", "http", "nc", "load"];

/// A tool with its command line.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Send load and report it as fortio does: load, curl, server, version
    #[command(disable_help_flag = true)]
    Fortio(Words),
    /// Besiege an address and report its availability as siege does
    #[command(disable_help_flag = true)]
    Siege(Words),
    /// Send one request and show the answer as HTTPie does
    #[command(disable_help_flag = true)]
    Http(Words),
    /// Connect standard input and output to a TCP port as netcat does
    #[command(disable_help_flag = true)]
    Nc(Words),
    /// Send load at a rate or over a number of connections and report it
    Load(Box<load::LoadArgs>),
}

/// A command line that the tool itself reads, since its syntax is not ours.
#[derive(Clone, Debug, clap::Args)]
pub struct Words {
    /// The tool's own arguments; its --help shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Parser)]
struct LoadLine {
    #[command(flatten)]
    load: load::LoadArgs,
}

impl Command {
    /// Finds a tool by the name that it is called by, `argv[0]`, with or without a folder
    /// (`/usr/bin/fortio`). None when no tool has that name.
    ///
    /// # Errors
    /// Those of the command line of `load`, and its help; the other tools read theirs in [`run`](Self::run).
    pub fn by_name(argv: &[String]) -> Option<Result<Self, clap::Error>> {
        let (program, words) = argv.split_first()?;
        let name = program.rsplit('/').next()?;
        let words = || Words {
            words: words.to_vec(),
        };
        Some(Ok(match name {
            "fortio" => Self::Fortio(words()),
            "siege" => Self::Siege(words()),
            "http" => Self::Http(words()),
            "nc" => Self::Nc(words()),
            "load" => {
                let line = std::iter::once("load").chain(argv[1..].iter().map(String::as_str));
                match LoadLine::try_parse_from(line) {
                    Ok(line) => Self::Load(Box::new(line.load)),
                    Err(error) => return Some(Err(error)),
                }
            }
            _ => return None,
        }))
    }

    /// Runs the tool to its end; its messages are written and its exit status is that of the tool
    /// it imitates. Needs a runtime with time and input/output.
    pub async fn run(self) -> ExitCode {
        let shell = Shell::process();
        match self {
            Self::Fortio(line) => fortio::run(&line.words, &shell).await.into(),
            Self::Siege(line) => siege::run(&line.words, &shell).await.into(),
            Self::Http(line) => http::run(&line.words, &shell).await.into(),
            Self::Nc(line) => nc::run(&line.words, &shell).await.into(),
            Self::Load(args) => args.run(&shell).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(line: &str) -> Option<Result<Command, clap::Error>> {
        Command::by_name(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn tools_are_found_by_name() {
        let Some(Ok(Command::Fortio(line))) = by_name("/usr/bin/fortio load -c 1 x") else {
            panic!("fortio");
        };
        assert_eq!(line.words, ["load", "-c", "1", "x"]);
        assert!(matches!(
            by_name("siege -c1 x"),
            Some(Ok(Command::Siege(_)))
        ));
        assert!(matches!(by_name("http PUT x"), Some(Ok(Command::Http(_)))));
        assert!(matches!(by_name("/bin/nc x 1"), Some(Ok(Command::Nc(_)))));
        assert!(matches!(by_name("load -r 5 x"), Some(Ok(Command::Load(_)))));
        assert!(matches!(by_name("load"), Some(Err(_))));
        assert!(by_name("curl x").is_none());
        assert!(Command::by_name(&[]).is_none());
    }

    #[test]
    fn a_subcommand_passes_foreign_flags_on() {
        #[derive(Parser)]
        struct Line {
            #[command(subcommand)]
            command: Command,
        }
        let line = Line::parse_from([
            "tool",
            "siege",
            "-c100",
            "-t10S",
            "-v",
            "--help",
            "u POST {}",
        ]);
        let Command::Siege(words) = line.command else {
            panic!("siege");
        };
        assert_eq!(words.words, ["-c100", "-t10S", "-v", "--help", "u POST {}"]);
    }
}
