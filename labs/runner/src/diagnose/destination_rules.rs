//! DestinationRules whose subsets have no pods, whose host is nobody, or which say nothing of what is looked for.

use serde_json::Value;

use super::{
    Cause, Objects, Subject, cause, nearest,
    objects::{Host, ROOT, items, name, namespace, pairs},
};

pub(super) fn causes(objects: &Objects, subject: &Subject) -> Vec<Cause> {
    let Some(wanted) = &subject.service else {
        return Vec::new();
    };
    let target = Host::resolve(&wanted.0, &wanted.1);
    let (of_target, others): (Vec<&Value>, Vec<&Value>) = objects
        .of("DestinationRule")
        .partition(|rule| host(rule) == target);
    let mut found = Vec::new();
    for rule in &of_target {
        found.extend(without_pods(objects, rule, &wanted.0));
    }
    found.extend(two_policies(&of_target, &wanted.0));
    let seen: Vec<&Value> = of_target
        .iter()
        .copied()
        .filter(|rule| sees(rule, &wanted.1))
        .collect();
    if seen.is_empty()
        && let Some(rule) = of_target.first()
    {
        let (rule, space, from) = (name(rule), namespace(rule), &wanted.1);
        found.extend(cause(
            "rule-not-visible",
            format!("DestinationRule {rule} is in namespace {space}; callers in {from} look in {from}, in the service's own namespace and in {ROOT}"),
            format!("DestinationRule {rule}이(가) {space} 네임스페이스에 있습니다. {from}의 호출자는 {from}, 서비스의 네임스페이스, {ROOT}만 봅니다"),
        ));
    }
    if let Some(policy) = subject.policy {
        found.extend(lacking(objects, &seen, &others, policy, wanted));
    } else if of_target.is_empty() {
        found.extend(misspelt(objects, &others, &wanted.0));
    }
    found
}

fn host(rule: &Value) -> Host {
    Host::resolve(rule["spec"]["host"].as_str().unwrap_or(""), namespace(rule))
}

/// Whether callers in a namespace find the rule.
fn sees(rule: &Value, from: &str) -> bool {
    let own = match host(rule) {
        Host::Service(_, namespace) => namespace,
        Host::Other(_) => String::new(),
    };
    [from, &own, ROOT].contains(&namespace(rule))
}

/// A subset whose labels no pod of the service has.
fn without_pods(objects: &Objects, rule: &Value, service: &str) -> Vec<Cause> {
    let Some(of) = objects.service(&(
        rule["spec"]["host"].as_str().unwrap_or("").to_owned(),
        namespace(rule).to_owned(),
    )) else {
        return Vec::new();
    };
    let pods = objects.pods_of(of);
    for subset in items(&rule["spec"]["subsets"]) {
        let labels = pairs(&subset["labels"]);
        let missing = labels.iter().find(|(key, value)| {
            !pods
                .iter()
                .any(|pod| pod["metadata"]["labels"][key] == **value)
        });
        let Some((key, value)) = missing else {
            continue;
        };
        if !used(objects, rule, subset["name"].as_str().unwrap_or("")) {
            continue;
        }
        let (rule_name, subset) = (name(rule), subset["name"].as_str().unwrap_or(""));
        let on_deployment = objects.of("Deployment").find(|deployment| {
            namespace(deployment) == namespace(of)
                && deployment["metadata"]["labels"][key] == **value
        });
        if let Some(deployment) = on_deployment {
            let deployment = name(deployment);
            return cause(
                "label-on-deployment-only",
                format!(
                    "the label {key}={value} of subset {subset} is on Deployment {deployment} itself, but not on its pods: it belongs under spec.template.metadata.labels"
                ),
                format!(
                    "서브셋 {subset}의 레이블 {key}={value}이(가) Deployment {deployment}에만 있고 파드에는 없습니다. spec.template.metadata.labels에 써야 합니다"
                ),
            );
        }
        let mut there: Vec<&str> = pods
            .iter()
            .filter_map(|pod| pod["metadata"]["labels"][key].as_str())
            .collect();
        there.sort_unstable();
        there.dedup();
        let there = there.join(", ");
        return cause(
            "subset-without-pods",
            format!(
                "subset {subset} of DestinationRule {rule_name} wants {key}={value}, and no pod of {service} has it; there are: {key}={there}"
            ),
            format!(
                "DestinationRule {rule_name}의 서브셋 {subset}은(는) {key}={value}인 파드를 찾는데 {service}에는 없습니다. 있는 값: {key}={there}"
            ),
        );
    }
    Vec::new()
}

/// Whether some VirtualService chooses the subset. Subsets that nobody uses may well be empty.
fn used(objects: &Objects, rule: &Value, subset: &str) -> bool {
    let target = host(rule);
    objects.of("VirtualService").any(|vs| {
        items(&vs["spec"]["http"])
            .flat_map(|route| items(&route["route"]))
            .map(|route| &route["destination"])
            .any(|d| {
                d["subset"] == subset
                    && Host::resolve(d["host"].as_str().unwrap_or(""), namespace(vs)) == target
            })
    })
}

/// Two rules with a policy for one host: the older one's counts.
fn two_policies(rules: &[&Value], service: &str) -> Vec<Cause> {
    let mut with: Vec<&Value> = rules
        .iter()
        .copied()
        .filter(|rule| rule["spec"]["trafficPolicy"].is_object())
        .collect();
    if with.len() < 2 {
        return Vec::new();
    }
    with.sort_by_key(|rule| rule["metadata"]["creationTimestamp"].as_str().unwrap_or(""));
    let (counts, ignored) = (name(with[0]), name(with[1]));
    cause(
        "two-policies",
        format!(
            "two DestinationRules have a trafficPolicy for {service}: that of {counts}, the older, counts, and that of {ignored} does not"
        ),
        format!(
            "{service}에 trafficPolicy를 가진 DestinationRule이 둘 있습니다. 먼저 만든 {counts}의 것만 쓰이고 {ignored}의 것은 무시됩니다"
        ),
    )
}

/// No rule that is seen says what is looked for.
fn lacking(
    objects: &Objects,
    seen: &[&Value],
    others: &[&Value],
    policy: &str,
    wanted: &(String, String),
) -> Vec<Cause> {
    let has = |rule: &&&Value| rule["spec"]["trafficPolicy"][policy].is_object();
    if seen.iter().any(|rule| has(&rule)) {
        return Vec::new();
    }
    let service = &wanted.0;
    if let Some(rule) = seen.first() {
        let rule_name = name(rule);
        let misplaced = rule["spec"][policy].is_object()
            || items(&rule["spec"]["subsets"]).any(|s| s["trafficPolicy"][policy].is_object());
        if misplaced {
            return cause(
                "policy-misplaced",
                format!(
                    "{policy} in DestinationRule {rule_name} stands where it does not concern all of {service}; it belongs under spec.trafficPolicy"
                ),
                format!(
                    "DestinationRule {rule_name}의 {policy}이(가) {service} 전체에 걸리지 않는 자리에 있습니다. spec.trafficPolicy 아래에 써야 합니다"
                ),
            );
        }
        return cause(
            "policy-missing",
            format!("DestinationRule {rule_name} for {service} has no {policy}"),
            format!("{service}의 DestinationRule {rule_name}에 {policy}이(가) 없습니다"),
        );
    }
    let mut found = misspelt(objects, others, service);
    if found.is_empty() {
        found = cause(
            "no-policy",
            format!("no DestinationRule for {service} has {policy}"),
            format!("{service}에 {policy}을(를) 가진 DestinationRule이 없습니다"),
        );
    }
    found
}

/// A rule for a name that is nearly the service's.
fn misspelt(objects: &Objects, others: &[&Value], service: &str) -> Vec<Cause> {
    for rule in others {
        let written = rule["spec"]["host"].as_str().unwrap_or("");
        let first = written.split('.').next().unwrap_or("");
        if !objects.knows(&host(rule))
            && (first == service || nearest(first, std::iter::once(service)).is_some())
        {
            let rule_name = name(rule);
            return cause(
                "host-misspelt",
                format!(
                    "DestinationRule {rule_name} is for the host {written}, and there is no such service; did you mean {service}?"
                ),
                format!(
                    "DestinationRule {rule_name}의 호스트 {written}이라는 서비스는 없습니다. {service}을(를) 뜻하셨습니까?"
                ),
            );
        }
    }
    Vec::new()
}
