//! Checks that follow one request by its id through the access logs of proxies.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::LogParams};
use regex::Regex;

use super::{
    Verdict,
    traffic::sender,
    witness::{LINES, SETTLE, none_or},
};
use crate::{
    check::{Request, Trace},
    cluster::Cluster,
    language::Language,
};

/// Access logs may come late: they are looked at so often.
const LOOKS: usize = 10;
/// Where the ingress gateway is.
const GATEWAY: [(&str, &str); 2] = [
    ("istio-system", "app=istio-ingressgateway"),
    ("istio-ingress", "app=istio-ingressgateway"),
];

/// See [`crate::check::Check::Trace`].
pub(super) async fn trace(
    check: &Trace,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let own = uuid::Uuid::new_v4().to_string();
    let request = marked(&check.request, &own);
    let sender = match sender(&request, cluster).await? {
        Ok(sender) => sender,
        Err(verdict) => return Ok(verdict),
    };
    sender.send().await;
    let mut verdict = Verdict::failed(
        language.pick("no line of it in any log", "어느 로그에도 없음"),
        check.through.join(" → "),
    );
    for _ in 0..LOOKS {
        tokio::time::sleep(SETTLE).await;
        // The gateway gives requests from outside an id of its own.
        let id = if request.url.starts_with('/') {
            match at_gateway(cluster, &own).await? {
                Some(id) => id,
                None => continue,
            }
        } else {
            own.clone()
        };
        let mut found = Vec::new();
        for of in check.through.iter().chain(&check.not_through) {
            match has(cluster, &request.namespace, of, &id).await {
                Ok(has) => found.push((of.as_str(), has)),
                Err(error) => return none_or(error, of),
            }
        }
        verdict = compare(check, &found, &id, language);
        if matches!(verdict, Verdict::Passed(_)) && check.not_through.is_empty() {
            return Ok(verdict);
        }
    }
    Ok(verdict)
}

/// The request under a name of its own, by which its lines are found.
fn marked(request: &Request, own: &str) -> Request {
    let mut request = request.clone();
    request
        .headers
        .insert("x-request-id".into(), own.to_owned());
    request.headers.insert("user-agent".into(), own.to_owned());
    request
}

/// What was found against what was expected.
fn compare(check: &Trace, found: &[(&str, bool)], id: &str, language: Language) -> Verdict {
    let has = |of: &String| found.iter().any(|(known, has)| known == of && *has);
    let seen: Vec<&str> = found
        .iter()
        .filter(|(_, has)| *has)
        .map(|(of, _)| *of)
        .collect();
    let well = check.through.iter().all(has) && !check.not_through.iter().any(has);
    let seen = if seen.is_empty() {
        language.pick("nobody", "없음").to_owned()
    } else {
        seen.join(" → ")
    };
    if well {
        return Verdict::Passed(format!("{id}: {seen}"));
    }
    let mut expected = check.through.join(" → ");
    if !check.not_through.is_empty() {
        let without = check.not_through.join(", ");
        expected += &language.pick(format!(", without {without}"), format!(", {without} 제외"));
    }
    Verdict::failed(seen, expected)
}

/// The id that the gateway gave to the request of a user agent.
async fn at_gateway(cluster: &Cluster, agent: &str) -> anyhow::Result<Option<String>> {
    for (namespace, label) in GATEWAY {
        let Ok(pods) = cluster.pods(namespace, label).await else {
            continue;
        };
        for pod in pods {
            let log = log(cluster, namespace, &pod).await?;
            if let Some(line) = log.lines().find(|line| line.contains(agent)) {
                return Ok(id_of(line, agent));
            }
        }
    }
    Ok(None)
}

/// The id in a line of an access log that also has the user agent.
fn id_of(line: &str, agent: &str) -> Option<String> {
    let id =
        Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").expect("a constant that parses");
    let mut ids = id.find_iter(line).map(|found| found.as_str());
    ids.find(|id| *id != agent).map(str::to_owned)
}

/// Whether a proxy of these pods has logged the id.
async fn has(cluster: &Cluster, namespace: &str, of: &str, id: &str) -> anyhow::Result<bool> {
    for pod in cluster.pods(namespace, of).await? {
        if log(cluster, namespace, &pod).await?.contains(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn log(cluster: &Cluster, namespace: &str, pod: &Pod) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let parameters = LogParams {
        container: Some("istio-proxy".into()),
        tail_lines: Some(LINES),
        ..LogParams::default()
    };
    match api.logs(&pod.name_any(), &parameters).await {
        Ok(text) => Ok(text),
        // Without a proxy there is no such container: it has logged nothing.
        Err(kube::Error::Api(status)) if status.code == 400 => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("the log of {}", pod.name_any())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_whole_or_broken() {
        let check: Trace = serde_norway::from_str(
            "{ request: { url: / }, through: [app=a, app=b], not_through: [app=c] }",
        )
        .unwrap();
        let judged = |found: &[(&str, bool)]| compare(&check, found, "id", Language::En);
        assert_eq!(
            judged(&[("app=a", true), ("app=b", true), ("app=c", false)]),
            Verdict::Passed("id: app=a → app=b".into())
        );
        assert_eq!(
            judged(&[("app=a", true), ("app=b", false), ("app=c", false)]),
            Verdict::failed("app=a", "app=a → app=b, without app=c")
        );
        assert!(matches!(
            judged(&[("app=a", true), ("app=b", true), ("app=c", true)]),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn the_gateways_id_is_not_the_user_agent() {
        let (agent, id) = (
            "11111111-1111-4111-8111-111111111111",
            "22222222-2222-4222-8222-222222222222",
        );
        let line = format!("[t] \"GET / HTTP/1.1\" 200 - \"{agent}\" \"{id}\" \"host\"");
        assert_eq!(id_of(&line, agent).as_deref(), Some(id));
        assert_eq!(id_of(agent, agent), None);
    }
}
