//! Rows and columns as kubectl prints them.

use std::fmt::Write as _;

use serde_json::Value;

/// What is shown beside the server's columns.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Columns of less importance too.
    pub wide: bool,
    /// Each object's namespace, before everything else.
    pub namespaces: bool,
    /// All labels, as the last column.
    pub labels: bool,
    /// A column for each of these labels.
    pub label_columns: Vec<String>,
    /// Before each name, with a slash: `deployment.apps`.
    pub prefix: Option<String>,
}

/// The headings and rows of a server's Table.
pub fn rows(table: &Value, style: &Style) -> (Vec<String>, Vec<Vec<String>>) {
    let columns: Vec<&Value> = list(&table["columnDefinitions"]).collect();
    let shown = |column: &Value| style.wide || column["priority"].as_i64().unwrap_or(0) == 0;
    let headings = columns
        .iter()
        .filter(|column| shown(column))
        .map(|column| text(&column["name"]).to_uppercase());
    let name_column = columns
        .iter()
        .position(|c| c["format"] == "name")
        .unwrap_or(0);
    let row = |row: &Value| {
        let metadata = &row["object"]["metadata"];
        let cells = list(&row["cells"]).enumerate();
        let mut cells: Vec<String> = cells
            .filter(|(i, _)| columns.get(*i).is_some_and(|column| shown(column)))
            .map(|(i, cell)| match &style.prefix {
                Some(prefix) if i == name_column => format!("{prefix}/{}", text(cell)),
                _ => text(cell),
            })
            .collect();
        if style.namespaces {
            cells.insert(0, text(&metadata["namespace"]));
        }
        let or_none = |value: &Value| match text(value) {
            empty if empty.is_empty() => "<none>".to_owned(),
            text => text,
        };
        for key in &style.label_columns {
            cells.push(text(&metadata["labels"][key]));
        }
        if style.labels {
            let pairs = metadata["labels"].as_object().into_iter().flatten();
            let mut pairs: Vec<String> = pairs.map(|(k, v)| format!("{k}={}", text(v))).collect();
            // As texts: `app.x=1` comes before `app=1`.
            pairs.sort();
            cells.push(or_none(&pairs.join(",").into()));
        }
        cells
    };
    let mut headings: Vec<String> = headings.collect();
    if style.namespaces {
        headings.insert(0, "NAMESPACE".into());
    }
    for key in &style.label_columns {
        headings.push(key.rsplit('/').next().unwrap_or(key).to_uppercase());
    }
    if style.labels {
        headings.push("LABELS".into());
    }
    (headings, list(&table["rows"]).map(row).collect())
}

/// Columns beside each other: three blanks between them, none narrower than six with its blanks.
#[derive(Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// The lines. Columns never get narrower from call to call, so that those of a watch stand below each other.
    pub fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (i, cell) in row.iter().enumerate() {
                let width = (cell.chars().count() + 3).max(6);
                match self.widths.get_mut(i) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in rows {
            for (i, cell) in row.iter().enumerate() {
                let width = if i + 1 < row.len() { self.widths[i] } else { 0 };
                // Writing to a String does not fail.
                let _ = write!(out, "{cell:<width$}");
            }
            out.push('\n');
        }
        out
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_and_rows_are_those_that_were_asked_for() {
        let table = json!({
            "columnDefinitions": [
                { "name": "Name", "format": "name", "priority": 0 },
                { "name": "Ready", "priority": 0 },
                { "name": "IP", "priority": 1 },
            ],
            "rows": [{
                "cells": ["a", "1/1", "127.0.0.1"],
                "object": { "metadata": { "namespace": "default", "labels": { "b": "2", "a": "1" } } },
            }],
        });
        let print = |style: &Style| {
            let (headings, rows) = rows(&table, style);
            Columns::default().lines(&[vec![headings], rows].concat())
        };
        assert_eq!(print(&Style::default()), "NAME   READY\na      1/1\n");
        let all = Style {
            wide: true,
            namespaces: true,
            labels: true,
            prefix: Some("pod".into()),
            ..Style::default()
        };
        assert_eq!(
            print(&all),
            "NAMESPACE   NAME    READY   IP          LABELS\ndefault     pod/a   1/1     127.0.0.1   a=1,b=2\n"
        );
    }

    #[test]
    fn columns_of_a_watch_stand_below_each_other() {
        let row = |cells: [&str; 2]| vec![cells.map(str::to_owned).to_vec()];
        let mut columns = Columns::default();
        assert_eq!(
            columns.lines(&row(["longer-name", "x"])),
            "longer-name   x\n"
        );
        assert_eq!(columns.lines(&row(["a", "y"])), "a             y\n");
    }
}
