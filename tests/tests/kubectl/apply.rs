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
];

/// The bases of `k8s/` as an instructor applies them: the server takes each object of them.
fn apply_what_is_delivered(ns: &Namespace) -> anyhow::Result<()> {
    let folder = dojo::root().join("k8s");
    let applications = std::fs::read_dir(folder.join("apps"))?;
    let mut bases = vec![folder.join("install"), folder.join("kind")];
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
