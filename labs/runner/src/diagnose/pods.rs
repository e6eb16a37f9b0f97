//! Pods that do not run, are not ready, or have no sidecar.

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{has_sidecar, items, name, namespace, selector_pairs},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let mut pods: Vec<&Value> = Vec::new();
    let mut found = Vec::new();
    if let Some((namespace, selector)) = &subject.pods {
        let labels = selector_pairs(selector);
        pods.extend(objects.pods(namespace, &labels));
        if pods.is_empty() {
            found.extend(none(objects, namespace, selector));
        }
    }
    if let Some((namespace, from)) = &subject.caller {
        let labels = selector_pairs(&super::selector(from));
        pods.extend(objects.pods(namespace, &labels));
    }
    if let Some(service) = subject.service.as_ref().and_then(|s| objects.service(s)) {
        pods.extend(objects.pods_of(service));
    }
    found.extend(pods.iter().flat_map(|pod| waiting(pod)));
    found.extend(pods.iter().flat_map(|pod| without_sidecar(objects, pod)));
    found
}

fn none(objects: &Objects, in_namespace: &str, selector: &str) -> Vec<Cause> {
    let labels = selector_pairs(selector);
    let template = |deployment: &Value, here: bool| {
        (namespace(deployment) == in_namespace) == here
            && labels.iter().all(|(key, value)| {
                deployment["spec"]["template"]["metadata"]["labels"][key] == **value
            })
    };
    if let Some(deployment) = objects.of("Deployment").find(|d| template(d, true)) {
        let deployment_name = name(deployment);
        if deployment["spec"]["replicas"] == 0 {
            return cause(
                "scaled-to-zero",
                format!(
                    "Deployment {deployment_name} has 0 replicas: kubectl scale deployment {deployment_name} --replicas=1"
                ),
                format!(
                    "Deployment {deployment_name}의 레플리카가 0개입니다: kubectl scale deployment {deployment_name} --replicas=1"
                ),
            );
        }
        return Vec::new();
    }
    if let Some(deployment) = objects.of("Deployment").find(|d| template(d, false)) {
        let (deployment, other) = (name(deployment), namespace(deployment));
        return cause(
            "wrong-namespace",
            format!("Deployment {deployment} is in namespace {other}, not in {in_namespace}"),
            format!(
                "Deployment {deployment}이(가) {in_namespace}이(가) 아니라 {other} 네임스페이스에 있습니다"
            ),
        );
    }
    Vec::new()
}

/// A container that cannot start or is not ready.
fn waiting(pod: &Value) -> Vec<Cause> {
    let pod_name = name(pod);
    let statuses = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| items(&pod["status"][list]));
    for status in statuses {
        let reason = status["state"]["waiting"]["reason"].as_str().unwrap_or("");
        let container = status["name"].as_str().unwrap_or("");
        match reason {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
                let image = status["image"].as_str().unwrap_or("");
                return cause(
                    "image",
                    format!(
                        "pod {pod_name} cannot get its image {image} ({reason}); is the name right? (meshdojo images)"
                    ),
                    format!(
                        "파드 {pod_name}이(가) 이미지 {image}을(를) 가져오지 못합니다 ({reason}). 이름이 맞습니까? (meshdojo images)"
                    ),
                );
            }
            "CrashLoopBackOff" => {
                return cause(
                    "crash-loop",
                    format!(
                        "container {container} of pod {pod_name} ends again and again: kubectl logs {pod_name} -c {container} --previous"
                    ),
                    format!(
                        "파드 {pod_name}의 컨테이너 {container}이(가) 계속 종료됩니다: kubectl logs {pod_name} -c {container} --previous"
                    ),
                );
            }
            _ if status["ready"] == false && status["state"]["running"].is_object() => {
                return cause(
                    "not-ready",
                    format!(
                        "container {container} of pod {pod_name} runs but is not ready; its readiness probe fails (kubectl describe pod {pod_name})"
                    ),
                    format!(
                        "파드 {pod_name}의 컨테이너 {container}은(는) 실행 중이지만 준비되지 않았습니다. readinessProbe가 실패합니다 (kubectl describe pod {pod_name})"
                    ),
                );
            }
            _ => {}
        }
    }
    Vec::new()
}

fn without_sidecar(objects: &Objects, pod: &Value) -> Vec<Cause> {
    if has_sidecar(pod) || namespace(pod) == super::objects::ROOT {
        return Vec::new();
    }
    let (pod_name, in_namespace) = (name(pod), namespace(pod));
    let opted_out = [
        &pod["metadata"]["labels"]["sidecar.istio.io/inject"],
        &pod["metadata"]["annotations"]["sidecar.istio.io/inject"],
    ]
    .iter()
    .any(|value| **value == "false");
    if opted_out {
        return cause(
            "sidecar-opted-out",
            format!(
                "pod {pod_name} has no sidecar: sidecar.istio.io/inject is \"false\" in its template"
            ),
            format!(
                "파드 {pod_name}에는 사이드카가 없습니다. 템플릿의 sidecar.istio.io/inject가 \"false\"입니다"
            ),
        );
    }
    let Some(space) = objects.get("Namespace", "", in_namespace) else {
        return Vec::new();
    };
    let labels = &space["metadata"]["labels"];
    match labels["istio-injection"].as_str() {
        Some("enabled") => cause(
            "sidecar-needs-restart",
            format!(
                "pod {pod_name} is older than the label istio-injection=enabled of its namespace; only new pods get a sidecar: kubectl rollout restart deployment -n {in_namespace}, or delete the pod"
            ),
            format!(
                "파드 {pod_name}은(는) 네임스페이스의 istio-injection=enabled 레이블보다 먼저 만들어졌습니다. 새 파드만 사이드카를 받습니다: kubectl rollout restart deployment -n {in_namespace}, 또는 파드를 지우십시오"
            ),
        ),
        Some(other) => cause(
            "injection-label-value",
            format!(
                "namespace {in_namespace} has istio-injection={other}; the value is enabled: kubectl label namespace {in_namespace} istio-injection=enabled --overwrite"
            ),
            format!(
                "네임스페이스 {in_namespace}의 레이블이 istio-injection={other}입니다. 값은 enabled여야 합니다: kubectl label namespace {in_namespace} istio-injection=enabled --overwrite"
            ),
        ),
        None => {
            let keys = labels
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str());
            match nearest("istio-injection", keys) {
                Some(near) => cause(
                    "injection-label-name",
                    format!(
                        "namespace {in_namespace} has the label {near}; it is called istio-injection"
                    ),
                    format!(
                        "네임스페이스 {in_namespace}의 레이블 이름이 {near}입니다. istio-injection이어야 합니다"
                    ),
                ),
                None => cause(
                    "injection-label-missing",
                    format!(
                        "pod {pod_name} has no sidecar, since namespace {in_namespace} is not labelled: kubectl label namespace {in_namespace} istio-injection=enabled, then make the pods anew"
                    ),
                    format!(
                        "네임스페이스 {in_namespace}에 레이블이 없어 파드 {pod_name}에 사이드카가 없습니다: kubectl label namespace {in_namespace} istio-injection=enabled 를 실행하고 파드를 다시 만드십시오"
                    ),
                ),
            }
        }
    }
}
