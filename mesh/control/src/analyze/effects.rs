//! What a rule does that its author may not expect. Not a mistake: told when asked.

use mesh_api::{DestinationRule, Host, Resource, VirtualService};

use super::findings::Id;
use crate::{compile::Compiler, report::Message};

pub(super) fn look(compiler: &Compiler) -> Vec<(Id, Message)> {
    let world = compiler.world();
    let mut said = Vec::new();
    for rule in world.destination_rules.values() {
        if let Some(text) = unlimited_connections(&rule.spec) {
            let message = Message::info("DOJO0002", "ConnectionsNotLimited", text);
            said.push((id("DestinationRule", rule), message));
        }
    }
    for service in world.virtual_services.values() {
        let rules = world.destination_rules.values().map(|rule| &**rule);
        if let Some(text) = weights_before_hash(service, rules) {
            let message = Message::info("DOJO0003", "WeightsBeforeHash", text);
            said.push((id("VirtualService", service), message));
        }
    }
    said
}

fn id<T>(kind: &str, resource: &Resource<T>) -> Id {
    let metadata = &resource.metadata;
    (
        kind.to_owned(),
        metadata.namespace.clone(),
        metadata.name.clone(),
    )
}

/// A limit on those who wait for a connection, and none on connections.
fn unlimited_connections(rule: &DestinationRule) -> Option<String> {
    let pool = rule.traffic_policy.as_ref()?.connection_pool.as_ref()?;
    let pending = pool.http.as_ref()?.http1_max_pending_requests?;
    let limited = pool
        .tcp
        .as_ref()
        .is_some_and(|tcp| tcp.max_connections.is_some());
    (!limited).then(|| {
        format!(
            "connectionPool sets no tcp.maxConnections: connections are not limited, only that {pending} may wait for one (http1MaxPendingRequests)."
        )
    })
}

/// Weights choose between subsets for each request anew; a hash chooses a pod within the subset.
fn weights_before_hash<'a>(
    service: &Resource<VirtualService>,
    mut rules: impl Iterator<Item = &'a Resource<DestinationRule>>,
) -> Option<String> {
    let namespace = &service.metadata.namespace;
    let weighted = service
        .spec
        .http
        .iter()
        .find(|route| route.route.len() > 1)?;
    let hosts: Vec<Host> = weighted
        .route
        .iter()
        .map(|to| Host::resolve(&to.destination.host, namespace))
        .collect();
    let hashed = rules.find(|rule| {
        let host = Host::resolve(&rule.spec.host, &rule.metadata.namespace);
        let hash = |balancer: &mesh_api::destination_rule::LoadBalancerSettings| {
            balancer.consistent_hash.is_some()
        };
        hosts.contains(&host) && rule.spec.load_balancers().any(hash)
    })?;
    Some(format!(
        "The weights choose a destination for each request anew, before the consistentHash of DestinationRule {:?} chooses a pod of it: callers do not stay with one destination.",
        hashed.metadata.name
    ))
}

#[cfg(test)]
mod tests {
    use crate::analyze::{Source, analyze};
    use serde_json::{Value, json};

    fn codes(objects: &[Value]) -> Vec<&'static str> {
        let sources: Vec<Source> = objects
            .iter()
            .map(|object| Source {
                object: object.clone(),
                place: None,
            })
            .collect();
        let findings = analyze(&sources, None).into_iter();
        let codes = findings
            .filter(|finding| finding.level == "Info")
            .map(|f| f.code);
        codes.filter(|code| code.starts_with("DOJO")).collect()
    }

    fn object(kind: &str, spec: Value) -> Value {
        json!({ "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": { "name": "a", "namespace": "default" }, "spec": spec })
    }

    #[test]
    fn a_limit_on_those_who_wait_is_none_on_connections() {
        let rule = |pool: Value| {
            object(
                "DestinationRule",
                json!({ "host": "a", "trafficPolicy": { "connectionPool": pool } }),
            )
        };
        let pending = json!({ "http1MaxPendingRequests": 1 });
        assert_eq!(codes(&[rule(json!({ "http": pending }))]), ["DOJO0002"]);
        let both = json!({ "http": pending, "tcp": { "maxConnections": 1 } });
        assert_eq!(codes(&[rule(both)]), [""; 0]);
    }

    #[test]
    fn weights_come_before_a_hash_whichever_way_the_host_is_written() {
        let service = object(
            "VirtualService",
            json!({ "hosts": ["a.default.svc.cluster.local"], "http": [{ "route": [
            { "destination": { "host": "a.default.svc.cluster.local", "subset": "x" }, "weight": 90 },
            { "destination": { "host": "a.default.svc.cluster.local", "subset": "y" }, "weight": 10 },
        ] }] }),
        );
        let rule = |balancer: Value| {
            object(
                "DestinationRule",
                json!({ "host": "a", "trafficPolicy": { "loadBalancer": balancer },
            "subsets": [{ "name": "x", "labels": { "v": "x" } }, { "name": "y", "labels": { "v": "y" } }] }),
            )
        };
        let hash = rule(json!({ "consistentHash": { "useSourceIp": true } }));
        assert_eq!(codes(&[service.clone(), hash]), ["DOJO0003"]);
        assert_eq!(
            codes(&[service, rule(json!({ "simple": "RANDOM" }))]),
            [""; 0]
        );
    }
}
