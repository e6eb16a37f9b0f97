//! Checks that look at objects.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use serde_json::Value;

use super::Verdict;
use crate::{
    check::{Pods, Resource},
    cluster::Cluster,
    language::Language,
};

/// See [`crate::check::Check::Resource`].
pub(super) async fn resource(
    check: &Resource,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let api = cluster.api(&check.api_version, &check.kind, &check.namespace);
    let found = match api.get_opt(&check.name).await {
        Ok(found) => found,
        // The kind itself is not served.
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => return Err(error.into()),
    };
    let name = format!("{} {}", check.kind, check.name);
    Ok(match found {
        None if check.absent => Verdict::Passed(language.pick(
            format!("there is no {name}"),
            format!("{name}은(는) 없습니다"),
        )),
        None => Verdict::failed(
            language.pick(
                format!("there is no {name} in namespace {}", check.namespace),
                format!("{} 네임스페이스에 {name}이(가) 없습니다", check.namespace),
            ),
            name,
        ),
        Some(_) if check.absent => Verdict::failed(
            language.pick(format!("{name} is there"), format!("{name}이(가) 있습니다")),
            language.pick("that it is gone", "없어야 함"),
        ),
        Some(object) => fields(&serde_json::to_value(object)?, check, &name, language),
    })
}

/// Whether an object's fields are as expected.
fn fields(object: &Value, check: &Resource, name: &str, language: Language) -> Verdict {
    let shown = |value: Option<&Value>| {
        value.map_or_else(
            || language.pick("nothing", "없음").to_owned(),
            ToString::to_string,
        )
    };
    for (pointer, expected) in &check.fields {
        let seen = object.pointer(pointer);
        if !agrees(seen, expected) {
            return Verdict::failed(
                format!("{name} {pointer}: {}", shown(seen)),
                match expected {
                    Value::Null => language.pick("nothing", "없음").to_owned(),
                    other => other.to_string(),
                },
            );
        }
    }
    for (pointer, range) in &check.ranges {
        let seen = object.pointer(pointer);
        if !seen
            .and_then(Value::as_u64)
            .is_some_and(|n| range.contains(n))
        {
            return Verdict::failed(
                format!("{name} {pointer}: {}", shown(seen)),
                range.to_string(),
            );
        }
    }
    Verdict::Passed(name.to_owned())
}

/// Whether a field is as expected: absent, equal (numbers by value), or matched by `~expression`.
fn agrees(seen: Option<&Value>, expected: &Value) -> bool {
    match (seen, expected) {
        (None | Some(Value::Null), Value::Null) => true,
        (Some(seen), Value::String(text)) if text.starts_with('~') => {
            let seen = seen
                .as_str()
                .map_or_else(|| seen.to_string(), str::to_owned);
            regex::Regex::new(&text[1..]).is_ok_and(|r| r.is_match(&seen))
        }
        (Some(seen), expected) => {
            seen == expected || seen.as_f64().is_some() && seen.as_f64() == expected.as_f64()
        }
        (None, _) => false,
    }
}

/// See [`crate::check::Check::Pods`].
pub(super) async fn pods(
    check: &Pods,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let pods = cluster.living(&check.namespace, &check.selector).await?;
    let list: Vec<String> = pods
        .iter()
        .map(|pod| format!("{} {}", pod.name_any(), ready(pod)))
        .collect();
    let seen = if list.is_empty() {
        language.pick(
            format!(
                "no pod with {} in namespace {}",
                check.selector, check.namespace
            ),
            format!(
                "{} 네임스페이스에 {}인 파드가 없습니다",
                check.namespace, check.selector
            ),
        )
    } else {
        list.join(", ")
    };
    let count = check
        .count
        .unwrap_or(crate::check::Range { from: 1, to: None });
    let all_ready = check
        .ready
        .as_ref()
        .is_none_or(|wanted| pods.iter().all(|pod| ready(pod) == *wanted));
    if count.contains(pods.len() as u64) && all_ready {
        return Ok(Verdict::Passed(seen));
    }
    let ready = check.ready.as_deref().unwrap_or_default();
    Ok(Verdict::failed(
        seen,
        language.pick(
            format!("{count} pods with {} {ready}", check.selector),
            format!("{}인 파드 {count}개 {ready}", check.selector),
        ),
    ))
}

/// What `kubectl get pods` shows under READY.
pub(crate) fn ready(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    // Containers that go on beside the others are init containers with a restart policy.
    let beside: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"))
        .map(|c| c.name.as_str())
        .collect();
    let ready = |statuses: &Option<Vec<ContainerStatus>>, only: Option<&[&str]>| {
        let counted = statuses
            .iter()
            .flatten()
            .filter(|s| s.ready && only.is_none_or(|names| names.contains(&s.name.as_str())));
        counted.count()
    };
    let ready = ready(&status.container_statuses, None)
        + ready(&status.init_container_statuses, Some(&beside));
    format!("{ready}/{}", spec.containers.len() + beside.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_agree_by_value_expression_and_absence() {
        let object = json!({ "weight": 50, "hosts": ["a"], "label": "us-west1.us-west1-a" });
        let at = |pointer: &str| object.pointer(pointer);
        assert!(agrees(at("/weight"), &json!(50.0)));
        assert!(agrees(at("/hosts"), &json!(["a"])));
        assert!(agrees(at("/label"), &json!("~^us-west1")));
        assert!(agrees(at("/none"), &Value::Null));
        assert!(!agrees(at("/weight"), &Value::Null));
        assert!(!agrees(at("/weight"), &json!(90)));
    }

    #[test]
    fn ready_counts_containers_that_go_on_beside_the_others() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": { "containers": [{ "name": "app" }],
                      "initContainers": [{ "name": "istio-proxy", "restartPolicy": "Always" }, { "name": "once" }] },
            "status": {
                "containerStatuses": [{ "name": "app", "ready": true, "image": "", "imageID": "", "restartCount": 0 }],
                "initContainerStatuses": [
                    { "name": "istio-proxy", "ready": true, "image": "", "imageID": "", "restartCount": 0 },
                    { "name": "once", "ready": true, "image": "", "imageID": "", "restartCount": 0 }] },
        }))
        .unwrap();
        assert_eq!(ready(&pod), "2/2");
    }
}
