//! The manifests start services that there are, and their parts fit together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::Deserialize as _;
use serde_norway::Value;

/// What the binary makes of `args`.
#[derive(Parser)]
struct Binary {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// One service.
    #[command(subcommand)]
    Service(fleetman::Command),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/apps/fleetman")
}

fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).expect(file);
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect(file))
        .collect()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    let mut at = value;
    for key in path {
        at = &at[*key];
    }
    at.as_str()
        .unwrap_or_else(|| panic!("{path:?} of {value:?}"))
}

/// All objects that the kustomization lists.
fn objects() -> Vec<Value> {
    let kustomization = documents("kustomization.yaml").remove(0);
    let files = kustomization["resources"].as_sequence().expect("a list");
    files
        .iter()
        .flat_map(|file| documents(file.as_str().expect("a name")))
        .collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

#[test]
fn every_file_is_listed() {
    let listed = documents("kustomization.yaml")[0]["resources"]
        .as_sequence()
        .expect("a list")
        .len();
    let there = std::fs::read_dir(folder()).expect("the folder").count();
    assert_eq!(listed + 1, there);
}

#[test]
fn arguments_are_understood() {
    let objects = objects();
    let deployments = of_kind(&objects, "Deployment");
    assert_eq!(deployments.len(), 8);
    for deployment in deployments {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_sequence().expect("args");
        let args = args.iter().map(|arg| arg.as_str().expect("text"));
        let binary = Binary::try_parse_from(std::iter::once("meshdojo").chain(args));
        let Verb::Service(_) = binary.unwrap_or_else(|error| panic!("{error}")).verb;
        assert_eq!(text(container, &["image"]), "meshdojo/meshdojo:0.1.0");
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(text(container, &[probe, "httpGet", "path"]), "/health");
        }
    }
}

#[test]
fn services_find_pods_and_rules_find_versions() {
    let objects = objects();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let accounts: Vec<&str> = of_kind(&objects, "ServiceAccount")
        .into_iter()
        .map(|account| text(account, &["metadata", "name"]))
        .collect();
    for deployment in of_kind(&objects, "Deployment") {
        let template = &deployment["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        assert_eq!(
            text(deployment, &["spec", "selector", "matchLabels", "app"]),
            text(labels, &["app"])
        );
        assert!(accounts.contains(&text(template, &["spec", "serviceAccountName"])));
        let of_app = versions
            .entry(text(labels, &["app"]).to_owned())
            .or_default();
        of_app.push(text(labels, &["version"]).to_owned());
    }
    let services = of_kind(&objects, "Service");
    assert_eq!(services.len(), 5);
    for service in services {
        let app = text(service, &["spec", "selector", "app"]);
        assert!(versions.contains_key(app), "{app}");
        assert_eq!(
            text(service, &["metadata", "name"]),
            format!("fleetman-{app}")
        );
        let port = &service["spec"]["ports"][0];
        assert_eq!(
            (text(port, &["name"]), text(port, &["targetPort"])),
            ("http", "http")
        );
        assert_eq!(port["port"], if app == "webapp" { 80 } else { 8080 });
    }
    for rule in of_kind(&objects, "DestinationRule") {
        let app = text(rule, &["spec", "host"]).trim_start_matches("fleetman-");
        for subset in rule["spec"]["subsets"].as_sequence().expect("subsets") {
            let version = text(subset, &["labels", "version"]);
            assert!(
                versions[app].iter().any(|known| known == version),
                "{app} {version}"
            );
        }
    }
}
