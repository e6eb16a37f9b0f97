//! `get`.

use std::{io::Write as _, process::ExitCode};

use clap::Args;
use futures::{StreamExt, stream};
use kube::core::WatchEvent;
use serde_json::Value;

use super::{
    all_well,
    jsonpath::Template,
    kinds::{Kind, Kinds},
    objects::{Meant, Selection, meant},
    output::{self, Output},
    server::{self, Server, TABLES},
    table::{Columns, Style, rows},
};

/// `kubectl get`.
#[derive(Args)]
pub struct GetArgs {
    /// TYPE, TYPE NAME... or TYPE/NAME...
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Those of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// wide, yaml, json, name or jsonpath=TEMPLATE
    #[arg(short, long)]
    output: Option<Output>,
    /// Go on and show every change
    #[arg(short, long)]
    watch: bool,
    /// Without the line of headings
    #[arg(long)]
    no_headers: bool,
    /// A column with all labels
    #[arg(long)]
    show_labels: bool,
    /// A column for each of these labels
    #[arg(short = 'L', long, value_delimiter = ',')]
    label_columns: Vec<String>,
    /// In the order of this field: .metadata.creationTimestamp
    #[arg(long, conflicts_with = "watch")]
    sort_by: Option<Template>,
    /// Not an error when an object that was named is not there
    #[arg(long)]
    ignore_not_found: bool,
}

/// What an object is sorted by: numbers as such, before texts.
#[derive(PartialEq, PartialOrd)]
enum Rank {
    Number(f64),
    Text(String),
}

impl Rank {
    fn of(object: &Value, by: &Template) -> Self {
        // a field that is not there is an empty text
        let text = by.fill(object).unwrap_or_default();
        match text.parse() {
            Ok(number) => Self::Number(number),
            Err(_) => Self::Text(text),
        }
    }

    /// Puts objects, found by `object` in each of `items`, in order.
    fn sort<T>(items: &mut [T], by: &Template, object: impl Fn(&T) -> &Value) {
        items.sort_by(|a, b| {
            let (a, b) = (Self::of(object(a), by), Self::of(object(b), by));
            a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
        });
    }
}

impl GetArgs {
    fn style(&self) -> Style {
        Style {
            wide: matches!(self.output, Some(Output::Table { wide: true })),
            namespaces: self.all_namespaces,
            labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            prefix: None,
        }
    }

    /// Where the objects of a kind are listed.
    fn list_path(&self, server: &Server, kind: &Kind) -> String {
        let namespace = (!self.all_namespaces).then_some(server.namespace.as_str());
        let path = kind.path(namespace) + &self.selection.query();
        // A row has no more of its object than the metadata, if one does not ask.
        match self.sort_by {
            Some(_) if path.contains('?') => path + "&includeObject=Object",
            Some(_) => path + "?includeObject=Object",
            None => path,
        }
    }
}

/// Shows objects.
pub async fn run(server: &Server, args: GetArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let meant = meant(&kinds, &args.words)?;
    if args.watch {
        return watch(server, &args, meant).await;
    }
    match &args.output {
        None | Some(Output::Table { .. }) => in_tables(server, &args, meant).await,
        Some(output) => whole(server, &args, meant, output).await,
    }
}

/// A part of the answer: a kind, and the objects of it that were found.
type Part = (Kind, anyhow::Result<Value>);

/// Asks for all that is meant, in order.
async fn ask(server: &Server, args: &GetArgs, meant: Meant, accept: &str) -> Vec<Part> {
    let paths: Vec<(Kind, String)> = match meant {
        Meant::All(kinds) => {
            let path = |kind: Kind| {
                let path = args.list_path(server, &kind);
                (kind, path)
            };
            kinds.into_iter().map(path).collect()
        }
        Meant::Named(named) => {
            let path = |(kind, name): (Kind, String)| {
                let path = kind.path_of(&server.namespace, &name);
                (kind, path)
            };
            named.into_iter().map(path).collect()
        }
    };
    stream::iter(paths)
        .map(|(kind, path)| async move {
            let answer = server.get_as(&path, accept).await;
            (kind, answer)
        })
        .buffered(8)
        .collect()
        .await
}

async fn in_tables(server: &Server, args: &GetArgs, meant: Meant) -> anyhow::Result<ExitCode> {
    let listed = matches!(meant, Meant::All(_));
    let parts = ask(server, args, meant, TABLES).await;
    let several = parts.windows(2).any(|pair| pair[0].0 != pair[1].0);
    let mut refused = Vec::new();
    // The rows of one kind stand in one table.
    let mut tables: Vec<(Kind, Vec<String>, Vec<Vec<String>>)> = Vec::new();
    for (kind, answer) in parts {
        match answer {
            Ok(mut table) => {
                if let (Some(by), Some(rows)) = (&args.sort_by, table["rows"].as_array_mut()) {
                    Rank::sort(rows, by, |row| &row["object"]);
                }
                let style = Style {
                    prefix: several.then(|| kind.title()),
                    namespaces: args.all_namespaces && kind.namespaced,
                    ..args.style()
                };
                let (headings, found) = rows(&table, &style);
                match tables.last_mut() {
                    Some((last, _, known)) if *last == kind => known.extend(found),
                    _ => tables.push((kind, headings, found)),
                }
            }
            Err(error) if args.ignore_not_found && server::is_not_found(&error) => {}
            Err(error) => refused.push(Err(error)),
        }
    }
    tables.retain(|(_, _, found)| !found.is_empty());
    let mut out = std::io::stdout().lock();
    for (i, (_, headings, found)) in tables.iter().enumerate() {
        let mut lines = found.clone();
        if !args.no_headers {
            lines.insert(0, headings.clone());
        }
        let gap = if i > 0 { "\n" } else { "" };
        write!(out, "{gap}{}", Columns::default().lines(&lines))?;
    }
    if tables.is_empty() && refused.is_empty() && listed {
        nothing(server, args);
    }
    Ok(all_well(refused))
}

fn nothing(server: &Server, args: &GetArgs) {
    if args.all_namespaces {
        eprintln!("No resources found");
    } else {
        eprintln!("No resources found in {} namespace.", server.namespace);
    }
}

async fn whole(
    server: &Server,
    args: &GetArgs,
    meant: Meant,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let alone = matches!(&meant, Meant::Named(named) if named.len() == 1);
    let parts = ask(server, args, meant, server::OBJECTS).await;
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for (kind, answer) in parts {
        match answer {
            Ok(mut answer) if answer["items"].is_array() => {
                let items = answer["items"].take();
                for mut item in items.as_array().cloned().unwrap_or_default() {
                    item["apiVersion"] = kind.api_version().into();
                    item["kind"] = kind.kind.clone().into();
                    found.push((kind.clone(), item));
                }
            }
            Ok(object) => found.push((kind, object)),
            Err(error) if args.ignore_not_found && server::is_not_found(&error) => {}
            Err(error) => refused.push(Err(error)),
        }
    }
    if let Some(by) = &args.sort_by {
        Rank::sort(&mut found, by, |(_, object)| object);
    }
    if refused.is_empty() || !found.is_empty() {
        let text = output::print(output, &found, alone && found.len() == 1)?;
        std::io::stdout().lock().write_all(text.as_bytes())?;
    }
    Ok(all_well(refused))
}

/// Shows what is there, and then each change until the server or the student ends it.
async fn watch(server: &Server, args: &GetArgs, meant: Meant) -> anyhow::Result<ExitCode> {
    let (kind, path) = match meant {
        Meant::All(kinds) if kinds.len() == 1 => {
            let path = args.list_path(server, &kinds[0]);
            (kinds[0].clone(), path)
        }
        Meant::Named(named) if named.len() == 1 => {
            let (kind, name) = named[0].clone();
            let selection = Selection {
                fields: Some(format!("metadata.name={name}")),
                labels: None,
            };
            let path = kind.path(Some(&server.namespace)) + &selection.query();
            (kind, path)
        }
        _ => anyhow::bail!("you may only specify a single resource type"),
    };
    let tables = matches!(&args.output, None | Some(Output::Table { .. }));
    let accept = if tables { TABLES } else { server::OBJECTS };
    let style = args.style();
    let mut columns = Columns::default();
    let mut headed = args.no_headers;
    let mut known = Value::Null;
    // Without a version the server begins with what is there.
    let mut events = std::pin::pin!(server.watch(&path, accept).await?);
    while let Some(event) = events.next().await {
        let mut object = match event? {
            WatchEvent::Added(object)
            | WatchEvent::Modified(object)
            | WatchEvent::Deleted(object) => object,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
        };
        let text = match &args.output {
            Some(output) if !tables => output::print(output, &[(kind.clone(), object)], true)?,
            _ => {
                // Only the first event names the columns.
                let definitions = &mut object["columnDefinitions"];
                if definitions
                    .as_array()
                    .is_some_and(|columns| !columns.is_empty())
                {
                    known = definitions.clone();
                } else {
                    *definitions = known.clone();
                }
                let (headings, found) = rows(&object, &style);
                let mut lines = Vec::new();
                if !std::mem::replace(&mut headed, true) {
                    lines.push(headings);
                }
                lines.extend(found);
                columns.lines(&lines)
            }
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        get: GetArgs,
    }

    #[test]
    fn words_are_read_as_students_type_them() {
        let line = "get deploy,pod -o wide -l app=a --show-labels -A";
        let args = Line::parse_from(line.split(' ')).get;
        let style = args.style();
        assert!(style.wide && style.namespaces && style.labels);
        assert_eq!(args.words, ["deploy,pod"]);
        assert!(Line::try_parse_from("get pods -o text".split(' ')).is_err());
    }

    #[test]
    fn objects_are_sorted_by_a_field() {
        let mut all = [
            json!({ "n": 10, "t": "b" }),
            json!({ "n": 9, "t": "c" }),
            json!({ "t": "a" }),
        ];
        let mut by = |path: &str| {
            Rank::sort(&mut all, &path.parse().unwrap(), |object| object);
            all.each_ref()
                .map(|object| object["t"].as_str().unwrap().to_owned())
        };
        assert_eq!(by(".t"), ["a", "b", "c"]);
        assert_eq!(by("{.n}"), ["c", "b", "a"]);
    }
}
