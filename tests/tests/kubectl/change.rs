//! Verbs that change what is there: `delete`, `label`, `annotate`, `patch`, `edit`, `scale`, `set`.

use std::time::{Duration, Instant};

use crate::{
    Step,
    namespace::{Namespace, contains, same, web},
};
use anyhow::ensure;
use dojo_tests::kubectl;

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("delete_in_every_form", delete_in_every_form),
    ("label_and_annotate", label_and_annotate),
    ("patch_in_every_form", patch_in_every_form),
    ("edit", edit),
    ("scale", scale),
    ("set_env_and_image", set_env_and_image),
    (
        "owned_objects_go_with_their_owner",
        owned_objects_go_with_their_owner,
    ),
];

fn delete_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    contains(
        &ns.typed("delete -f -", &web(2))?,
        &[
            r#"service "web" deleted"#,
            r#"deployment.apps "web" deleted"#,
        ],
    )?;
    ns.ok("wait --for=delete pod -l app=web --timeout=40s")?;
    contains(&kubectl_err(ns, "get all")?, &["No resources found"])?;
    ns.web(1)?;
    ns.ok("delete deployment web --cascade=orphan")?;
    contains(&ns.ok("get replicasets")?, &["web-"])?;
    ns.ok("delete replicasets,pods,services --all --timeout=40s")?;
    contains(&kubectl_err(ns, "get pods")?, &["No resources found"])?;
    contains(&ns.refused("delete configmap nobody", "")?, &["NotFound"])?;
    same(&ns.ok("delete configmap nobody --ignore-not-found")?, "")
}

fn kubectl_err(ns: &Namespace, args: &str) -> anyhow::Result<String> {
    let output = kubectl::run(&ns.dojo.kubeconfig(), &ns.arguments(args), "")?;
    Ok(String::from_utf8(output.stderr)?)
}

fn label_and_annotate(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap note --from-literal=a=1")?;
    same(
        &ns.ok("label configmap note tier=front")?,
        "configmap/note labeled",
    )?;
    contains(
        &ns.refused("label configmap note tier=back", "")?,
        &["--overwrite"],
    )?;
    ns.ok("label configmap note tier=back --overwrite")?;
    same(
        &ns.ok("get configmap -l tier=back -o name")?,
        "configmap/note",
    )?;
    ensure!(
        ns.ok("get configmap -l tier!=back,tier -o name")?
            .is_empty()
    );
    same(
        &ns.ok("label configmap note tier-")?,
        "configmap/note unlabeled",
    )?;
    same(
        &ns.ok("annotate configmap note owner=ann")?,
        "configmap/note annotated",
    )?;
    same(
        &ns.ok("get configmap note -o jsonpath={.metadata.annotations.owner}")?,
        "ann",
    )
}

fn patch_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}"#;
    same(
        &ns.exact(&["patch", "deployment", "web", "-p", strategic])?,
        "deployment.apps/web patched",
    )?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}")?,
        "meshdojo/meshdojo:0.1.0",
    )?;
    // Once its status has come to rest, the same patch changes nothing.
    ns.ok("rollout status deployment/web --timeout=30s")?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=40s")?;
    same(
        &ns.exact(&["patch", "deployment", "web", "-p", strategic])?,
        "deployment.apps/web patched (no change)",
    )?;
    ns.exact(&[
        "patch",
        "deployment",
        "web",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"app":null,"kind":"m"}}}"#,
    ])?;
    same(
        &ns.ok("get deployment web -o jsonpath={.metadata.labels}")?,
        r#"{"kind":"m"}"#,
    )?;
    let json = r#"[{"op":"replace","path":"/spec/replicas","value":0}]"#;
    ns.exact(&["patch", "deployment", "web", "--type=json", "-p", json])?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.replicas}")?,
        "0",
    )?;
    let bad = ns.dojo.kubeconfig();
    let output = kubectl::run(
        &bad,
        &[
            "-n",
            &ns.name,
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"replicas":-1}}"#,
        ],
        "",
    )?;
    contains(
        &String::from_utf8(output.stderr)?,
        &["spec.replicas", "Invalid value: -1"],
    )
}

fn edit(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap note --from-literal=colour=red")?;
    let output = std::process::Command::new("kubectl")
        .args(["-n", &ns.name, "edit", "configmap", "note"])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .env("EDITOR", "sed -i s/red/blue/")
        .output()?;
    same(&String::from_utf8(output.stdout)?, "configmap/note edited")?;
    same(
        &ns.ok("get configmap note -o jsonpath={.data.colour}")?,
        "blue",
    )
}

fn scale(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    same(
        &ns.ok("scale deployment web --replicas=3")?,
        "deployment.apps/web scaled",
    )?;
    ns.ok("rollout status deployment/web --timeout=30s")?;
    ensure!(ns.ok("get pods --no-headers")?.lines().count() == 3);
    contains(
        &ns.refused("scale deployment web --replicas=1 --current-replicas=7", "")?,
        &["Expected replicas to be 7, was 3"],
    )?;
    ns.ok("scale deployment web --replicas=0")?;
    ns.ok("wait --for=delete pod -l app=web --timeout=40s")?;
    // The slice follows the pods.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ns
        .ok("get endpointslices -o jsonpath={.items[*].endpoints[*].addresses}")?
        .is_empty()
    {
        ensure!(Instant::now() < deadline, "the slice still has endpoints");
    }
    Ok(())
}

fn set_env_and_image(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    same(
        &ns.ok("set env deployment/web COLOUR=green")?,
        "deployment.apps/web env updated",
    )?;
    contains(&ns.ok("set env deployment/web --list")?, &["COLOUR=green"])?;
    ns.ok("rollout status deployment/web --timeout=30s")?;
    same(
        &ns.ok("set image deployment/web web=istio/examples-bookinfo-ratings-v1:1.20.3")?,
        "deployment.apps/web image updated",
    )?;
    ns.ok("set env deployment/web COLOUR-").map(drop)
}

fn owned_objects_go_with_their_owner(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap owner")?;
    let uid = ns.ok("get configmap owner -o jsonpath={.metadata.uid}")?;
    let owned = format!(
        r#"
apiVersion: v1
kind: Secret
metadata:
  name: owned
  ownerReferences: [{{ apiVersion: v1, kind: ConfigMap, name: owner, uid: "{uid}" }}]
"#
    );
    ns.typed("apply -f -", &owned)?;
    ns.ok("delete configmap owner")?;
    ns.ok("wait --for=delete secret/owned --timeout=20s")
        .map(drop)
}
