//! Lines of `Key:  value`, each group of them aligned.

use jiff::{Timestamp, fmt::strtime};
use serde_json::Value;

/// A description as it grows.
#[derive(Default)]
pub struct Page {
    lines: Vec<(String, Option<String>)>,
    indent: usize,
}

impl Page {
    /// `Key:  value`.
    pub fn line(&mut self, key: &str, value: &str) {
        let blanks = " ".repeat(self.indent);
        self.lines
            .push((format!("{blanks}{key}:"), Some(value.to_owned())));
    }

    /// `Key:` with its first value, the others below it.
    pub fn lines(&mut self, key: &str, values: &[String]) {
        let (first, rest) = match values.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => ("<none>", values),
        };
        self.line(key, first);
        for value in rest {
            self.lines.push((String::new(), Some(value.clone())));
        }
    }

    /// `Key:` alone; it ends the group.
    pub fn title(&mut self, key: &str) {
        let blanks = " ".repeat(self.indent);
        self.lines.push((format!("{blanks}{key}:"), None));
    }

    /// What `inner` writes stands further in.
    pub fn within(&mut self, inner: impl FnOnce(&mut Self)) {
        self.indent += 2;
        inner(self);
        self.indent -= 2;
    }

    /// A text of its own.
    pub fn text_line(&mut self, text: &str) {
        let blanks = " ".repeat(self.indent);
        self.lines.push((format!("{blanks}{text}"), None));
    }

    /// Rows below headings that are underlined.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) {
        let mut all: Vec<Vec<String>> = vec![
            headings.iter().map(ToString::to_string).collect(),
            headings
                .iter()
                .map(|heading| "-".repeat(heading.len().max(4)))
                .collect(),
        ];
        all.extend(rows.iter().cloned());
        let width = |column: usize| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        for row in &all {
            let mut line = String::from("  ");
            for (i, cell) in row.iter().enumerate() {
                let width = if i + 1 < row.len() { widths[i] } else { 0 };
                line.push_str(&format!("{cell:<width$}"));
            }
            self.lines.push((line, None));
        }
    }

    /// A field of any kind, its name spelled out: `trafficPolicy` as `Traffic Policy`.
    pub fn fields(&mut self, key: &str, value: &Value) {
        let title = spelled_out(key);
        match value {
            Value::Object(map) if map.is_empty() => self.title(&title),
            Value::Object(map) => {
                self.title(&title);
                let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
                pairs.sort_by_key(|(key, _)| *key);
                self.within(|page| {
                    pairs
                        .iter()
                        .for_each(|(key, value)| page.fields(key, value))
                });
            }
            Value::Array(items) => {
                self.title(&title);
                self.within(|page| {
                    for item in items {
                        match item {
                            Value::Object(map) => {
                                let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
                                pairs.sort_by_key(|(key, _)| *key);
                                pairs
                                    .iter()
                                    .for_each(|(key, value)| page.fields(key, value));
                            }
                            other => page.text_line(&plain(other)),
                        }
                    }
                });
            }
            other => self.line(&title, &plain(other)),
        }
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut group = 0;
        while group < self.lines.len() {
            let rest = &self.lines[group..];
            let length = rest.iter().take_while(|(_, value)| value.is_some()).count();
            if length == 0 {
                out.push_str(&rest[0].0);
                out.push('\n');
                group += 1;
                continue;
            }
            let keys = rest[..length].iter().map(|(key, _)| key.chars().count());
            let width = keys.max().unwrap_or(0) + 2;
            for (key, value) in &rest[..length] {
                let value = value.as_deref().unwrap_or_default();
                out.push_str(format!("{key:<width$}{value}").trim_end());
                out.push('\n');
            }
            group += length;
        }
        out
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn spelled_out(key: &str) -> String {
    if matches!(key, "uid" | "ip" | "ips") {
        return key.to_uppercase();
    }
    let mut out = String::new();
    let mut before = ' ';
    for c in key.chars() {
        if out.is_empty() {
            out.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() && !before.is_uppercase() {
                out.push(' ');
            }
            out.push(c);
        }
        before = c;
    }
    out
}

/// The pairs of a map by their keys, each with `between` in its middle.
pub fn map(map: &Value, between: &str) -> Vec<String> {
    let pairs = map.as_object().into_iter().flatten();
    let mut pairs: Vec<(&String, &Value)> = pairs.collect();
    pairs.sort_by_key(|(key, _)| *key);
    let pair = |(key, value): (&String, &Value)| format!("{key}{between}{}", plain(value));
    pairs.into_iter().map(pair).collect()
}

/// Annotations: a long one stands below its key, and not whole.
pub fn annotations(annotations: &Value) -> Vec<String> {
    const LONGEST: usize = 140;
    let mut lines = Vec::new();
    for line in map(annotations, ": ") {
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        if line.len() <= LONGEST && !value.contains('\n') {
            lines.push(line);
            continue;
        }
        lines.push(format!("{key}:"));
        for part in value.trim_end().lines() {
            let cut: String = part.chars().take(LONGEST).collect();
            let more = if cut.len() < part.len() { "..." } else { "" };
            lines.push(format!("  {cut}{more}"));
        }
    }
    lines
}

/// A time as `describe` shows it.
pub fn time(text: &str) -> String {
    let shown = text.parse::<Timestamp>().ok().and_then(|time| {
        strtime::format(
            "%a, %d %b %Y %H:%M:%S %z",
            &time.to_zoned(jiff::tz::TimeZone::system()),
        )
        .ok()
    });
    shown.unwrap_or_else(|| text.to_owned())
}

/// How long ago a time was: `5s`, `2m10s`, `3h`.
pub fn age(text: &str) -> String {
    let Ok(time) = text.parse::<Timestamp>() else {
        return String::new();
    };
    short(Timestamp::now().duration_since(time).as_secs().max(0))
}

fn short(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_aligned_each_for_itself() {
        let mut page = Page::default();
        page.line("Name", "a");
        page.lines("Labels", &map(&json!({ "b": "2", "a": "1" }), "="));
        page.fields("trafficPolicy", &json!({ "hosts": ["x"], "tlsMode": "y" }));
        page.table(&["Type", "Age"], &[vec!["Normal".into(), "5s".into()]]);
        assert_eq!(
            page.text(),
            "Name:    a\nLabels:  a=1\n         b=2\nTraffic Policy:\n  Hosts:\n    x\n  Tls Mode:  y\n  Type    Age\n  ----    ----\n  Normal  5s\n"
        );
    }

    #[test]
    fn ages_are_short() {
        for (seconds, shown) in [
            (5, "5s"),
            (130, "2m10s"),
            (700, "11m"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (200_000, "2d"),
        ] {
            assert_eq!(short(seconds), shown);
        }
    }
}
