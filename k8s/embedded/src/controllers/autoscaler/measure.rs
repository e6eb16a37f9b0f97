//! From what pods use to how many there should be.

use crate::controllers::replica_set::has_condition;
use crate::validate::amount;
use k8s_openapi::api::autoscaling::v2::{MetricSpec, MetricTarget};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A ratio this near to 1 changes nothing.
const TOLERANCE: f64 = 0.1;

/// A pod's use of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amounts {
    requested: Option<f64>,
    used: Option<f64>,
}

/// A pod: what its containers ask for and use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PodUse {
    name: String,
    ready: bool,
    cpu: Amounts,
    memory: Amounts,
    /// The container that does not say how much CPU, or memory, it asks for.
    silent: [Option<String>; 2],
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];

impl PodUse {
    /// A pod and its entry in the metrics, if it has one.
    pub(super) fn of(pod: &Pod, measured: Option<&Value>) -> Self {
        let spec = pod.spec.as_ref();
        let containers = || {
            let init = spec.iter().flat_map(|s| s.init_containers.iter().flatten());
            let sidecars = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let own = spec.iter().flat_map(|s| &s.containers);
            own.chain(sidecars)
        };
        let mut silent = [None, None];
        let mut amounts = [Amounts::default(); 2];
        for (index, resource) in RESOURCES.iter().enumerate() {
            let mut sum = 0.0;
            for container in containers() {
                let requests = container
                    .resources
                    .as_ref()
                    .and_then(|r| r.requests.as_ref());
                match requests
                    .and_then(|r| r.get(*resource))
                    .and_then(|quantity| amount(&quantity.0))
                {
                    Some(requested) => sum += requested,
                    None => {
                        silent[index].get_or_insert_with(|| container.name.clone());
                    }
                }
            }
            amounts[index].requested = silent[index].is_none().then_some(sum);
            amounts[index].used = measured.map(|measured| {
                let each = measured["containers"].as_array().into_iter().flatten();
                each.filter_map(|c| amount(c["usage"][*resource].as_str()?))
                    .sum()
            });
        }
        PodUse {
            name: pod.metadata.name.clone().unwrap_or_default(),
            ready: has_condition(pod, "Ready"),
            cpu: amounts[0],
            memory: amounts[1],
            silent,
        }
    }
}

/// Why there is no proposal: the condition's reason and message.
pub(super) type Failure = (&'static str, String);

/// How many replicas the metrics ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// The metric that asks for most, in words.
    pub(super) because: String,
    /// `status.currentMetrics`.
    pub(super) current: Vec<Value>,
}

/// The greatest number that one of the metrics asks for. One that cannot be read prevents only
/// scaling down.
pub(super) fn propose(
    metrics: &[MetricSpec],
    replicas: i32,
    pods: &[PodUse],
) -> Result<Proposal, Failure> {
    let mut proposal: Option<Proposal> = None;
    let mut failure = None;
    let mut current = Vec::new();
    for metric in metrics {
        match one(metric, replicas, pods) {
            Ok((wanted, because, shown)) => {
                current.push(shown);
                if proposal.as_ref().is_none_or(|p| wanted > p.replicas) {
                    proposal = Some(Proposal {
                        replicas: wanted,
                        because,
                        current: Vec::new(),
                    });
                }
            }
            Err(why) => failure = Some(why),
        }
    }
    match (proposal, failure) {
        (Some(mut proposal), failure) => {
            if failure.is_some() && proposal.replicas < replicas {
                proposal.replicas = replicas;
            }
            proposal.current = current;
            Ok(proposal)
        }
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(("InvalidMetricSourceType", "the HPA has no metrics".into())),
    }
}

fn one(
    metric: &MetricSpec,
    replicas: i32,
    pods: &[PodUse],
) -> Result<(i32, String, Value), Failure> {
    let Some(resource) = &metric.resource else {
        return Err((
            "InvalidMetricSourceType",
            format!(
                "the embedded cluster measures metrics of type Resource only, not {:?}",
                metric.type_
            ),
        ));
    };
    let name = resource.name.as_str();
    let Some(index) = RESOURCES.iter().position(|known| *known == name) else {
        return Err((
            "FailedGetResourceMetric",
            format!("resource {name:?} is not measured: cpu and memory are"),
        ));
    };
    let of = |pod: &PodUse| if index == 0 { pod.cpu } else { pod.memory };
    let target = &resource.target;
    let by_utilization = target.average_utilization.is_some();
    if by_utilization && let Some(pod) = pods.iter().find(|pod| of(pod).requested.is_none()) {
        return Err((
            "FailedGetResourceMetric",
            format!(
                "failed to get {name} utilization: missing request for {name} in container {} of Pod {}",
                pod.silent[index].as_deref().unwrap_or_default(),
                pod.name
            ),
        ));
    }
    if pods.is_empty() || pods.iter().all(|pod| of(pod).used.is_none()) {
        return Err((
            "FailedGetResourceMetric",
            format!(
                "failed to get {name} {}: no metrics returned from resource metrics API",
                if by_utilization {
                    "utilization"
                } else {
                    "usage"
                }
            ),
        ));
    }
    let wanted_each = |pod: &PodUse| wanted_of(target, of(pod));
    let ready: Vec<&PodUse> = pods
        .iter()
        .filter(|p| of(p).used.is_some() && (p.ready || index == 1))
        .collect();
    // Kubernetes looks at pods that are not ready when there are no others
    let counted: Vec<&PodUse> = if ready.is_empty() {
        pods.iter().filter(|p| of(p).used.is_some()).collect()
    } else {
        ready
    };
    let used: f64 = counted.iter().filter_map(|p| of(p).used).sum();
    let aim: f64 = counted.iter().map(|p| wanted_each(p)).sum();
    if aim <= 0.0 {
        return Err((
            "FailedGetResourceMetric",
            format!("failed to get {name} utilization: the pods request none"),
        ));
    }
    let ratio = used / aim;
    let rest = pods.len() - counted.len();
    let wanted = if (ratio - 1.0).abs() <= TOLERANCE {
        replicas
    } else if rest == 0 {
        up(ratio * counted.len() as f64)
    } else {
        // what is not known is taken so that less is changed: idle when it would be more, at its
        // aim when it would be fewer
        let unknown: Vec<&PodUse> = pods
            .iter()
            .filter(|p| !counted.iter().any(|c| c.name == p.name))
            .collect();
        let aim_of_all = aim + unknown.iter().map(|p| wanted_each(p)).sum::<f64>();
        let used_of_all = if ratio > 1.0 {
            used
        } else {
            used + unknown
                .iter()
                .filter(|p| of(p).used.is_none())
                .map(|p| wanted_each(p))
                .sum::<f64>()
        };
        let careful = used_of_all / aim_of_all;
        let turned = (ratio > 1.0) != (careful > 1.0);
        let wanted = up(careful * pods.len() as f64);
        if turned
            || (careful - 1.0).abs() <= TOLERANCE
            || (ratio > 1.0 && wanted < replicas)
            || (ratio < 1.0 && wanted > replicas)
        {
            replicas
        } else {
            wanted
        }
    };
    let average = used / counted.len() as f64;
    let quantity = if index == 0 {
        format!("{}m", (average * 1000.0).round())
    } else {
        format!("{}", average.round())
    };
    let mut shown = json!({"averageValue": quantity});
    let mut because = format!("{name} resource");
    if by_utilization {
        let requested: f64 = counted.iter().filter_map(|p| of(p).requested).sum();
        shown["averageUtilization"] = json!((used / requested * 100.0) as i64);
        because.push_str(" utilization (percentage of request)");
    }
    let shown = json!({"type": "Resource", "resource": {"name": name, "current": shown}});
    Ok((wanted, because, shown))
}

/// What a pod should use.
fn wanted_of(target: &MetricTarget, amounts: Amounts) -> f64 {
    match (target.average_utilization, &target.average_value) {
        (Some(percent), _) => amounts.requested.unwrap_or(0.0) * f64::from(percent) / 100.0,
        (None, Some(value)) => amount(&value.0).unwrap_or(0.0),
        (None, None) => 0.0,
    }
}

fn up(replicas: f64) -> i32 {
    // a saturating cast of a small positive number
    (replicas - 1e-9).ceil().max(0.0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: bool, used: Option<f64>) -> PodUse {
        PodUse {
            name: name.into(),
            ready,
            cpu: Amounts {
                requested: Some(0.2),
                used,
            },
            ..PodUse::default()
        }
    }

    fn cpu(percent: i32) -> Vec<MetricSpec> {
        vec![
            serde_json::from_value(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}))
            .unwrap(),
        ]
    }

    fn wanted(percent: i32, pods: &[PodUse]) -> i32 {
        let replicas = i32::try_from(pods.len()).unwrap();
        propose(&cpu(percent), replicas, pods).unwrap().replicas
    }

    #[test]
    fn replicas_follow_the_load() {
        // 0.2 requested, 50 %: 0.1 each
        assert_eq!(wanted(50, &[pod("a", true, Some(0.35))]), 4);
        assert_eq!(wanted(50, &[pod("a", true, Some(0.105))]), 1);
        let four: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| pod(name, true, Some(0.03)))
            .into();
        assert_eq!(wanted(50, &four), 2);
        let proposal = propose(&cpu(50), 4, &four).unwrap();
        assert_eq!(
            proposal.because,
            "cpu resource utilization (percentage of request)"
        );
        assert_eq!(
            proposal.current[0]["resource"]["current"],
            json!({"averageValue": "30m", "averageUtilization": 15})
        );
    }

    #[test]
    fn what_is_not_known_is_taken_carefully() {
        // one at 300 %, one that is not ready: (0.3 + 0) / 0.2 * 2
        let starting = [pod("a", true, Some(0.3)), pod("b", false, None)];
        assert_eq!(wanted(50, &starting), 3);
        // one idle, one unknown: not fewer than the unknown would need
        let unknown = [pod("a", true, Some(0.0)), pod("b", true, None)];
        assert_eq!(wanted(50, &unknown), 1);
    }

    #[test]
    fn failures_name_the_pod_and_container() {
        let mut silent = pod("a", true, Some(0.1));
        silent.cpu.requested = None;
        silent.silent[0] = Some("web".into());
        assert_eq!(
            propose(&cpu(50), 1, &[silent]).unwrap_err(),
            (
                "FailedGetResourceMetric",
                "failed to get cpu utilization: missing request for cpu in container web of Pod a"
                    .into()
            )
        );
        assert!(
            propose(&cpu(50), 1, &[])
                .unwrap_err()
                .1
                .contains("no metrics returned")
        );
    }
}
