//! What the runner says, in both languages.

use std::fmt::Write as _;

use crate::{judge::Finding, language::Language};

/// A check that does not hold: what was seen, what was expected, the likeliest causes.
pub fn finding(finding: &Finding, causes: &[String], language: Language) -> String {
    let mut text = format!(
        "  {}: {}\n  {}: {}",
        language.pick("seen", "실제"),
        finding.seen,
        language.pick("expected", "기대"),
        finding.expected
    );
    for (i, cause) in causes.iter().enumerate() {
        let label = match i {
            0 => language.pick("likely cause", "유력한 원인"),
            _ => language.pick("or", "또는"),
        };
        let _ = write!(text, "\n  {label}: {cause}");
    }
    text
}

/// Prints a line of output. That nobody reads it is told by an error of the kind `BrokenPipe`, not by a panic.
///
/// # Errors
/// When it cannot be written.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(Into::into)
}

/// `▓▓▓░░░ 3/6`
pub fn bar(done: usize, all: usize) -> String {
    format!(
        "{}{} {done}/{all}",
        "▓".repeat(done),
        "░".repeat(all.saturating_sub(done))
    )
}
