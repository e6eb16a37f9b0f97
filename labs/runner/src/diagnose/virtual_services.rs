//! VirtualServices that are elsewhere, shadowed, unreachable, or send to where nothing is.

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{Host, items, name, namespace, strings},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some(wanted) = &subject.service else {
        return Vec::new();
    };
    let target = Host::resolve(&wanted.0, &wanted.1);
    let on_target: Vec<&Value> = objects
        .of("VirtualService")
        .filter(|rule| hosts(rule).any(|host| host == target))
        .collect();
    let mut found = Vec::new();
    if on_target.is_empty() {
        found.extend(misplaced(objects, wanted, &target));
    }
    let on_mesh: Vec<&Value> = on_target
        .iter()
        .copied()
        .filter(|r| is_on_mesh(r))
        .collect();
    if on_mesh.is_empty()
        && let Some(rule) = on_target.first()
    {
        let (rule_name, service) = (name(rule), &wanted.0);
        found.extend(cause(
            "only-on-gateway",
            format!("VirtualService {rule_name} is for a gateway only; calls between pods do not see it. Leave `gateways` out, or add mesh to it, for {service}"),
            format!("VirtualService {rule_name}은(는) 게이트웨이에만 적용되므로 파드 사이의 호출에는 효과가 없습니다. {service}에 쓰려면 gateways를 빼거나 mesh를 더하십시오"),
        ));
    }
    found.extend(shadowed(&on_mesh, &wanted.0));
    // A rule of the gateway leads to the service too.
    let leading = objects.of("VirtualService").filter(|rule| {
        !on_target.contains(rule)
            && destinations(rule).any(|(_, d)| {
                Host::resolve(d["host"].as_str().unwrap_or(""), namespace(rule)) == target
            })
    });
    for rule in on_target.iter().copied().chain(leading) {
        found.extend(nowhere(objects, rule));
        found.extend(unreachable(rule));
        found.extend(weights(rule));
        found.extend(case(rule, &subject.headers));
        found.extend(empty_fault(rule));
    }
    found.extend(leftover_fault(objects, &target, namespace_of(&target)));
    found
}

fn namespace_of(host: &Host) -> &str {
    match host {
        Host::Service(_, namespace) => namespace,
        Host::Other(_) => "",
    }
}

fn hosts(rule: &Value) -> impl Iterator<Item = Host> {
    strings(&rule["spec"]["hosts"]).map(|host| Host::resolve(host, namespace(rule)))
}

fn is_on_mesh(rule: &Value) -> bool {
    let mut gateways = strings(&rule["spec"]["gateways"]).peekable();
    gateways.peek().is_none() || gateways.any(|gateway| gateway == "mesh")
}

/// Routes of a rule and their destinations.
fn destinations(rule: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    items(&rule["spec"]["http"])
        .flat_map(|route| items(&route["route"]))
        .map(|route| (route, &route["destination"]))
}

/// No rule is for the service: is one in another namespace, or for a name that is nearly it?
fn misplaced(objects: &Objects, wanted: &(String, String), target: &Host) -> Vec<Cause> {
    let (service, from) = wanted;
    for rule in objects.of("VirtualService") {
        let (rule_name, in_namespace) = (name(rule), namespace(rule));
        for host in strings(&rule["spec"]["hosts"]) {
            if host == service && Host::resolve(host, in_namespace) != *target {
                return cause(
                    "rule-in-wrong-namespace",
                    format!(
                        "VirtualService {rule_name} is in namespace {in_namespace}, where {host} means {host}.{in_namespace}; the service is in {from}: apply it with -n {from}"
                    ),
                    format!(
                        "VirtualService {rule_name}이(가) {in_namespace} 네임스페이스에 있어 {host}은(는) {host}.{in_namespace}을(를) 뜻합니다. 서비스는 {from}에 있으니 -n {from} 옵션을 붙여 적용하십시오"
                    ),
                );
            }
            if host.split('.').next() == Some(service)
                && !host.ends_with(".svc.cluster.local")
                && host.contains('.')
            {
                return cause(
                    "host-half-qualified",
                    format!(
                        "VirtualService {rule_name} is for {host}, which is not completed: write {service}, or {service}.{from}.svc.cluster.local"
                    ),
                    format!(
                        "VirtualService {rule_name}의 호스트 {host}은(는) 완성되지 않습니다. {service} 또는 {service}.{from}.svc.cluster.local로 쓰십시오"
                    ),
                );
            }
            let known = objects.knows(&Host::resolve(host, in_namespace));
            if !known && nearest(host, std::iter::once(service.as_str())).is_some() {
                return cause(
                    "host-misspelt",
                    format!(
                        "VirtualService {rule_name} is for the host {host}, and there is no such service; did you mean {service}?"
                    ),
                    format!(
                        "VirtualService {rule_name}의 호스트 {host}이라는 서비스는 없습니다. {service}을(를) 뜻하셨습니까?"
                    ),
                );
            }
        }
    }
    Vec::new()
}

/// Two rules for one host on the mesh: only the older counts.
fn shadowed(rules: &[&Value], service: &str) -> Vec<Cause> {
    if rules.len() < 2 {
        return Vec::new();
    }
    let mut by_age = rules.to_vec();
    by_age.sort_by_key(|rule| {
        (
            rule["metadata"]["creationTimestamp"].as_str().unwrap_or(""),
            namespace(rule),
            name(rule),
        )
    });
    let (counts, ignored) = (name(by_age[0]), name(by_age[1]));
    cause(
        "two-rules",
        format!(
            "two VirtualServices are for {service}: {counts} is older and counts, {ignored} does nothing; delete one (kubectl delete virtualservice {counts})"
        ),
        format!(
            "{service}에 VirtualService가 둘 있습니다. 먼저 만든 {counts}만 쓰이고 {ignored}은(는) 무시됩니다. 하나를 지우십시오 (kubectl delete virtualservice {counts})"
        ),
    )
}

/// A destination that is not there, or a subset that nobody defines.
fn nowhere(objects: &Objects, rule: &Value) -> Vec<Cause> {
    let (rule_name, in_namespace) = (name(rule), namespace(rule));
    for (_, destination) in destinations(rule) {
        let host = destination["host"].as_str().unwrap_or("");
        let resolved = Host::resolve(host, in_namespace);
        if !objects.knows(&resolved) {
            let services = objects
                .of("Service")
                .filter(|s| namespace(s) == in_namespace);
            let near = nearest(host, services.map(name));
            return cause(
                "destination-unknown",
                match near {
                    Some(near) => format!(
                        "VirtualService {rule_name} sends to {host}, and there is no such service; did you mean {near}?"
                    ),
                    None => format!(
                        "VirtualService {rule_name} sends to {host}, and there is no such service"
                    ),
                },
                match near {
                    Some(near) => format!(
                        "VirtualService {rule_name}이(가) 보내는 {host}이라는 서비스는 없습니다. {near}을(를) 뜻하셨습니까?"
                    ),
                    None => format!(
                        "VirtualService {rule_name}이(가) 보내는 {host}이라는 서비스는 없습니다"
                    ),
                },
            );
        }
        let Some(subset) = destination["subset"].as_str() else {
            continue;
        };
        if let Some(found) = subset_missing(objects, rule, &resolved, host, subset) {
            return found;
        }
    }
    Vec::new()
}

fn subset_missing(
    objects: &Objects,
    rule: &Value,
    resolved: &Host,
    host: &str,
    subset: &str,
) -> Option<Vec<Cause>> {
    let has = |dr: &Value| items(&dr["spec"]["subsets"]).any(|s| s["name"] == subset);
    let of_host: Vec<&Value> = objects
        .of("DestinationRule")
        .filter(|dr| {
            Host::resolve(dr["spec"]["host"].as_str().unwrap_or(""), namespace(dr)) == *resolved
        })
        .collect();
    if of_host.iter().any(|dr| has(dr)) {
        return None;
    }
    let rule_name = name(rule);
    if let Some(dr) = of_host.first() {
        let known: Vec<&str> = of_host
            .iter()
            .flat_map(|dr| items(&dr["spec"]["subsets"]))
            .filter_map(|s| s["name"].as_str())
            .collect();
        let (dr, known) = (name(dr), known.join(", "));
        return Some(cause(
            "subset-undefined",
            format!(
                "VirtualService {rule_name} chooses subset {subset} of {host}; DestinationRule {dr} has {known}"
            ),
            format!(
                "VirtualService {rule_name}이(가) {host}의 서브셋 {subset}을(를) 고르는데, DestinationRule {dr}에는 {known}이(가) 있습니다"
            ),
        ));
    }
    // Nobody speaks of this host: does somebody define the subset for what looks like it?
    if let Some(dr) = objects.of("DestinationRule").find(|dr| has(dr)) {
        let (dr_name, dr_host) = (name(dr), dr["spec"]["host"].as_str().unwrap_or(""));
        if nearest(host, std::iter::once(dr_host)).is_some() || dr_host == host {
            let space = namespace(dr);
            return Some(cause(
                "host-mismatch",
                format!(
                    "subset {subset} is defined by DestinationRule {dr_name} in namespace {space} for the host {dr_host}, which is not the {host} that VirtualService {rule_name} sends to; both have to name the same service"
                ),
                format!(
                    "서브셋 {subset}은(는) {space} 네임스페이스의 DestinationRule {dr_name}이(가) 호스트 {dr_host}에 대해 정의했는데, VirtualService {rule_name}이(가) 보내는 {host}와(과) 다릅니다. 둘이 같은 서비스를 가리켜야 합니다"
                ),
            ));
        }
    }
    Some(cause(
        "no-destination-rule",
        format!(
            "VirtualService {rule_name} chooses subset {subset}, but no DestinationRule for {host} defines subsets"
        ),
        format!(
            "VirtualService {rule_name}이(가) 서브셋 {subset}을(를) 고르지만, {host}의 서브셋을 정의한 DestinationRule이 없습니다"
        ),
    ))
}

/// A route without a match takes everything; what stands below is never reached.
fn unreachable(rule: &Value) -> Vec<Cause> {
    let routes: Vec<&Value> = items(&rule["spec"]["http"]).collect();
    let takes_all = |route: &&Value| items(&route["match"]).next().is_none();
    match routes.iter().position(takes_all) {
        Some(at) if at + 1 < routes.len() => {
            let (rule_name, first, next) = (name(rule), at + 1, at + 2);
            cause(
                "unreachable-route",
                format!(
                    "in VirtualService {rule_name} route {first} has no match and takes everything, so route {next} is never reached; put it last"
                ),
                format!(
                    "VirtualService {rule_name}의 {first}번째 경로에는 조건이 없어 모든 요청을 받으므로 {next}번째 경로에는 아무 요청도 닿지 않습니다. 맨 끝으로 옮기십시오"
                ),
            )
        }
        _ => Vec::new(),
    }
}

fn weights(rule: &Value) -> Vec<Cause> {
    for route in items(&rule["spec"]["http"]) {
        let given: Vec<Option<u64>> = items(&route["route"])
            .map(|r| r["weight"].as_u64())
            .collect();
        let sum: u64 = given.iter().flatten().sum();
        let rule_name = name(rule);
        if given.len() > 1 && given.iter().any(Option::is_none) && sum > 0 {
            return cause(
                "weight-left-out",
                format!(
                    "in VirtualService {rule_name} a destination has no weight, which counts as 0"
                ),
                format!(
                    "VirtualService {rule_name}에 가중치가 없는 목적지가 있습니다. 0으로 계산됩니다"
                ),
            );
        }
        if given.len() > 1 && sum != 100 && sum > 0 {
            return cause(
                "weights-not-100",
                format!(
                    "the weights in VirtualService {rule_name} add up to {sum}; shares are weight / {sum}, not per cent"
                ),
                format!(
                    "VirtualService {rule_name}의 가중치 합이 {sum}입니다. 몫은 백분율이 아니라 가중치 / {sum}입니다"
                ),
            );
        }
    }
    Vec::new()
}

/// The request's header is the rule's, but for capital letters.
fn case(rule: &Value, headers: &[(String, String)]) -> Vec<Cause> {
    let matches = items(&rule["spec"]["http"])
        .flat_map(|route| items(&route["match"]))
        .flat_map(|m| m["headers"].as_object().into_iter().flatten());
    for (header, condition) in matches {
        let Some(wanted) = condition["exact"].as_str() else {
            continue;
        };
        let sent = headers.iter().find(|(name, value)| {
            name.eq_ignore_ascii_case(header)
                && value != wanted
                && value.eq_ignore_ascii_case(wanted)
        });
        if let Some((_, value)) = sent {
            let rule_name = name(rule);
            return cause(
                "value-case",
                format!(
                    "VirtualService {rule_name} matches {header}: {wanted}, and the request says {value}; values are compared letter by letter"
                ),
                format!(
                    "VirtualService {rule_name}의 조건은 {header}: {wanted}인데 요청은 {value}입니다. 대소문자까지 같아야 합니다"
                ),
            );
        }
        let wrong_header = headers.iter().find(|(name, value)| {
            value == wanted
                && !name.eq_ignore_ascii_case(header)
                && nearest(header, std::iter::once(name.as_str())).is_some()
        });
        if let Some((sent, _)) = wrong_header {
            let rule_name = name(rule);
            return cause(
                "header-name",
                format!(
                    "VirtualService {rule_name} looks at the header {header}; the application sends {sent}"
                ),
                format!(
                    "VirtualService {rule_name}은(는) {header} 헤더를 보는데 애플리케이션은 {sent}을(를) 보냅니다"
                ),
            );
        }
    }
    Vec::new()
}

/// A fault with a percentage of nothing.
fn empty_fault(rule: &Value) -> Vec<Cause> {
    let faults = items(&rule["spec"]["http"])
        .flat_map(|route| [&route["fault"]["delay"], &route["fault"]["abort"]]);
    for fault in faults {
        if fault.is_object()
            && fault["percentage"].is_object()
            && fault["percentage"]["value"].as_f64().unwrap_or(0.0) == 0.0
        {
            let rule_name = name(rule);
            return cause(
                "fault-of-nothing",
                format!(
                    "the fault in VirtualService {rule_name} has a percentage of 0: it hits no request"
                ),
                format!(
                    "VirtualService {rule_name}의 결함 비율이 0이라 아무 요청에도 걸리지 않습니다"
                ),
            );
        }
    }
    Vec::new()
}

/// A fault on another service of the namespace, perhaps of another lab.
fn leftover_fault(objects: &Objects, target: &Host, in_namespace: &str) -> Vec<Cause> {
    let faulty = objects.of("VirtualService").find(|rule| {
        namespace(rule) == in_namespace
            && !hosts(rule).any(|host| host == *target)
            && items(&rule["spec"]["http"]).any(|route| route["fault"].is_object())
    });
    match faulty.map(name) {
        Some(rule) => cause(
            "fault-elsewhere",
            format!(
                "VirtualService {rule} injects a fault; is it left over from another lab? (kubectl get virtualservice {rule} -o yaml)"
            ),
            format!(
                "VirtualService {rule}이(가) 결함을 주입합니다. 다른 실습에서 남은 것은 아닙니까? (kubectl get virtualservice {rule} -o yaml)"
            ),
        ),
        None => Vec::new(),
    }
}
