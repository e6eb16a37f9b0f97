//! `fortio`: the load generator of the resilience labs, as far as the labs use it.
//!
//! The whole report goes to standard error, as fortio's does; `fortio curl` prints headers on
//! standard error and the body on standard output.

pub mod arguments;
mod curl;
mod echo;
pub mod histogram;
mod intent;
mod kept;
mod load;
mod ping;
mod report;
mod server;

use bytes::Bytes;
use http::Request;

use crate::connection::{Target, TargetError};
use crate::request::{self, RequestError, Wanted};
use crate::shell::Shell;
use crate::tls::Trust;

use arguments::Flags;

const USAGE: &str = "\
fortio load [flags] URL    send requests and report times, codes and sockets
fortio curl [flags] URL    send one request and show the answer
fortio grpcping HOST       ping a gRPC server such as fortio's own
fortio server              echo what is sent, on port 8080; answer gRPC pings on port 8079
fortio version             print the version

`fortio load -h` shows the flags.";

/// Runs a fortio command line (without the program's name) and returns its exit status.
pub async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        // What the image runs when a pod gives no arguments.
        None => ("server", arguments),
    };
    match command {
        "version" | "-version" | "--version" => {
            shell.out.line(&version());
            0
        }
        "help" | "-h" | "-help" | "--help" => {
            shell.out.line(USAGE);
            0
        }
        "server" => server::run(rest, shell).await,
        "grpcping" => ping::run(rest, shell).await,
        "load" | "curl" => match arguments::parse(rest) {
            Ok(flags) if command == "load" => load::run(&flags, shell).await,
            Ok(flags) => curl::run(&flags, shell).await,
            Err(refused) => {
                let sink = if refused.status == 0 {
                    &shell.out
                } else {
                    &shell.err
                };
                sink.text(&refused.message);
                refused.status
            }
        },
        other => {
            shell
                .err
                .line(&format!("Error: unknown command {other:?}\n{USAGE}"));
            1
        }
    }
}

/// The version that reports show: ours, since this is not fortio's own program.
fn version() -> String {
    format!("{}-meshdojo", env!("CARGO_PKG_VERSION"))
}

/// Why the target cannot be called.
#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Target(#[from] TargetError),
}

async fn target(flags: &Flags, shell: &Shell) -> Result<Target, SetUpError> {
    let body = flags.payload.clone().unwrap_or_default();
    let default_type = (!body.is_empty()).then_some("application/octet-stream");
    let request: Request<Bytes> = request::build(&Wanted {
        url: &flags.url,
        method: flags.method.as_deref(),
        headers: &flags.headers,
        agent: &format!("fortio.org/fortio-{}", version()),
        content_type: flags.content_type.as_deref().or(default_type),
        user: flags.user.as_deref(),
        body: body.into(),
    })?;
    let trust = match (&flags.cacert, flags.insecure) {
        (_, true) => Trust::Anything,
        (Some(file), false) => Trust::File(file.clone()),
        (None, false) => Trust::System,
    };
    let mut target = Target::new(request, &trust, &shell.environment).await?;
    target.close = !flags.keepalive;
    Ok(target)
}
