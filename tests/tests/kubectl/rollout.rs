//! `kubectl rollout` and `wait`.

use crate::{
    Step,
    namespace::{Namespace, contains, same},
};
use anyhow::ensure;

pub(crate) const STEPS: &[(&str, Step)] = &[("rollout", rollout), ("wait", wait)];

fn rollout(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    let before = ns.ok("get pods -o name")?;
    same(
        &ns.ok("rollout restart deployment/web")?,
        "deployment.apps/web restarted",
    )?;
    contains(
        &ns.ok("rollout status deployment/web --timeout=40s")?,
        &[r#"deployment "web" successfully rolled out"#],
    )?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=40s")?;
    let after = ns.ok("get pods -o name")?;
    ensure!(
        after.lines().count() == 2 && !before.lines().any(|pod| after.contains(pod)),
        "{before}\n{after}"
    );
    contains(
        &ns.ok("rollout history deployment/web")?,
        &["REVISION", "1", "2"],
    )
}

fn wait(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(
        &ns.ok("wait --for=condition=Available deployment/web --timeout=20s")?,
        &["deployment.apps/web condition met"],
    )?;
    contains(
        &ns.ok("wait --for=condition=Ready pod -l app=web --timeout=20s")?,
        &["condition met"],
    )?;
    contains(
        &ns.refused(
            "wait --for=condition=Nonsense deployment/web --timeout=1s",
            "",
        )?,
        &["timed out waiting for the condition"],
    )
}
