//! Rules of DestinationRule.

use std::collections::BTreeSet;

use crate::destination_rule::*;

pub(super) fn check(spec: &DestinationRule, errors: &mut Vec<String>) {
    if spec.host.is_empty() {
        errors.push("destination rule must have a host".into());
    }
    let mut names = BTreeSet::new();
    for subset in &spec.subsets {
        if !is_label(&subset.name) {
            errors.push(format!("subset name is invalid: {}", subset.name));
        }
        if !names.insert(&subset.name) {
            errors.push(format!("duplicate subset names: {}", subset.name));
        }
    }
    let own_namespace =
        spec.export_to.iter().all(|namespace| namespace == ".") && !spec.export_to.is_empty();
    if spec.workload_selector.is_some() && !spec.export_to.is_empty() && !own_namespace {
        errors.push(
            "destination rule with workload selector cannot have exportTo beyond current namespace"
                .into(),
        );
    }
    for policy in spec
        .subsets
        .iter()
        .filter_map(|subset| subset.traffic_policy.as_ref())
        .chain(&spec.traffic_policy)
    {
        traffic_policy(policy, errors);
    }
}

fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn traffic_policy(policy: &TrafficPolicy, errors: &mut Vec<String>) {
    if *policy == TrafficPolicy::default() {
        errors.push("traffic policy must have at least one field".into());
    }
    let ports = &policy.port_level_settings;
    for pool in ports
        .iter()
        .filter_map(|port| port.connection_pool.as_ref())
        .chain(&policy.connection_pool)
    {
        if pool.tcp.is_none() && pool.http.is_none() {
            errors.push("connection pool must have at least one field".into());
        }
    }
    for outlier in ports
        .iter()
        .filter_map(|port| port.outlier_detection.as_ref())
        .chain(&policy.outlier_detection)
    {
        for percent in [outlier.max_ejection_percent, outlier.min_health_percent]
            .into_iter()
            .flatten()
        {
            if !(0..=100).contains(&percent) {
                errors.push(format!("percentage {percent} is not in range 0..100"));
            }
        }
    }
    for balancer in ports
        .iter()
        .filter_map(|port| port.load_balancer.as_ref())
        .chain(&policy.load_balancer)
    {
        if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
            errors.push("load balancer cannot have both simple and consistentHash".into());
        }
        let Some(locality) = &balancer.locality_lb_setting else {
            continue;
        };
        if !locality.distribute.is_empty() && !locality.failover.is_empty() {
            errors.push("can not simultaneously specify 'distribute' and 'failover'".into());
        }
        for share in &locality.distribute {
            let total: u32 = share.to.values().sum();
            if total != 100 {
                errors.push(format!("total locality weight {total} != 100"));
            }
        }
    }
}
