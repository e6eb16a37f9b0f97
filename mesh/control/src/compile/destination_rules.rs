//! Which DestinationRule is in force, and what it says for a port and a subset.

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::{
    DestinationRule, Host, Metadata, Resource,
    destination_rule::{Subset, TrafficPolicy},
};
use mesh_config::names;

use super::{host_index::HostIndex, traffic_policy::Policy, visibility::visible};
use crate::{ROOT_NAMESPACE, world::selects};

/// The rule in force for one service, seen from one namespace. Rules for the same host in one
/// namespace are united: all subsets, and the first traffic policy.
#[derive(Debug, Default)]
pub(crate) struct Effective<'a> {
    policy: Option<&'a TrafficPolicy>,
    /// The first of the united rules.
    first: Option<&'a Metadata>,
    pub(crate) subsets: Vec<&'a Subset>,
}

/// Looks in the caller's namespace, then in the service's, then in the root namespace; the first
/// with a matching rule decides, an exact host before the longest wildcard.
pub(crate) fn lookup<'a>(
    rules: &'a HostIndex<DestinationRule>,
    caller: &str,
    host: &'a Host,
    service_namespace: &str,
) -> Effective<'a> {
    let own = (caller != ROOT_NAMESPACE).then_some(caller);
    for namespace in own.into_iter().chain([service_namespace, ROOT_NAMESPACE]) {
        let in_force = |rule: &Resource<DestinationRule>| {
            rule.metadata.namespace == namespace
                && rule.spec.workload_selector.is_none()
                && visible(&rule.spec.export_to, namespace, caller)
        };
        if let Some(effective) = most_specific(rules, host, in_force) {
            return effective;
        }
    }
    Effective::default()
}

/// The rule of the caller's own namespace that is for pods with its labels, if there is one: it comes
/// before all others.
pub(crate) fn selecting<'a>(
    rules: &'a HostIndex<DestinationRule>,
    caller: &str,
    labels: &BTreeMap<String, String>,
    host: &'a Host,
) -> Option<Effective<'a>> {
    most_specific(rules, host, |rule| {
        let selector = rule.spec.workload_selector.as_ref();
        rule.metadata.namespace == caller
            && selector.is_some_and(|selector| selects(&selector.match_labels, labels))
    })
}

/// The united rules of the most specific host among those in force.
fn most_specific<'a>(
    rules: &'a HostIndex<DestinationRule>,
    host: &'a Host,
    in_force: impl Fn(&Resource<DestinationRule>) -> bool,
) -> Option<Effective<'a>> {
    let covering = rules.covering(host).filter(|(_, rule)| in_force(rule));
    let candidates: Vec<_> = covering.collect();
    let specific = |named: &Host| (!named.is_wildcard(), named.as_str().len());
    let best = candidates
        .iter()
        .map(|(named, _)| named)
        .max_by_key(|named| specific(named))?;
    let mut effective = Effective::default();
    for (_, rule) in candidates.iter().filter(|(named, _)| named == best) {
        effective.first = effective.first.or(Some(&rule.metadata));
        effective.policy = effective.policy.or(rule.spec.traffic_policy.as_ref());
        for subset in &rule.spec.subsets {
            let known = effective
                .subsets
                .iter()
                .any(|other| other.name == subset.name);
            if !known {
                effective.subsets.push(subset);
            }
        }
    }
    Some(effective)
}

impl<'a> Effective<'a> {
    /// Where the rule is found, as clusters tell it.
    pub(crate) fn config(&self) -> Option<Arc<str>> {
        let rule = self.first?;
        Some(names::config("destination-rule", &rule.namespace, &rule.name).into())
    }

    /// What holds for a port of the service and, if given, a subset: the rule, then its port, then
    /// the subset, then the subset's port.
    pub(crate) fn policy(&self, port: u16, subset: Option<&'a Subset>) -> Policy<'a> {
        let of_subset = subset.and_then(|subset| subset.traffic_policy.as_ref());
        let mut policy = Policy::default();
        for level in self.policy.into_iter().chain(of_subset) {
            layer(level, port, &mut policy);
        }
        policy
    }
}

fn layer<'a>(level: &'a TrafficPolicy, port: u16, policy: &mut Policy<'a>) {
    let of_port = |selector: &Option<mesh_api::virtual_service::PortSelector>| {
        selector
            .as_ref()
            .is_some_and(|selector| selector.number == u32::from(port))
    };
    *policy = Policy {
        load_balancer: level.load_balancer.as_ref().or(policy.load_balancer),
        connection_pool: level.connection_pool.as_ref().or(policy.connection_pool),
        outlier_detection: level
            .outlier_detection
            .as_ref()
            .or(policy.outlier_detection),
        retry_budget: level.retry_budget.as_ref().or(policy.retry_budget),
        tls: level.tls.as_ref().or(policy.tls),
        proxy_protocol: level.proxy_protocol.as_ref().or(policy.proxy_protocol),
    };
    // What a port's settings leave out falls back to the defaults, not to the level above.
    if let Some(settings) = level
        .port_level_settings
        .iter()
        .find(|settings| of_port(&settings.port))
    {
        *policy = Policy {
            load_balancer: settings.load_balancer.as_ref(),
            connection_pool: settings.connection_pool.as_ref(),
            outlier_detection: settings.outlier_detection.as_ref(),
            tls: settings.tls.as_ref(),
            ..*policy
        };
    }
}

#[cfg(test)]
mod tests {
    use mesh_config::{Cluster, Discovery, LbPolicy};
    use serde_json::{Value, json};

    use super::*;

    fn rules(specs: &[(&str, Value)]) -> HostIndex<DestinationRule> {
        let rule = |(namespace, spec): &(&str, Value)| {
            let object =
                json!({"metadata": {"name": "rule", "namespace": namespace}, "spec": spec});
            Arc::new(
                mesh_api::parse("DestinationRule", &object)
                    .unwrap()
                    .resource,
            )
        };
        let rules: Vec<_> = specs.iter().map(rule).collect();
        HostIndex::new(&rules, |rule| vec![&rule.host])
    }

    fn subsets(rules: &HostIndex<DestinationRule>, caller: &str) -> Vec<String> {
        let host = Host::service("web", "shop");
        let found = lookup(rules, caller, &host, "shop");
        found
            .subsets
            .iter()
            .map(|subset| subset.name.clone())
            .collect()
    }

    fn rule(host: &str, subset: &str) -> Value {
        json!({"host": host, "subsets": [{"name": subset}]})
    }

    #[test]
    fn the_callers_namespace_then_the_services_then_the_root() {
        let host = "web.shop.svc.cluster.local";
        let all = [
            (ROOT_NAMESPACE, rule("*.local", "root")),
            ("shop", rule("web", "service")),
            ("here", rule(host, "caller")),
        ];
        assert_eq!(subsets(&rules(&all), "here"), ["caller"]);
        assert_eq!(subsets(&rules(&all), "elsewhere"), ["service"]);
        assert_eq!(subsets(&rules(&all[..1]), "elsewhere"), ["root"]);
    }

    #[test]
    fn the_exact_host_comes_before_the_longest_wildcard_and_equals_unite() {
        let all = rules(&[
            ("shop", rule("*.svc.cluster.local", "short")),
            ("shop", rule("*.shop.svc.cluster.local", "long")),
        ]);
        assert_eq!(subsets(&all, "shop"), ["long"]);
        let all = rules(&[
            ("shop", rule("*", "any")),
            ("shop", rule("web", "v1")),
            ("shop", rule("web", "v2")),
        ]);
        assert_eq!(subsets(&all, "shop"), ["v1", "v2"]);
    }

    #[test]
    fn rules_that_are_not_exported_are_not_seen() {
        let all = rules(&[(
            "shop",
            json!({"host": "web", "exportTo": ["."], "subsets": [{"name": "v1"}]}),
        )]);
        assert_eq!(subsets(&all, "shop"), ["v1"]);
        assert!(subsets(&all, "elsewhere").is_empty());
    }

    #[test]
    fn rules_for_some_pods_come_first_for_them_alone() {
        let all = rules(&[
            ("shop", rule("web", "everybody")),
            (
                "shop",
                json!({"host": "web", "subsets": [{"name": "chosen"}],
                    "workloadSelector": {"matchLabels": {"app": "front"}}}),
            ),
        ]);
        assert_eq!(subsets(&all, "shop"), ["everybody"]);
        let host = Host::service("web", "shop");
        let labels = |app: &str| BTreeMap::from([("app".to_owned(), app.to_owned())]);
        let found = |caller, app| {
            let found = selecting(&all, caller, &labels(app), &host);
            found.map(|found| found.subsets[0].name.clone())
        };
        assert_eq!(found("shop", "front").as_deref(), Some("chosen"));
        assert_eq!(found("shop", "other"), None);
        assert_eq!(found("elsewhere", "front"), None);
    }

    #[test]
    fn ports_replace_and_subsets_override() {
        let all = rules(&[(
            "shop",
            json!({
                "host": "web",
                "trafficPolicy": {
                    "loadBalancer": {"simple": "ROUND_ROBIN"}, "connectionPool": {"tcp": {"connectTimeout": "1s"}},
                    "portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "RANDOM"}}],
                },
                "subsets": [{"name": "v1", "trafficPolicy": {"loadBalancer": {"simple": "LEAST_CONN"}}}],
            }),
        )]);
        let host = Host::service("web", "shop");
        let found = lookup(&all, "shop", &host, "shop");
        let settings = |port, subset| {
            let mut cluster = Cluster::new("web", Discovery::Eds);
            found.policy(port, subset).apply(&mut cluster);
            (cluster.lb_policy, cluster.connect_timeout.as_secs())
        };
        assert_eq!(settings(80, None), (LbPolicy::RoundRobin, 1));
        assert_eq!(settings(81, None), (LbPolicy::Random, 10));
        let v1 = Some(found.subsets[0]);
        assert_eq!(settings(80, v1), (LbPolicy::LeastRequest, 1));
    }
}
