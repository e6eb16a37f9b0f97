//! Small questions about the text of a lab.

use std::collections::BTreeMap;

/// `3. Title` as number and title.
pub(super) fn numbered(heading: &str) -> Option<(usize, &str)> {
    let (number, title) = heading.split_once(". ")?;
    Some((number.parse().ok()?, title.trim()))
}

/// Whether commands change what the cluster holds.
pub(super) fn changes(commands: &str) -> bool {
    let verbs = [
        "apply",
        "delete",
        "patch",
        "scale",
        "label",
        "create",
        "expose",
        "run",
        "autoscale",
        "set",
    ];
    commands.lines().any(|line| {
        let mut words = line.split_whitespace().skip_while(|w| *w != "kubectl");
        words.next().is_some() && words.any(|word| verbs.contains(&word))
    })
}

/// The line of a path of `serde_path_to_error` in the YAML it came from, counted from 0: the last of its
/// keys that is found, each after the one before.
pub(super) fn line_within(text: &str, path: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    let mut items: BTreeMap<usize, usize> = BTreeMap::new();
    for part in path.split('.') {
        let (key, index) = part.split_once('[').map_or((part, None), |(k, i)| {
            (k, i.trim_end_matches(']').parse().ok())
        });
        if !key.is_empty() && key != "?" {
            let found = lines[at.min(lines.len())..]
                .iter()
                .position(|l| l.contains(&format!("{key}:")));
            at += found.unwrap_or(0);
        }
        if let Some(index) = index {
            // Items of a list at the indentation of its first one.
            let rest = &lines[at.min(lines.len())..];
            let indent = rest
                .iter()
                .find(|l| l.trim_start().starts_with("- "))
                .map(|l| l.len() - l.trim_start().len());
            items.clear();
            let starts = rest.iter().enumerate().filter(|(_, l)| {
                l.trim_start().starts_with("- ") && Some(l.len() - l.trim_start().len()) == indent
            });
            items.extend(starts.map(|(i, _)| i).enumerate());
            at += items.get(&index).copied().unwrap_or(0);
        }
    }
    at
}
