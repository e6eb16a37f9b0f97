//! Judging the cluster by a check: what was seen, what was expected.

mod certificate;
mod objects;
mod trace;
pub mod traffic;
mod witness;

use crate::{check::Check, cluster::Cluster, language::Language};

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; what was seen, in a line.
    Passed(String),
    /// It does not hold.
    Failed(Finding),
}

/// Why a check does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What was seen.
    pub seen: String,
    /// What was expected.
    pub expected: String,
}

impl Verdict {
    fn failed(seen: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Failed(Finding {
            seen: seen.into(),
            expected: expected.into(),
        })
    }
}

/// Judges one check, once.
///
/// # Errors
/// When the cluster cannot be asked; that a request fails is a verdict, not an error.
pub async fn judge(
    check: &Check,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    match check {
        Check::Http(check) => traffic::http(check, cluster, language).await,
        Check::Shares(check) => traffic::shares(check, cluster, language).await,
        Check::Answers(check) => traffic::answers(check, cluster, language).await,
        Check::Log(check) => witness::log(check, cluster, language).await,
        Check::Stat(check) => witness::stat(check, cluster, language).await,
        Check::Resource(check) => objects::resource(check, cluster, language).await,
        Check::Pods(check) => objects::pods(check, cluster, language).await,
        Check::Certificate(check) => certificate::certificate(check, cluster, language).await,
        Check::Trace(check) => trace::trace(check, cluster, language).await,
    }
}
