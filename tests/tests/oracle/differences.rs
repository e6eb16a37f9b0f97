//! The table of known differences, `mesh/DIFFERENCES.md`: what it lists may differ, and must.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

/// A row of the table.
struct Row {
    /// Of what is compared: `answer.header.server`; `*` stands for anything.
    what: String,
    /// Of the cases in which; none: all.
    cases: Vec<String>,
    seen: bool,
}

/// All rows.
pub(crate) struct Differences(Mutex<Vec<Row>>);

impl Differences {
    /// Reads the rows whose first cell is code: `` | `WHAT` in `CASE`, `CASE` | reason | ``.
    ///
    /// # Panics
    /// When there is no such file.
    pub(crate) fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let rows = text.lines().filter_map(|line| {
            let cell = line.strip_prefix("| `")?.split(" | ").next()?;
            let mut words = cell
                .split('`')
                .filter(|word| !matches!(word.trim(), "" | "in" | ","));
            Some(Row {
                what: words.next()?.to_owned(),
                cases: words.map(str::to_owned).collect(),
                seen: false,
            })
        });
        Self(Mutex::new(rows.collect()))
    }

    /// Whether a difference is listed.
    pub(crate) fn lists(&self, case: &str, what: &str) -> bool {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = false;
        for row in rows.iter_mut() {
            let here = row.cases.is_empty() || row.cases.iter().any(|one| matches(one, case));
            if here && matches(&row.what, what) {
                row.seen = true;
                found = true;
            }
        }
        found
    }

    /// Rows that no case has shown.
    pub(crate) fn stale(&self) -> Vec<String> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = rows.iter().filter(|row| !row.seen);
        stale
            .map(|row| format!("`{}` in {:?}", row.what, row.cases))
            .collect()
    }
}

/// `*` stands for anything, even for nothing.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
