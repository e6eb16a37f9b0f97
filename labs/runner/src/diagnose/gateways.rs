//! The way in: Gateways without pods, VirtualServices that are bound to none, hosts that do not meet.

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{items, name, namespace, pairs, strings},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some(host) = &subject.gateway_host else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for gateway in objects.of("Gateway") {
        found.extend(without_pods(objects, gateway));
    }
    let bound: Vec<&Value> = objects
        .of("VirtualService")
        .filter(|rule| strings(&rule["spec"]["gateways"]).any(|g| g != "mesh"))
        .collect();
    for rule in &bound {
        found.extend(missing(objects, rule));
        found.extend(hosts_apart(objects, rule));
    }
    if objects.of("Gateway").next().is_none() {
        found.extend(cause(
            "no-gateway",
            "there is no Gateway: the ingress gateway listens for nobody (kubectl get gateways -A)".into(),
            "Gateway가 하나도 없어 인그레스 게이트웨이가 아무것도 받지 않습니다 (kubectl get gateways -A)".into(),
        ));
    } else if !host.is_empty() {
        found.extend(unknown_host(objects, &bound, host));
    }
    found
}

/// A Gateway whose selector finds no pod.
fn without_pods(objects: &Objects, gateway: &Value) -> Vec<Cause> {
    let labels = pairs(&gateway["spec"]["selector"]);
    let found = objects.of("Pod").any(|pod| {
        labels
            .iter()
            .all(|(key, value)| pod["metadata"]["labels"][key] == **value)
    });
    if found || labels.is_empty() {
        return Vec::new();
    }
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    let (gateway, selector) = (name(gateway), selector.join(", "));
    cause(
        "gateway-selector",
        format!(
            "Gateway {gateway} selects pods with {selector}, and there are none; the ingress gateway's pods have istio: ingressgateway"
        ),
        format!(
            "Gateway {gateway}의 셀렉터 {selector}에 맞는 파드가 없습니다. 인그레스 게이트웨이의 파드에는 istio: ingressgateway 레이블이 있습니다"
        ),
    )
}

/// The Gateway that a rule names, `namespace/name` or `name`.
fn named<'a>(objects: &'a Objects, rule: &Value, gateway: &str) -> Option<&'a Value> {
    let (space, gateway) = gateway
        .split_once('/')
        .unwrap_or((namespace(rule), gateway));
    objects.get("Gateway", space, gateway)
}

fn missing(objects: &Objects, rule: &Value) -> Vec<Cause> {
    let absent = strings(&rule["spec"]["gateways"])
        .find(|g| *g != "mesh" && named(objects, rule, g).is_none());
    let Some(wanted) = absent else {
        return Vec::new();
    };
    let (rule_name, space) = (name(rule), namespace(rule));
    let bare = wanted.rsplit('/').next().unwrap_or(wanted);
    if let Some(elsewhere) = objects.of("Gateway").find(|g| name(g) == bare) {
        let other = namespace(elsewhere);
        return cause(
            "gateway-in-other-namespace",
            format!(
                "VirtualService {rule_name} in {space} names the Gateway {wanted}, which is in namespace {other}: write {other}/{bare}"
            ),
            format!(
                "{space}의 VirtualService {rule_name}이(가) 가리키는 Gateway {wanted}은(는) {other} 네임스페이스에 있습니다. {other}/{bare}로 쓰십시오"
            ),
        );
    }
    let near = nearest(bare, objects.of("Gateway").map(name));
    cause(
        "gateway-missing",
        match near {
            Some(near) => format!(
                "VirtualService {rule_name} names the Gateway {wanted}, which is not there; did you mean {near}?"
            ),
            None => {
                format!("VirtualService {rule_name} names the Gateway {wanted}, which is not there")
            }
        },
        match near {
            Some(near) => format!(
                "VirtualService {rule_name}이(가) 가리키는 Gateway {wanted}이(가) 없습니다. {near}을(를) 뜻하셨습니까?"
            ),
            None => {
                format!("VirtualService {rule_name}이(가) 가리키는 Gateway {wanted}이(가) 없습니다")
            }
        },
    )
}

/// Whether a pattern of a Gateway or VirtualService covers a host.
fn covers(pattern: &str, host: &str) -> bool {
    let pattern = pattern.rsplit('/').next().unwrap_or(pattern);
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => pattern == host,
    }
}

/// The hosts of the rule are not among those that its Gateways take.
fn hosts_apart(objects: &Objects, rule: &Value) -> Vec<Cause> {
    for gateway in strings(&rule["spec"]["gateways"]) {
        let Some(found) = named(objects, rule, gateway) else {
            continue;
        };
        let taken: Vec<&str> = items(&found["spec"]["servers"])
            .flat_map(|server| strings(&server["hosts"]))
            .collect();
        let lost = strings(&rule["spec"]["hosts"]).find(|host| {
            *host != "*"
                && !taken
                    .iter()
                    .any(|t| covers(t, host) || covers(host, t.rsplit('/').next().unwrap_or(t)))
        });
        if let Some(host) = lost {
            let (rule_name, taken) = (name(rule), taken.join(", "));
            return cause(
                "gateway-hosts",
                format!(
                    "VirtualService {rule_name} is for {host}, but Gateway {gateway} takes {taken} only"
                ),
                format!(
                    "VirtualService {rule_name}의 호스트는 {host}인데 Gateway {gateway}은(는) {taken}만 받습니다"
                ),
            );
        }
    }
    Vec::new()
}

/// No rule on a gateway is for the host that was asked for.
fn unknown_host(objects: &Objects, bound: &[&Value], host: &str) -> Vec<Cause> {
    let for_it = |rule: &&Value| strings(&rule["spec"]["hosts"]).any(|h| covers(h, host));
    if bound.iter().any(&for_it) {
        return Vec::new();
    }
    let unbound = objects.of("VirtualService").find(|rule| for_it(rule));
    match unbound.map(name) {
        Some(rule) => cause(
            "rule-not-bound",
            format!(
                "VirtualService {rule} is for {host} but names no Gateway, so it is for calls between pods only; add `gateways`"
            ),
            format!(
                "VirtualService {rule}은(는) {host}의 규칙이지만 Gateway를 가리키지 않아 파드 사이의 호출에만 적용됩니다. gateways를 더하십시오"
            ),
        ),
        None => cause(
            "host-without-rule",
            format!(
                "no VirtualService on a gateway is for the host {host}: the gateway answers 404 (kubectl get virtualservices -A)"
            ),
            format!(
                "게이트웨이에 호스트 {host}의 VirtualService가 없어 404로 응답합니다 (kubectl get virtualservices -A)"
            ),
        ),
    }
}
