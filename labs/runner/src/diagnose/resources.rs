//! Objects that are somewhere else, called otherwise, or about which the mesh itself has something to say.

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{name, namespace},
};

/// An object that should be there and is not.
pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some((_, kind, in_namespace, wanted)) = &subject.object else {
        return Vec::new();
    };
    if objects.get(kind, in_namespace, wanted).is_some() {
        return if subject.variables {
            variables(kind, wanted)
        } else {
            Vec::new()
        };
    }
    if let Some(elsewhere) = objects.of(kind).find(|object| name(object) == wanted) {
        let other = namespace(elsewhere);
        return cause(
            "wrong-namespace",
            format!(
                "{kind} {wanted} is in namespace {other}, not in {in_namespace}; add -n {in_namespace}"
            ),
            format!(
                "{kind} {wanted}이(가) {in_namespace}이(가) 아니라 {other} 네임스페이스에 있습니다. -n {in_namespace}을(를) 붙이십시오"
            ),
        );
    }
    let here = objects
        .of(kind)
        .filter(|object| namespace(object) == in_namespace);
    match nearest(wanted, here.map(name)) {
        Some(near) => cause(
            "similar-name",
            format!("there is a {kind} called {near}; did you mean it to be {wanted}?"),
            format!("{near}이라는 {kind}이(가) 있습니다. {wanted}을(를) 뜻하셨습니까?"),
        ),
        None => Vec::new(),
    }
}

/// The object is there and its variables are not as they should be.
fn variables(kind: &str, name: &str) -> Vec<Cause> {
    let (kind, example) = (kind.to_lowercase(), "NAME=VALUE");
    cause(
        "set-in-a-shell-only",
        format!(
            "`export` in a shell of `kubectl exec` is for that shell alone, the program that runs never sees it: kubectl set env {kind}/{name} {example}"
        ),
        format!(
            "`kubectl exec`로 연 셸의 `export`는 그 셸에서만 통하고, 실행 중인 프로그램은 알지 못합니다: kubectl set env {kind}/{name} {example}"
        ),
    )
}

/// What the control plane wrote into the status of the rules of the namespace.
pub(super) fn reports(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let about = subject
        .service
        .as_ref()
        .map(|(_, namespace)| namespace)
        .or(subject
            .object
            .as_ref()
            .map(|(_, _, namespace, _)| namespace));
    let Some(about) = about else {
        return Vec::new();
    };
    for kind in ["VirtualService", "DestinationRule", "Gateway"] {
        for object in objects.of(kind).filter(|object| namespace(object) == about) {
            let Some(message) = object.pointer("/status/validationMessages/0") else {
                continue;
            };
            let code = message
                .pointer("/type/code")
                .and_then(|c| c.as_str())
                .unwrap_or("");
            let text = message["message"].as_str().unwrap_or("");
            let what = format!("{kind} {}: [{code}] {text}", name(object));
            return cause("reported", what.clone(), what);
        }
    }
    Vec::new()
}
