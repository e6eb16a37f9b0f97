//! Who may do what: `kubectl auth can-i`, `--as`, ServiceAccount tokens.

use anyhow::ensure;
use dojo_tests::kubectl;

use crate::{
    Step,
    namespace::{Namespace, contains, same},
};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("roles_decide", roles_decide),
    ("tokens_do_what_roles_allow", tokens),
];

fn roles_decide(ns: &Namespace) -> anyhow::Result<()> {
    same(&ns.ok("auth can-i create pods")?, "yes")?;
    let account = format!("--as=system:serviceaccount:{}:reader", ns.name);
    ns.ok("create serviceaccount reader")?;
    let can = |what: &str| -> anyhow::Result<bool> {
        let output = kubectl::run(
            &ns.dojo.kubeconfig(),
            &ns.arguments(&format!("auth can-i {what} {account}")),
            "",
        )?;
        Ok(output.status.success())
    };
    ensure!(!can("list pods")?, "nothing is bound yet");
    contains(
        &ns.refused(&format!("get pods {account}"), "")?,
        &[&format!(
            "(Forbidden): pods is forbidden: User \"system:serviceaccount:{0}:reader\" cannot list resource \"pods\" in API group \"\" in the namespace \"{0}\"",
            ns.name
        )],
    )?;
    ns.ok("create role reads --verb=get,list --resource=pods")?;
    ns.ok(&format!(
        "create rolebinding reads --role=reads --serviceaccount={}:reader",
        ns.name
    ))?;
    ensure!(can("list pods")? && can("get pods/x")?);
    ensure!(!can("delete pods")? && !can("create pods/exec")? && !can("list secrets")?);
    contains(
        &ns.refused(&format!("get pods --all-namespaces {account}"), "")?,
        &["at the cluster scope"],
    )?;
    // the roles that a cluster is born with
    ns.ok(&format!(
        "create rolebinding edits --clusterrole=edit --serviceaccount={}:reader",
        ns.name
    ))?;
    ensure!(can("create pods/exec")? && can("get secrets")? && can("delete deployments.apps")?);
    ensure!(!can("create roles.rbac.authorization.k8s.io")?);
    contains(
        &ns.ok(&format!("auth can-i --list {account}"))?,
        &["deployments.apps"],
    )
    .or_else(|_| {
        contains(
            &ns.ok(&format!("auth can-i --list {account}"))?,
            &["*.apps"],
        )
    })?;
    // nobody gives away what they do not have
    ns.ok(&format!(
        "create rolebinding administers --clusterrole=admin --serviceaccount={}:reader",
        ns.name
    ))?;
    contains(
        &ns.refused(
            &format!("create rolebinding more --clusterrole=cluster-admin --user=jane {account}"),
            "",
        )?,
        &["is attempting to grant RBAC permissions not currently held"],
    )
}

fn tokens(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create serviceaccount robot")?;
    let token = ns.ok("create token robot")?;
    let server = ns.ok("config view --minify -o jsonpath={.clusters[0].cluster.server}")?;
    let token = token.trim();
    let folder = ns.dojo.kubeconfig().with_file_name("robot");
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": ns.name}}],
    });
    std::fs::create_dir_all(&folder)?;
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, config.to_string())?;
    let run = |args: &[&str]| kubectl::run(&kubeconfig, args, "");
    let refused = run(&["get", "pods"])?;
    contains(
        &String::from_utf8(refused.stderr)?,
        &[
            "User \"system:serviceaccount:",
            ":robot\" cannot list resource \"pods\"",
        ],
    )?;
    let whoami = run(&["auth", "whoami"])?;
    contains(&String::from_utf8(whoami.stdout)?, &[":robot"])?;
    ns.ok(&format!(
        "create rolebinding sees --clusterrole=view --serviceaccount={}:robot",
        ns.name
    ))?;
    ensure!(run(&["get", "pods"])?.status.success());
    let exec = run(&["exec", "nobody", "--", "ls"])?;
    ensure!(!exec.status.success());
    Ok(())
}
