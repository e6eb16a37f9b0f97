//! `fortio load`: the run.

use std::sync::Arc;

use crate::engine::{self, End, Plan, RunError, WarmUpError};
use crate::schedule::{Budget, Rhythm};
use crate::shell::Shell;

use super::arguments::{Flags, Level};
use super::intent::intent;
use super::kept::Kept;
use super::report;

/// Runs and reports. 0 unless there was no run.
pub(super) async fn run(flags: &Flags, shell: &Shell) -> u8 {
    let target = match super::target(flags, shell).await {
        Ok(target) => Arc::new(target),
        Err(error) => {
            shell.err.line(&format!("Error: {error}"));
            return 1;
        }
    };
    shell.stop_on_interrupt();
    let intent = intent(flags);
    let exact = flags.calls > 0;
    let rate = intent.interval.map(|_| flags.qps);
    let threads = match flags.threads {
        0 => engine::threads(intent.connections, rate),
        asked => usize::from(asked).min(intent.connections),
    };
    shell.err.text(&report::opening(flags, &intent, threads));
    let budgets = (0..intent.connections).map(|index| {
        let more = if index == 0 { intent.left_over } else { 0 };
        Budget::Own(intent.each.map(|each| each + more))
    });
    let plan = Plan {
        connections: intent.connections,
        threads,
        budgets: budgets.collect(),
        rhythm: match intent.interval {
            None => Rhythm::FlatOut,
            Some(interval) => Rhythm::Every {
                interval,
                jitter: if flags.jitter { 0.1 } else { 0.0 },
            },
        },
        timeout: flags.timeout,
        warm_up: !exact,
        close_after_error: true,
        end: End {
            after: intent.time,
            abrupt: false,
            stop: shell.stop.clone(),
        },
        seed: shell.seed,
    };
    let log = (!flags.quiet && flags.loglevel <= Level::Warning).then(|| shell.err.clone());
    let recorder = || Kept::new(flags.resolution, log.clone());
    let allow = |_: &WarmUpError| flags.allow_initial_errors;
    match engine::run(target, plan, recorder, allow).await {
        Ok(finished) => {
            let warm_ups = if exact { 0 } else { intent.connections };
            shell
                .err
                .text(&report::closing(flags, &intent, &finished, warm_ups));
            0
        }
        Err(RunError::WarmUp(WarmUpError::Status { status, bytes })) => {
            let url = &flags.url;
            shell.err.line(&format!(
                "Aborting because of error {status} for {url} ({bytes} bytes)"
            ));
            1
        }
        Err(error) => {
            shell
                .err
                .line(&format!("Aborting because of {error} for {}", flags.url));
            1
        }
    }
}
