//! Rules of security that stop a request.

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause,
    objects::{Host, ROOT, has_sidecar, items, name, namespace, pairs, selector_pairs},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some(wanted) = &subject.service else {
        return Vec::new();
    };
    let Some(service) = objects.service(wanted) else {
        return Vec::new();
    };
    let mut found = strict(objects, subject, service);
    found.extend(plain_text(objects, service, wanted));
    found.extend(denied(objects, service));
    found
}

/// The PeerAuthentication that demands mTLS of a namespace, if one does.
fn strict_rule<'a>(objects: &'a Objects, in_namespace: &str) -> Option<&'a Value> {
    let mut rules = objects.of("PeerAuthentication").filter(|rule| {
        rule["spec"]["mtls"]["mode"] == "STRICT" && [in_namespace, ROOT].contains(&namespace(rule))
    });
    rules.next()
}

fn strict(objects: &Objects, subject: &Subject, service: &Value) -> Vec<Cause> {
    let Some(rule) = strict_rule(objects, namespace(service)) else {
        return Vec::new();
    };
    let Some((space, from)) = &subject.caller else {
        return Vec::new();
    };
    let labels = selector_pairs(&super::selector(from));
    let bare = objects
        .pods(space, &labels)
        .into_iter()
        .find(|pod| !has_sidecar(pod));
    match bare.map(name) {
        Some(pod) => {
            let rule = name(rule);
            cause(
                "strict-without-sidecar",
                format!(
                    "PeerAuthentication {rule} demands mTLS, and pod {pod}, which asks, has no sidecar to speak it"
                ),
                format!(
                    "PeerAuthentication {rule}이(가) mTLS를 요구하는데, 호출하는 파드 {pod}에는 그것을 해 줄 사이드카가 없습니다"
                ),
            )
        }
        None => Vec::new(),
    }
}

/// A DestinationRule that turns mTLS off towards pods that demand it.
fn plain_text(objects: &Objects, service: &Value, wanted: &(String, String)) -> Vec<Cause> {
    if strict_rule(objects, namespace(service)).is_none() {
        return Vec::new();
    }
    let target = Host::resolve(&wanted.0, &wanted.1);
    let off = objects.of("DestinationRule").find(|rule| {
        Host::resolve(rule["spec"]["host"].as_str().unwrap_or(""), namespace(rule)) == target
            && rule["spec"]["trafficPolicy"]["tls"]["mode"] == "DISABLE"
    });
    match off.map(name) {
        Some(rule) => cause(
            "tls-modes-clash",
            format!(
                "DestinationRule {rule} turns TLS off (mode DISABLE), and a PeerAuthentication demands it (STRICT)"
            ),
            format!(
                "DestinationRule {rule}은(는) TLS를 끄는데(DISABLE) PeerAuthentication은 요구합니다(STRICT)"
            ),
        ),
        None => Vec::new(),
    }
}

/// An AuthorizationPolicy that selects the pods and allows somebody, hence nobody else.
fn denied(objects: &Objects, service: &Value) -> Vec<Cause> {
    let pods = objects.pods_of(service);
    let concerns = |policy: &&Value| {
        let labels = pairs(&policy["spec"]["selector"]["matchLabels"]);
        [namespace(service), ROOT].contains(&namespace(policy))
            && (labels.is_empty()
                || pods.iter().any(|pod| {
                    labels
                        .iter()
                        .all(|(k, v)| pod["metadata"]["labels"][k] == **v)
                }))
    };
    let allows = |policy: &&Value| policy["spec"]["action"].as_str().unwrap_or("ALLOW") == "ALLOW";
    let Some(policy) = objects
        .of("AuthorizationPolicy")
        .filter(concerns)
        .find(allows)
    else {
        return Vec::new();
    };
    let (policy_name, service) = (name(policy), name(service));
    if items(&policy["spec"]["rules"]).next().is_none() {
        return cause(
            "allows-nothing",
            format!(
                "AuthorizationPolicy {policy_name} has no rules: it allows nothing, so all requests for {service} get 403"
            ),
            format!(
                "AuthorizationPolicy {policy_name}에 rules가 없어 아무것도 허용하지 않습니다. {service}로 가는 모든 요청이 403을 받습니다"
            ),
        );
    }
    cause(
        "allows-others",
        format!(
            "AuthorizationPolicy {policy_name} allows only what its rules say for {service}; all else gets 403. Compare method, path and the caller's identity"
        ),
        format!(
            "AuthorizationPolicy {policy_name}은(는) 규칙에 적힌 것만 {service}에 허용하고 나머지는 403입니다. 메서드, 경로, 호출자의 신원을 비교해 보십시오"
        ),
    )
}
