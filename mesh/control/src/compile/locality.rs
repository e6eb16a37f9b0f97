//! Locality: near endpoints before far ones, or shares per locality; Istio's rules.

use std::{collections::BTreeMap, sync::Arc};

use mesh_api::destination_rule::{LocalityFailover, LocalityLbSetting};
use mesh_config::{Endpoint, Locality};

type Labels = BTreeMap<String, String>;

/// Who calls, as far as nearness goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) locality: &'a Locality,
    pub(crate) labels: &'a Labels,
}

/// The setting in force: that of the rule, else the mesh's; `None` when it is switched off. Istio's
/// default is on, which means failover.
pub(crate) fn in_force(
    rule: Option<&LocalityLbSetting>,
    mesh: Option<&LocalityLbSetting>,
) -> Option<LocalityLbSetting> {
    let setting = rule.or(mesh).cloned().unwrap_or_default();
    (setting.enabled != Some(false)).then_some(setting)
}

/// Gives endpoints priorities, or weights to their localities; whether those weights count. Failover
/// acts only where failing endpoints are ejected, as in Istio.
pub(crate) fn arrange(
    setting: &LocalityLbSetting,
    caller: Caller<'_>,
    ejects: bool,
    endpoints: &mut Vec<Endpoint>,
    labels_of: impl Fn(&Endpoint) -> Labels,
) -> bool {
    if !setting.distribute.is_empty() {
        return distribute(setting, caller.locality, endpoints);
    }
    if !ejects {
        return false;
    }
    if setting.failover_priority.is_empty() {
        for endpoint in endpoints.iter_mut() {
            endpoint.priority = distance(caller.locality, &endpoint.locality, &setting.failover);
        }
    } else {
        let own = with_topology(caller.labels, caller.locality);
        for endpoint in endpoints.iter_mut() {
            let theirs = with_topology(&labels_of(endpoint), &endpoint.locality);
            endpoint.priority = mismatches(&setting.failover_priority, &own, &theirs);
        }
    }
    compact(endpoints);
    false
}

/// 0 for the same sub-zone to 3 for another region, and 4 for a region that is not the one which
/// takes over.
fn distance(from: &Locality, to: &Locality, failover: &[LocalityFailover]) -> u32 {
    if from.region != to.region {
        let takes_over = failover.iter().find(|rule| rule.from == from.region);
        return match takes_over {
            Some(rule) if rule.to != to.region => 4,
            _ => 3,
        };
    }
    match (from.zone == to.zone, from.sub_zone == to.sub_zone) {
        (true, true) => 0,
        (true, false) => 1,
        _ => 2,
    }
}

/// How many labels are left when the first that differs is met. A label with a value is compared
/// with that value.
fn mismatches(priority: &[String], own: &Labels, theirs: &Labels) -> u32 {
    let equal = |entry: &&String| {
        let (name, wanted) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entry.as_str(), own.get(entry.as_str()).map(String::as_str)),
        };
        wanted.unwrap_or_default() == theirs.get(name).map_or("", String::as_str)
    };
    let matched = priority.iter().take_while(equal).count();
    (priority.len() - matched) as u32
}

fn with_topology(labels: &Labels, locality: &Locality) -> Labels {
    let mut all = labels.clone();
    for (name, value) in [
        ("topology.kubernetes.io/region", &locality.region),
        ("topology.kubernetes.io/zone", &locality.zone),
        ("topology.istio.io/subzone", &locality.sub_zone),
    ] {
        if !value.is_empty() {
            all.insert(name.into(), value.clone());
        }
    }
    all
}

/// Priorities without gaps, from 0.
fn compact(endpoints: &mut [Endpoint]) {
    let mut levels: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
    levels.sort_unstable();
    levels.dedup();
    for endpoint in endpoints {
        let level = levels.binary_search(&endpoint.priority);
        endpoint.priority = level.map_or(0, |level| level as u32);
    }
}

/// Shares per locality by the first entry that is about the caller; endpoints of localities that are
/// not named get nothing.
fn distribute(
    setting: &LocalityLbSetting,
    caller: &Locality,
    endpoints: &mut Vec<Endpoint>,
) -> bool {
    let Some(rule) = setting
        .distribute
        .iter()
        .find(|rule| covers(&rule.from, caller))
    else {
        return false;
    };
    let mut sizes: BTreeMap<Arc<Locality>, u32> = BTreeMap::new();
    for endpoint in endpoints.iter() {
        *sizes.entry(endpoint.locality.clone()).or_default() += endpoint.weight;
    }
    let mut weights: BTreeMap<Arc<Locality>, u32> = BTreeMap::new();
    for (to, weight) in &rule.to {
        let named: Vec<_> = sizes
            .iter()
            .filter(|(locality, _)| !weights.contains_key(*locality) && covers(to, locality))
            .map(|(locality, size)| (locality.clone(), *size))
            .collect();
        let total: u32 = named.iter().map(|(_, size)| size).sum();
        for (locality, size) in named {
            let share = (u64::from(size) * u64::from(*weight)).div_ceil(u64::from(total.max(1)));
            weights.insert(locality, share as u32);
        }
    }
    endpoints.retain_mut(|endpoint| {
        endpoint.locality_weight = weights.get(&endpoint.locality).copied();
        endpoint.locality_weight.is_some_and(|weight| weight > 0)
    });
    true
}

/// A pattern `region/zone/subzone`, where `*` and what is left out stand for anything.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let parts = pattern.split('/');
    let actual = [&locality.region, &locality.zone, &locality.sub_zone];
    parts
        .zip(actual)
        .all(|(part, actual)| matches!(part, "*" | "") || part == actual)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(place: &str) -> Locality {
        let mut parts = place.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality {
            region: next(),
            zone: next(),
            sub_zone: next(),
        }
    }

    fn endpoints(places: &[&str]) -> Vec<Endpoint> {
        let endpoint = |(port, place): (u16, &&str)| Endpoint {
            locality: Arc::new(at(place)),
            ..Endpoint::new(([10, 0, 0, 1], port).into(), Arc::default())
        };
        (1..).zip(places).map(endpoint).collect()
    }

    /// Priorities and weights of endpoints at these places, seen from `r1/z1/s1`.
    fn arranged(setting: Value, ejects: bool, places: &[&str]) -> Vec<(u32, Option<u32>)> {
        let setting: LocalityLbSetting = serde_json::from_value(setting).unwrap();
        let (locality, labels) = (at("r1/z1/s1"), Labels::from([("v".into(), "1".into())]));
        let caller = Caller {
            locality: &locality,
            labels: &labels,
        };
        let mut endpoints = endpoints(places);
        arrange(&setting, caller, ejects, &mut endpoints, |endpoint| {
            let version = endpoint.address.port().to_string();
            Labels::from([("v".into(), version)])
        });
        let result = endpoints.iter().map(|e| (e.priority, e.locality_weight));
        result.collect()
    }

    fn priorities(setting: Value, places: &[&str]) -> Vec<u32> {
        let all = arranged(setting, true, places);
        all.into_iter().map(|(priority, _)| priority).collect()
    }

    #[test]
    fn the_nearer_the_earlier_without_gaps() {
        let places = ["r1/z1/s1", "r1/z1/s2", "r1/z2/s1", "r2/z1/s1"];
        assert_eq!(priorities(json!({}), &places), [0, 1, 2, 3]);
        assert_eq!(priorities(json!({}), &["r1/z2", "r2/z1"]), [0, 1]);
        assert_eq!(
            arranged(json!({}), false, &places),
            [(0, None); 4],
            "nothing is ejected"
        );
    }

    #[test]
    fn a_region_may_take_over_before_others() {
        let setting = json!({"failover": [{"from": "r1", "to": "r3"}]});
        assert_eq!(
            priorities(setting, &["r1/z1/s1", "r2/z", "r3/z"]),
            [0, 2, 1]
        );
    }

    #[test]
    fn labels_may_order_endpoints() {
        let setting = json!({"failoverPriority": ["topology.kubernetes.io/region", "v"]});
        assert_eq!(priorities(setting, &["r1/z9", "r1/z9", "r2/z1"]), [0, 1, 2]);
        let setting = json!({"failoverPriority": ["v=2"]});
        assert_eq!(priorities(setting, &["r1", "r1", "r1"]), [1, 0, 1]);
    }

    #[test]
    fn shares_per_locality_leave_the_rest_out() {
        let setting =
            json!({"distribute": [{"from": "r1/z1/*", "to": {"r1/z1/*": 70, "r1/z2/*": 30}}]});
        let places = ["r1/z1/s1", "r1/z2/s1", "r1/z2/s1", "r2/z1/s1"];
        let got = arranged(setting, false, &places);
        assert_eq!(got, [(0, Some(70)), (0, Some(30)), (0, Some(30))]);
        let elsewhere = json!({"distribute": [{"from": "r2/*", "to": {"r1/*": 100}}]});
        assert_eq!(arranged(elsewhere, false, &places).len(), 4);
    }

    #[test]
    fn the_rule_decides_before_the_mesh() {
        let off = LocalityLbSetting {
            enabled: Some(false),
            ..LocalityLbSetting::default()
        };
        let on = LocalityLbSetting::default();
        assert_eq!(in_force(None, None), Some(on.clone()));
        assert_eq!(in_force(None, Some(&off)), None);
        assert_eq!(in_force(Some(&on), Some(&off)), Some(on));
    }
}
