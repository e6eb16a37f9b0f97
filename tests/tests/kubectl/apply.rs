//! `kubectl apply`, on the client and on the server.

use anyhow::{Context, ensure};
use dojo_tests::{dojo, kubectl};

use crate::{
    Step,
    namespace::{Namespace, contains, same, web},
};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("apply_client_side", apply_client_side),
    ("apply_server_side", apply_server_side),
    ("apply_what_is_delivered", apply_what_is_delivered),
    ("apply_what_labs_apply", apply_what_labs_apply),
];

/// The bases of `k8s/` as an instructor applies them: the server takes each object of them.
fn apply_what_is_delivered(ns: &Namespace) -> anyhow::Result<()> {
    let folder = dojo::root().join("k8s");
    let applications = std::fs::read_dir(folder.join("apps"))?;
    let mut bases = ["install", "kind", "istio", "large"]
        .map(|base| folder.join(base))
        .to_vec();
    for application in applications {
        bases.push(application?.path());
    }
    for base in bases {
        let base = base.to_str().context("a path in UTF-8")?;
        let rendered = kubectl::ok(&ns.dojo.kubeconfig(), &["kustomize", base], "")?;
        let objects = rendered.split("\n---\n").count();
        let line = ["apply", "--dry-run=server", "-k", base];
        let answer = kubectl::ok(&ns.dojo.kubeconfig(), &line, "")?;
        let taken = answer
            .lines()
            .filter(|line| line.ends_with("(server dry run)"));
        ensure!(
            taken.count() == objects,
            "{base}: {objects} objects\n{answer}"
        );
    }
    Ok(())
}

/// The files of the lab book: the server takes each object of them.
fn apply_what_labs_apply(ns: &Namespace) -> anyhow::Result<()> {
    // Parts of Deployments, laid over those that run; the labs' own test does it.
    const PATCHES: [&str; 2] = ["bad-staff.yaml", "no-propagation.yaml"];
    // A dry run makes no namespace for those that follow it.
    const NAMESPACES: [&str; 2] = ["tutorial", "ward-nine"];
    let mut files = Vec::new();
    for lab in std::fs::read_dir(dojo::root().join("labs/book"))? {
        let lab = lab?.path();
        if !lab.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(lab)? {
            let file = file?.path();
            let name = file.file_name().unwrap_or_default();
            if file.extension().is_some_and(|it| it == "yaml")
                && !PATCHES.iter().any(|patch| name == *patch)
            {
                files.push(file.to_str().context("a path in UTF-8")?.to_owned());
            }
        }
    }
    ensure!(files.len() > 40, "{files:?}");
    for namespace in NAMESPACES {
        ns.ok(&format!("create namespace {namespace}"))?;
    }
    let files: Vec<&str> = files.iter().flat_map(|file| ["-f", file]).collect();
    let line = [&["apply", "--dry-run=server"], &files[..]].concat();
    let answer = kubectl::ok(&ns.dojo.kubeconfig(), &line, "")?;
    let not_taken: Vec<&str> = answer
        .lines()
        .filter(|line| !line.ends_with("(server dry run)"))
        .collect();
    ensure!(not_taken.is_empty(), "{not_taken:?}");
    for namespace in NAMESPACES {
        ns.ok(&format!("delete namespace {namespace} --wait=false"))?;
    }
    Ok(())
}

fn apply_client_side(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("apply -f -", &web(1))?,
        "service/web created\ndeployment.apps/web created",
    )?;
    same(
        &ns.typed("apply -f -", &web(1))?,
        "service/web unchanged\ndeployment.apps/web unchanged",
    )?;
    same(
        &ns.typed("apply -f -", &web(2))?,
        "service/web unchanged\ndeployment.apps/web configured",
    )?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.replicas}")?,
        "2",
    )?;
    let without_port_name = web(2).replace("name: http, port: 80", "name: renamed, port: 80");
    contains(
        &ns.typed("apply -f -", &without_port_name)?,
        &["service/web configured"],
    )?;
    same(
        &ns.ok("get service web -o jsonpath={.spec.ports[*].name}")?,
        "renamed",
    )?;
    contains(&ns.typed("diff -f -", &without_port_name)?, &[])
}

fn apply_server_side(ns: &Namespace) -> anyhow::Result<()> {
    let map = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings }}\ndata: {{ colour: {value} }}\n"
        )
    };
    same(
        &ns.typed("apply --server-side --field-manager=a -f -", &map("red"))?,
        "configmap/settings serverside-applied",
    )?;
    let conflict = ns.refused("apply --server-side --field-manager=b -f -", &map("blue"))?;
    contains(&conflict, &["conflict with \"a\"", ".data.colour"])?;
    ns.typed(
        "apply --server-side --field-manager=b --force-conflicts -f -",
        &map("blue"),
    )?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data.colour}")?,
        "blue",
    )?;
    let managers = ns.ok("get configmap settings --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}")?;
    contains(&managers, &["b"])?;
    // A field that its only owner no longer applies goes away.
    let empty = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\n";
    ns.typed("apply --server-side --field-manager=b -f -", empty)?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data.colour}")?,
        "",
    )
}
