//! `siege`: simulated users that besiege an address, and the availability that they found.
//!
//! Lines of single requests go to standard output, everything else to standard error, as siege does.

pub mod arguments;
mod report;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::connection::{Target, TargetError};
use crate::engine::{self, End, Plan};
use crate::request::{self, RequestError, Wanted};
use crate::schedule::{Budget, Rhythm};
use crate::shell::Shell;
use crate::tls::Trust;

use arguments::{Besiege, Parsed, TargetLine};
use report::Kept;

/// What servers are told is calling.
const AGENT: &str = concat!("Siege/4.0.4 (meshdojo ", env!("CARGO_PKG_VERSION"), ")");

/// Why there is no siege.
#[derive(Debug, thiserror::Error)]
enum SiegeError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Run(#[from] engine::RunError),
}

/// Runs a siege command line (without the program's name) and returns its exit status.
pub async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let besiege = match arguments::parse(arguments) {
        Ok(Parsed::Besiege(besiege)) => besiege,
        Ok(Parsed::Show(text)) => {
            shell.out.text(&text);
            return 0;
        }
        Err(message) => {
            shell.err.text(&message);
            return 1;
        }
    };
    match attack(&besiege, shell).await {
        Ok(()) => 0,
        Err(error) => {
            shell.err.line(&format!("[error] {error}"));
            1
        }
    }
}

async fn attack(besiege: &Besiege, shell: &Shell) -> Result<(), SiegeError> {
    let target = target(besiege, shell).await?;
    shell.stop_on_interrupt();
    let flags = &besiege.flags;
    let users = usize::from(flags.concurrent);
    shell.err.line("** SIEGE 4.0.4");
    shell.err.line(&format!(
        "** Preparing {users} concurrent users for battle."
    ));
    shell.err.line("The server is now under siege...");
    let line = format!("{} {}", target.method, target.uri);
    let plan = Plan {
        connections: users,
        threads: engine::threads(users, None),
        budgets: vec![Budget::Own(flags.reps)],
        rhythm: match flags.delay {
            _ if flags.benchmark => Rhythm::FlatOut,
            delay if delay.is_zero() => Rhythm::FlatOut,
            delay => Rhythm::Rest(delay),
        },
        timeout: flags.timeout,
        warm_up: false,
        close_after_error: true,
        end: End {
            after: flags.time,
            abrupt: true,
            stop: shell.stop.clone(),
        },
        seed: shell.seed,
    };
    let log = flags.verbose.then(|| shell.out.clone());
    let failures = Arc::default();
    let recorder = || {
        Kept::new(
            &line,
            log.clone(),
            Arc::clone(&failures),
            shell.stop.clone(),
        )
    };
    let finished = engine::run(target, plan, recorder, |_| true).await?;
    shell.err.line("\nLifting the server siege...");
    let mut kept = Kept::new(&line, None, Arc::clone(&failures), shell.stop.clone());
    for part in &finished.recorders {
        kept.merge(part);
    }
    if kept.gave_up() {
        shell.err.line(report::GAVE_UP);
    }
    shell
        .err
        .text(&kept.summary(finished.elapsed.max(Duration::from_millis(1))));
    Ok(())
}

async fn target(besiege: &Besiege, shell: &Shell) -> Result<Arc<Target>, SiegeError> {
    let TargetLine { url, method, body } = &besiege.target;
    let flags = &besiege.flags;
    let usual = "application/x-www-form-urlencoded";
    let content_type = flags.content_type.as_deref().unwrap_or(usual);
    let request = request::build(&Wanted {
        url,
        method: Some(method),
        headers: &flags.headers,
        agent: flags.user_agent.as_deref().unwrap_or(AGENT),
        content_type: (!body.is_empty()).then_some(content_type),
        user: None,
        body: Bytes::from(body.clone()),
    })?;
    let mut target = Target::new(request, &Trust::Anything, &shell.environment).await?;
    target.close = !flags.keep_alive;
    if target.close {
        let close = http::HeaderValue::from_static("close");
        target.headers.insert(http::header::CONNECTION, close);
    }
    Ok(Arc::new(target))
}
