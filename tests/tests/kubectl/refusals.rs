//! What is refused, and in which words.

use crate::{
    Step,
    mesh::VIRTUAL_SERVICE,
    namespace::{Namespace, contains, web},
};
use anyhow::ensure;

pub(crate) const STEPS: &[(&str, Step)] = &[
    (
        "strict_validation_names_the_field",
        strict_validation_names_the_field,
    ),
    ("refusals", refusals),
];

fn strict_validation_names_the_field(ns: &Namespace) -> anyhow::Result<()> {
    let misspelt = web(1).replace("targetPort", "targetPrt");
    contains(
        &ns.refused("apply -f -", &misspelt)?,
        &[
            "strict decoding error",
            r#"unknown field "spec.ports[0].targetPrt""#,
        ],
    )?;
    let misspelt = VIRTUAL_SERVICE.replace("route:", "rout:");
    contains(
        &ns.refused("apply -f -", &misspelt)?,
        &[
            "strict decoding error",
            r#"unknown field "spec.http[0].rout""#,
        ],
    )
}

fn refusals(ns: &Namespace) -> anyhow::Result<()> {
    let name = "x".repeat(64);
    contains(
        &ns.refused(&format!("create namespace {name}"), "")?,
        &["metadata.name", "must be no more than 63 bytes"],
    )?;
    let huge = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: huge }}\ndata: {{ a: {} }}\n",
        "x".repeat(10_000_000)
    );
    let said = ns.refused("create -f -", &huge)?;
    ensure!(
        said.contains("too large") || said.contains("RequestEntityTooLarge"),
        "{said}"
    );
    contains(
        &ns.refused("apply -f -", &web(1).replace("port: 80,", "port: 99999,"))?,
        &["spec.ports[0].port", "99999", "between 1 and 65535"],
    )?;
    contains(
        &ns.refused(
            "apply -f -",
            &web(1).replace("matchLabels: { app: web }", "matchLabels: { app: other }"),
        )?,
        &["`selector` does not match template `labels`"],
    )?;
    contains(
        &ns.refused(
            "create -f -",
            "apiVersion: v1\nkind: Cat\nmetadata: { name: tom }\n",
        )?,
        &["no matches for kind \"Cat\""],
    )?;
    contains(
        &ns.refused("get --raw /api/v1/namespaces/default/pods/web/proxy", "")?,
        &["does not serve pods/proxy yet"],
    )?;
    contains(&ns.refused("apply -f -", "not: [yaml")?, &["error"])
}
