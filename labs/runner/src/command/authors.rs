//! The verbs for those who write labs: `test` and `lint`.

use std::{cmp::Reverse, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use super::{MISTAKES, NOT_YET, desk::Desk};
use crate::{
    lint as linting,
    rehearse::{self, Stages},
    say,
};

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

pub(super) async fn test(
    desk: &Desk,
    meant: &[String],
    all: bool,
    jobs: Option<usize>,
    own_kubectl: bool,
) -> anyhow::Result<ExitCode> {
    let mut labs = if all {
        desk.book.labs(desk.language)?
    } else if meant.is_empty() {
        vec![desk.current()?.0]
    } else {
        meant
            .iter()
            .map(|lab| desk.book.lab(lab, desk.language))
            .collect::<Result<_, _>>()?
    };
    // Long ones begin first, so that none of them is left alone at the end.
    labs.sort_by_key(|lab| Reverse(lab.steps.len()));
    let stages = match &desk.context {
        None => Stages::Own,
        Some(context) => Stages::Given {
            context: context.clone(),
            gateway: desk.gateway.clone(),
        },
    };
    let jobs = match stages {
        Stages::Own => {
            jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
        }
        Stages::Given { .. } => 1,
    };
    let rehearsal = rehearse::rehearse_all(
        &desk.book,
        stages,
        labs,
        jobs,
        desk.language,
        own_kubectl,
        |rehearsal| {
            let mark = if rehearsal.error.is_none() {
                "✓"
            } else {
                "✗"
            };
            say::line(format!(
                "{mark} {} ({:.1} s)",
                rehearsal.id,
                rehearsal.time.as_secs_f64()
            ))?;
            for line in &rehearsal.lines {
                say::line(format!("    {line}"))?;
            }
            if let Some(error) = &rehearsal.error {
                say::line(format!("    {}", error.replace('\n', "\n    ")))?;
            }
            Ok(())
        },
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let well = tokio::select! {
        well = rehearsal => well?,
        // Given up; the clusters go with the rehearsal.
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    Ok(ExitCode::from(if well { 0 } else { NOT_YET }))
}

pub(super) fn lint(desk: &Desk, meant: &[String]) -> anyhow::Result<ExitCode> {
    let folders = desk.book.folders()?;
    let chosen = folders.iter().filter(|folder| {
        let id = folder.file_name().unwrap_or_default().to_string_lossy();
        meant.is_empty() || meant.iter().any(|m| id.contains(m.as_str()))
    });
    let mut count = 0;
    for folder in chosen {
        for mistake in linting::lint(folder) {
            say::line(format!("{mistake}"))?;
            count += 1;
        }
    }
    Ok(ExitCode::from(if count == 0 { 0 } else { MISTAKES }))
}
