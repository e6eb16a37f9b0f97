//! Judging all checks of a step, with patience: a change takes its time to reach every proxy.

use std::time::{Duration, Instant};

use crate::{
    check::Check,
    cluster::Cluster,
    judge::{Verdict, judge},
    language::Language,
};

/// Between two looks at a check that does not hold yet.
const PAUSE: Duration = Duration::from_millis(150);

/// Judges the checks in their order. Each that does not hold is tried again until `patience` is over; with
/// `to_the_end` unset the first that fails ends it.
///
/// # Errors
/// When the cluster cannot be asked.
pub async fn attempt<'a>(
    checks: &'a [Check],
    cluster: &Cluster,
    language: Language,
    patience: Duration,
    to_the_end: bool,
) -> anyhow::Result<Vec<(&'a Check, Verdict)>> {
    let deadline = Instant::now() + patience;
    let mut verdicts = Vec::new();
    for check in checks {
        let verdict = loop {
            let verdict = judge(check, cluster, language).await?;
            if matches!(verdict, Verdict::Passed(_)) || Instant::now() >= deadline {
                break verdict;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let failed = matches!(verdict, Verdict::Failed(_));
        verdicts.push((check, verdict));
        if failed && !to_the_end {
            break;
        }
    }
    Ok(verdicts)
}

/// Whether all hold.
pub fn passed(verdicts: &[(&Check, Verdict)]) -> bool {
    verdicts
        .iter()
        .all(|(_, verdict)| matches!(verdict, Verdict::Passed(_)))
}
