//! `describe`: an object, what is said about it, and what happened to it.

mod page;
mod pod;
mod service;

use std::{io::Write as _, process::ExitCode};

use clap::Args;
use serde_json::Value;

use super::{
    kinds::Kind,
    objects::{self, Selection, name, namespace},
    server::Server,
};
use page::{Page, age, annotations, map};

/// `kubectl describe`.
#[derive(Args)]
pub struct DescribeArgs {
    /// TYPE, TYPE NAME... or TYPE/NAME...
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Describes objects.
pub async fn run(server: &Server, args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let found = objects::fetch(server, &args.words, &args.selection).await?;
    if found.is_empty() {
        eprintln!("No resources found in {} namespace.", server.namespace);
    }
    let mut texts = Vec::new();
    for (kind, object) in found {
        let events = events(server, &kind, &object).await?;
        texts.push(text(server, &kind, &object, &events).await?);
    }
    std::io::stdout()
        .lock()
        .write_all(texts.join("\n\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn text(
    server: &Server,
    kind: &Kind,
    object: &Value,
    events: &[Value],
) -> anyhow::Result<String> {
    let mut page = Page::default();
    match kind.kind.as_str() {
        "Pod" => pod::write(&mut page, object),
        "Service" if kind.group.is_empty() => {
            let path = format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}",
                namespace(object),
                name(object)
            );
            service::write(&mut page, object, &server.get(&path).await?);
        }
        _ => plain(&mut page, object),
    }
    happened(&mut page, events);
    Ok(page.text())
}

/// Name, namespace, labels, annotations.
fn head(page: &mut Page, object: &Value) {
    page.line("Name", name(object));
    if !namespace(object).is_empty() {
        page.line("Namespace", namespace(object));
    }
}

/// Any other kind: its fields, their names spelled out.
fn plain(page: &mut Page, object: &Value) {
    head(page, object);
    page.lines("Labels", &map(&object["metadata"]["labels"], "="));
    page.lines(
        "Annotations",
        &annotations(&object["metadata"]["annotations"]),
    );
    page.line(
        "API Version",
        object["apiVersion"].as_str().unwrap_or_default(),
    );
    page.line("Kind", object["kind"].as_str().unwrap_or_default());
    let mut metadata = object["metadata"].clone();
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|key, _| {
            let key = key.as_str();
            !matches!(
                key,
                "name" | "namespace" | "labels" | "annotations" | "managedFields"
            )
        });
    }
    page.fields("metadata", &metadata);
    let fields = object.as_object().into_iter().flatten();
    let mut fields: Vec<(&String, &Value)> = fields
        .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"))
        .collect();
    fields.sort_by_key(|(key, _)| *key);
    for (key, value) in fields {
        page.fields(key, value);
    }
}

/// The events about an object, oldest first.
async fn events(server: &Server, kind: &Kind, object: &Value) -> anyhow::Result<Vec<Value>> {
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let selection = Selection {
        fields: Some(format!(
            "involvedObject.name={},involvedObject.kind={},involvedObject.uid={uid}",
            name(object),
            kind.kind
        )),
        labels: None,
    };
    let namespace = Some(namespace(object))
        .filter(|ns| !ns.is_empty())
        .unwrap_or("default");
    let path = format!("/api/v1/namespaces/{namespace}/events{}", selection.query());
    let mut list = server.get(&path).await?;
    let mut events = list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    events.sort_by_key(|event| last_seen(event).map(str::to_owned));
    Ok(events)
}

fn last_seen(event: &Value) -> Option<&str> {
    ["lastTimestamp", "eventTime", "firstTimestamp"]
        .iter()
        .find_map(|field| event[field].as_str())
        .or(event["metadata"]["creationTimestamp"].as_str())
}

fn happened(page: &mut Page, events: &[Value]) {
    if events.is_empty() {
        page.line("Events", "<none>");
        return;
    }
    page.title("Events");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |event: &Value| {
        let count = event["count"].as_u64().unwrap_or(1);
        let mut when = last_seen(event).map(age).unwrap_or_default();
        if count > 1 {
            let first = event["firstTimestamp"]
                .as_str()
                .map(age)
                .unwrap_or_default();
            when = format!("{when} (x{count} over {first})");
        }
        let from = match event["source"]["component"].as_str() {
            Some(component) if !component.is_empty() => component.to_owned(),
            _ => text(&event["reportingComponent"]),
        };
        vec![
            text(&event["type"]),
            text(&event["reason"]),
            when,
            from,
            text(&event["message"]).trim().to_owned(),
        ]
    };
    let headings = ["Type", "Reason", "Age", "From", "Message"];
    page.table(&headings, &events.iter().map(row).collect::<Vec<_>>());
}
