//! The API server is away from the control plane: proxies go on, one that starts again gets its
//! configuration, and what has changed meanwhile comes when it is back.

use anyhow::{Context, ensure};
use dojo_tests::{
    bookstore::{Reader, Stars},
    dojo::{Dojo, eventually},
};
use futures::TryStreamExt;
use kube::{
    Api,
    api::{
        ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, WatchEvent, WatchParams,
    },
};
use serde_json::{Value, json};

use crate::{Kubectl, SOON, gate::Gate};

/// All readers get reviews of one version.
fn only(version: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews}}\n\
         spec: {{hosts: [reviews], http: [{{route: [{{destination: {{host: reviews, subset: {version}}}}}]}}]}}\n"
    )
}

/// One that does nothing, and is there to be changed.
fn idle(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: [{name}.example], http: [{{directResponse: {{status: 404}}}}]}}\n"
    )
}

/// A rule of details whose effect is seen in a header.
const DETAILS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: details}\n\
    spec: {hosts: [details], http: [{headers: {response: {set: {x-rule: there}}}, route: [{destination: {host: details}}]}]}\n";

pub(crate) async fn the_mesh_goes_on(
    dojo: &Dojo,
    kubectl: &Kubectl<'_>,
    gate: &Gate,
) -> anyhow::Result<()> {
    let reader = Reader::new(dojo.port)?;
    let shows = async |stars: Stars| {
        eventually(&format!("{stars:?}"), SOON, async || {
            for _ in 0..10 {
                let seen = reader.stars().await?;
                ensure!(seen == stars, "{seen:?}");
            }
            Ok(())
        })
        .await
    };
    kubectl.apply(&only("v1"))?;
    kubectl.apply(DETAILS)?;
    kubectl.apply(&idle("churn"))?;
    shows(Stars::None).await?;
    details_has_a_rule(kubectl, true).await?;

    gate.close()?;
    // One rule is another, one is gone, and the list's version is too old to go on from.
    let churn = kubectl.get("virtualservice churn")?;
    let version = churn["metadata"]["resourceVersion"]
        .as_str()
        .context("a version")?;
    kubectl.apply(&only("v3"))?;
    kubectl.run("delete virtualservice details")?;
    forget(dojo, version).await?;
    // A sidecar that starts again has nothing but what it is told.
    let restarts = || restarts_of_httpbin(kubectl);
    let before = restarts()?;
    let quit =
        "exec deploy/httpbin -c istio-proxy -- curl -sS -X POST localhost:15000/quitquitquit";
    let words: Vec<&str> = quit.split(' ').collect();
    // What has asked for it may end with the container.
    dojo_tests::kubectl::run(&dojo.kubeconfig(), &words, "")?;
    eventually("the sidecar's second start", SOON, async || {
        let (count, ready) = restarts()?;
        ensure!(count > before.0 && ready, "{count} starts, ready: {ready}");
        Ok(())
    })
    .await?;
    for _ in 0..20 {
        let seen = reader.stars().await?;
        ensure!(
            seen == Stars::None,
            "{seen:?}, of which nobody can have told"
        );
    }
    eventually("an answer through that sidecar", SOON, async || {
        let answer =
            kubectl.run("exec deploy/httpbin -- curl -sS http://details:9080/details/0")?;
        ensure!(answer.contains("author"), "{answer}");
        Ok(())
    })
    .await?;

    gate.open();
    shows(Stars::Red).await?;
    details_has_a_rule(kubectl, false).await?;
    kubectl.run("delete virtualservice reviews churn")?;
    Ok(())
}

/// Restarts of httpbin's sidecar, and whether the pod is ready.
fn restarts_of_httpbin(kubectl: &Kubectl<'_>) -> anyhow::Result<(u64, bool)> {
    let pods = kubectl.get("pods -l app=httpbin")?;
    let status = &pods["items"][0]["status"];
    let sidecars = status["initContainerStatuses"].as_array();
    let mut sidecars = sidecars.into_iter().flatten();
    let sidecar = sidecars.find(|container| container["name"] == "istio-proxy");
    let count = sidecar.and_then(|sidecar| sidecar["restartCount"].as_u64());
    let conditions = status["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let ready = conditions.into_iter().flatten().any(ready);
    Ok((count.context("a sidecar")?, ready))
}

/// Waits until calls of details from within go by the rule, or do not.
async fn details_has_a_rule(kubectl: &Kubectl<'_>, wanted: bool) -> anyhow::Result<()> {
    eventually("the rule of details", SOON, async || {
        let ask = "exec deploy/httpbin -- curl -sS -i http://details:9080/details/0";
        let answer = kubectl.run(ask)?;
        ensure!(answer.contains("author"), "{answer}");
        ensure!(answer.contains("x-rule") == wanted, "{answer}");
        Ok(())
    })
    .await
}

/// Changes VirtualServices until the API server no longer knows what came after `version`.
async fn forget(dojo: &Dojo, version: &str) -> anyhow::Result<()> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let kind = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::namespaced_with(dojo.client().await?, "default", &kind);
    let filling = "x".repeat(200 << 10);
    for number in 0..40 {
        let annotations = json!({ "example.com/filling": format!("{number}{filling}") });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        api.patch("churn", &PatchParams::default(), &patch).await?;
    }
    let watching = api.watch(&WatchParams::default(), version).await;
    let first = match watching {
        Ok(events) => std::pin::pin!(events).try_next().await,
        Err(error) => Err(error),
    };
    let code = match &first {
        Ok(Some(WatchEvent::Error(status))) => Some(status.code),
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    };
    ensure!(code == Some(410), "{first:?}");
    Ok(())
}
