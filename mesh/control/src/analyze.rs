//! `meshdojo analyze`: what is wrong with the objects of a cluster, or of files before they are
//! applied, in the words and with the exit code of `istioctl analyze`.

mod effects;
mod findings;
mod workloads;

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde::Deserialize;
use serde_json::{Value, json};

pub use findings::{Finding, analyze};

use crate::pod_admin::client;

/// Kinds of Kubernetes that are looked at, with group, version and plural.
const KUBERNETES: [(&str, &str, &str, &str); 6] = [
    ("", "v1", "Namespace", "namespaces"),
    ("", "v1", "Service", "services"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Secret", "secrets"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
];

/// Of a list that is asked for in pages.
const PAGE: u32 = 500;

/// `meshdojo analyze`.
#[derive(clap::Args, Debug)]
pub struct AnalyzeArgs {
    /// Files to look at beside what is in the cluster; - is standard input
    pub files: Vec<PathBuf>,
    /// The same
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub more_files: Vec<PathBuf>,
    /// Look at this namespace
    #[arg(
        short,
        long,
        default_value = "default",
        conflicts_with = "all_namespaces"
    )]
    pub namespace: String,
    /// Look at all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Whether the objects of the cluster count too
    #[arg(short = 'k', long, default_value_t = true, action = clap::ArgAction::Set)]
    pub use_kube: bool,
    /// Print log, json or yaml
    #[arg(short, long, default_value = "log", value_parser = ["log", "json", "yaml"])]
    pub output: String,
}

/// An object and where it was read: `FILE:LINE`.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object.
    pub object: Value,
    /// Absent for what is in the cluster.
    pub place: Option<String>,
}

/// Runs the verb. `kubeconfig` leads to the cluster of this machine, used unless KUBECONFIG is set.
/// The code is 1 when something is an error.
///
/// # Errors
/// A file that cannot be read or is no YAML; a cluster that does not answer.
pub async fn run(args: AnalyzeArgs, kubeconfig: &Path) -> anyhow::Result<ExitCode> {
    let mut sources = Vec::new();
    if args.use_kube {
        let client = client(kubeconfig)
            .await
            .context("--use-kube=false looks at the files alone")?;
        sources = in_cluster(&client).await?;
    }
    for file in args.files.iter().chain(&args.more_files) {
        for source in read(file, &args.namespace)? {
            // What is about to be applied takes the place of what is there.
            let id = |object: &Value| {
                let metadata = &object["metadata"];
                [&object["kind"], &metadata["namespace"], &metadata["name"]].map(Value::clone)
            };
            sources.retain(|other| id(&other.object) != id(&source.object));
            sources.push(source);
        }
    }
    let namespace = (!args.all_namespaces).then_some(args.namespace.as_str());
    let findings = analyze(&sources, namespace);
    print(&args.output, &findings, namespace)?;
    let failed = findings.iter().any(|finding| finding.level == "Error");
    Ok(ExitCode::from(u8::from(failed)))
}

fn print(output: &str, findings: &[Finding], namespace: Option<&str>) -> anyhow::Result<()> {
    match output {
        "json" => println!("{}", serde_json::to_string_pretty(findings)?),
        "yaml" => print!("{}", serde_norway::to_string(findings)?),
        _ => {
            for finding in findings {
                println!("{finding}");
            }
            let place = match namespace {
                Some(namespace) => format!("namespace: {namespace}"),
                None => "all namespaces".into(),
            };
            if findings.is_empty() {
                eprintln!("✔ No validation issues found when analyzing {place}.");
            } else if findings.iter().any(|finding| finding.level == "Error") {
                eprintln!("Error: Analyzers found issues when analyzing {place}.");
            }
        }
    }
    Ok(())
}

async fn in_cluster(client: &Client) -> anyhow::Result<Vec<Source>> {
    let kubernetes = KUBERNETES.map(|(group, version, kind, plural)| {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    });
    let istio = mesh_api::KINDS.iter().map(|kind| {
        let group = GroupVersionKind::gvk(kind.group, kind.versions[0], kind.kind);
        ApiResource::from_gvk_with_plural(&group, kind.plural)
    });
    let mut sources = Vec::new();
    for resource in kubernetes.into_iter().chain(istio) {
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = match api.list(&page).await {
                Ok(list) => list,
                // The mesh is not installed.
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(error) => {
                    return Err(error).with_context(|| format!("listing {}", resource.plural));
                }
            };
            let next = list.metadata.continue_.clone().unwrap_or_default();
            for object in list {
                let mut object = serde_json::to_value(&object)?;
                object["kind"] = json!(resource.kind);
                object["apiVersion"] = json!(resource.api_version);
                let place = None;
                sources.push(Source { object, place });
            }
            if next.is_empty() {
                break;
            }
            page = page.continue_token(&next);
        }
    }
    Ok(sources)
}

/// The objects of a YAML file, each with its line; those without a namespace get `namespace`.
fn read(file: &Path, namespace: &str) -> anyhow::Result<Vec<Source>> {
    let mut text = String::new();
    let name = match file.to_str() {
        Some("-") => {
            std::io::stdin().read_to_string(&mut text)?;
            "standard input".to_owned()
        }
        _ => {
            text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            file.display().to_string()
        }
    };
    documents(&text, &name, namespace)
}

fn documents(text: &str, name: &str, namespace: &str) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut line = 1;
    for part in split(text) {
        let first = part
            .lines()
            .position(|text| !text.trim().is_empty() && !text.starts_with(['#', '-']))
            .unwrap_or(0);
        let at = format!("{name}:{}", line + first);
        let document = serde_norway::Deserializer::from_str(part);
        let mut object = Value::deserialize(document).with_context(|| at.clone())?;
        line += part.lines().count();
        if object.is_null() {
            continue;
        }
        if !object["kind"].is_string() || !object["metadata"].is_object() {
            bail!("{at}: not a Kubernetes object: kind or metadata is missing");
        }
        if object["kind"] != "Namespace" && !object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        found.push(Source {
            object,
            place: Some(at),
        });
    }
    Ok(found)
}

/// The documents of a YAML text, each beginning with its separator.
fn split(text: &str) -> Vec<&str> {
    let starts = text.match_indices("\n---").map(|(at, _)| at + 1);
    let mut bounds: Vec<usize> = [0].into_iter().chain(starts).collect();
    bounds.push(text.len());
    bounds
        .windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_lines() {
        let text = "# first\nkind: A\nmetadata: {name: a}\n---\n# second\nkind: B\nmetadata: {name: b, namespace: x}\n---\n";
        let found = documents(text, "f.yaml", "ns").unwrap();
        let places: Vec<_> = found
            .iter()
            .map(|source| source.place.as_deref().unwrap())
            .collect();
        assert_eq!(places, ["f.yaml:2", "f.yaml:6"]);
        assert_eq!(found[0].object["metadata"]["namespace"], "ns");
        assert!(documents("a: 1\n", "f", "ns").is_err());
    }
}
