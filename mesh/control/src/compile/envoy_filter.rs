//! EnvoyFilter: the patches that resilience needs, carried out on our own configuration. What a
//! patch asks for beyond them is reported on the object, word for word.

use std::{sync::Arc, time::Duration};

use mesh_api::{
    EnvoyFilter, Resource,
    envoy_filter::{
        ApplyTo, ClusterMatch, EnvoyConfigObjectPatch, PatchContext, PatchOperation,
        RouteAction as ActionMatch, RouteConfigurationMatch,
    },
};
use mesh_config::{
    Cluster, RetryBudget, RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost, names,
};
use serde_json::{Map, Value};

use crate::{
    ROOT_NAMESPACE,
    world::{Pod, World, selects},
};

/// An EnvoyFilter and what is understood of it.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) resource: Arc<Resource<EnvoyFilter>>,
    patches: Arc<[Patch]>,
}

#[derive(Clone, Debug)]
struct Patch {
    context: PatchContext,
    of: Object,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Object {
    Host(RouteConfigurationMatch),
    Route(RouteConfigurationMatch),
    Cluster(ClusterMatch),
}

/// One field, set.
#[derive(Clone, Debug)]
enum Change {
    Timeout(Duration),
    Hedge(bool),
    RetryOn(String),
    Retries(u32),
    PerTryTimeout(Duration),
    BaseInterval(Duration),
    MaxInterval(Duration),
    StatusCodes(Vec<u16>, bool),
    OtherHost,
    ConnectTimeout(Duration),
    Thresholds(Value),
}

/// All EnvoyFilters in the order in which they are applied.
pub(super) fn in_order(world: &World) -> Vec<Filter> {
    let mut all: Vec<_> = world.envoy_filters.values().cloned().collect();
    all.sort_by(|a, b| {
        let rank = |filter: &Resource<EnvoyFilter>| {
            (
                filter.spec.priority,
                filter.metadata.namespace != ROOT_NAMESPACE,
            )
        };
        let (x, y) = (a.metadata.precedence(), b.metadata.precedence());
        rank(a).cmp(&rank(b)).then(x.cmp(&y))
    });
    all.into_iter()
        .map(|resource| Filter {
            patches: read(&resource.spec).0.into(),
            resource,
        })
        .collect()
}

impl Filter {
    /// It is for this pod.
    pub(super) fn selects(&self, pod: &Pod) -> bool {
        let namespace = &self.resource.metadata.namespace;
        let selector = self.resource.spec.workload_selector.as_ref();
        (*namespace == pod.namespace || namespace == ROOT_NAMESPACE)
            && selector.is_none_or(|selector| selects(&selector.labels, &pod.labels))
    }
}

/// Applies filters to a route table.
pub(super) fn patch_routes(
    filters: &[Filter],
    context: PatchContext,
    table: &mut RouteConfiguration,
) {
    for patch in applicable(filters, context) {
        for host in table.virtual_hosts.iter_mut().map(Arc::make_mut) {
            let (matching, changes) = (&patch.of, &patch.changes);
            match matching {
                Object::Host(wanted) if is_host(wanted, &table.name, host) => {
                    for forward in host.routes.iter_mut().filter_map(forward_of) {
                        changes.iter().for_each(|change| change.forward(forward));
                    }
                }
                Object::Route(wanted) if is_host(wanted, &table.name, host) => {
                    for route in &mut host.routes {
                        if is_route(wanted, route)
                            && let Some(forward) = forward_of(route)
                        {
                            changes.iter().for_each(|change| change.forward(forward));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Applies filters to a cluster.
pub(super) fn patch_cluster(filters: &[Filter], context: PatchContext, cluster: &mut Cluster) {
    for patch in applicable(filters, context) {
        if let Object::Cluster(wanted) = &patch.of
            && is_cluster(wanted, cluster)
        {
            patch
                .changes
                .iter()
                .for_each(|change| change.cluster(cluster));
        }
    }
}

fn applicable(filters: &[Filter], context: PatchContext) -> impl Iterator<Item = &Patch> {
    let patches = filters.iter().flat_map(|filter| filter.patches.iter());
    patches.filter(move |patch| patch.context == PatchContext::Any || patch.context == context)
}

fn is_host(wanted: &RouteConfigurationMatch, table: &str, host: &VirtualHost) -> bool {
    let port = host
        .name
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let vhost = wanted.vhost.clone().unwrap_or_default();
    (wanted.name.is_empty() || wanted.name == table)
        && (wanted.port_number == 0 || port == Some(wanted.port_number))
        && (vhost.name.is_empty() || vhost.name == host.name)
        && (vhost.domain_name.is_empty() || host.domains.contains(&vhost.domain_name))
}

fn is_route(wanted: &RouteConfigurationMatch, route: &Route) -> bool {
    let Some(wanted) = wanted.vhost.as_ref().and_then(|vhost| vhost.route.as_ref()) else {
        return true;
    };
    let action = match wanted.action.unwrap_or_default() {
        ActionMatch::Any => true,
        ActionMatch::Route => matches!(route.action, RouteAction::Forward(_)),
        ActionMatch::Redirect => matches!(route.action, RouteAction::Redirect(_)),
        ActionMatch::DirectResponse => matches!(route.action, RouteAction::DirectResponse(_)),
    };
    action && (wanted.name.is_empty() || wanted.name == route.name)
}

fn is_cluster(wanted: &ClusterMatch, cluster: &Cluster) -> bool {
    let Some(service) = &cluster.service else {
        return !wanted.name.is_empty() && wanted.name == cluster.name;
    };
    let mut parts = cluster.name.split('|').skip(1);
    let (port, subset) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    (wanted.name.is_empty() || wanted.name == cluster.name)
        && (wanted.service.is_empty() || wanted.service == service.host)
        && (wanted.port_number == 0 || wanted.port_number.to_string() == port)
        && (wanted.subset.is_empty() || wanted.subset == subset)
        && cluster.name != names::PASSTHROUGH_CLUSTER
}

fn forward_of(route: &mut Route) -> Option<&mut mesh_config::Forward> {
    match &mut route.action {
        RouteAction::Forward(forward) => Some(forward),
        _ => None,
    }
}

impl Change {
    fn forward(&self, forward: &mut mesh_config::Forward) {
        match self {
            Self::Timeout(limit) => forward.timeout = (!limit.is_zero()).then_some(*limit),
            Self::Hedge(on) => forward.hedge_on_per_try_timeout = *on,
            _ => {
                let retry = forward.retry.get_or_insert_with(RetryPolicy::default);
                self.retry(retry);
            }
        }
    }

    fn retry(&self, retry: &mut RetryPolicy) {
        match self {
            Self::RetryOn(words) => {
                retry.retry_on = words
                    .split(',')
                    .map(|word| word.trim().to_owned())
                    .collect();
            }
            Self::Retries(count) => retry.num_retries = *count,
            Self::PerTryTimeout(limit) => retry.per_try_timeout = Some(*limit),
            Self::BaseInterval(bound) => retry.base_interval = Some(*bound),
            Self::MaxInterval(bound) => retry.max_interval = Some(*bound),
            Self::StatusCodes(codes, replace) => {
                if *replace {
                    retry.retriable_status_codes.clear();
                }
                retry.retriable_status_codes.extend(codes);
            }
            Self::OtherHost => retry.other_host = true,
            _ => {}
        }
    }

    fn cluster(&self, cluster: &mut Cluster) {
        match self {
            Self::ConnectTimeout(limit) => cluster.connect_timeout = *limit,
            Self::Thresholds(thresholds) => {
                let limits = &mut cluster.circuit_breakers;
                let number = |field: &str| {
                    let value = thresholds[field].as_u64()?;
                    u32::try_from(value).ok()
                };
                for (field, limit) in [
                    ("max_connections", &mut limits.max_connections),
                    ("max_pending_requests", &mut limits.max_pending_requests),
                    ("max_requests", &mut limits.max_requests),
                    ("max_retries", &mut limits.max_retries),
                ] {
                    *limit = number(field).unwrap_or(*limit);
                }
                if let Value::Object(budget) = &thresholds["retry_budget"] {
                    let percent = budget
                        .get("budget_percent")
                        .and_then(|p| p["value"].as_f64());
                    let least = budget.get("min_retry_concurrency").and_then(Value::as_u64);
                    limits.retry_budget = Some(RetryBudget {
                        basis_points: (percent.unwrap_or(20.0) * 100.0).round() as u32,
                        min_retry_concurrency: least
                            .and_then(|n| u32::try_from(n).ok())
                            .unwrap_or(3),
                    });
                }
            }
            _ => {}
        }
    }
}

/// What of an EnvoyFilter is not understood, with the place and the reason.
pub(crate) fn complaints(spec: &EnvoyFilter) -> Vec<String> {
    read(spec).1
}

fn read(spec: &EnvoyFilter) -> (Vec<Patch>, Vec<String>) {
    let mut complaints = Vec::new();
    if !spec.target_refs.is_empty() {
        complaints.push("spec.targetRefs is not carried out".into());
        return (Vec::new(), complaints);
    }
    let patches = spec.config_patches.iter().enumerate();
    let patches = patches.filter_map(|(index, patch)| {
        let mut reader = Reader {
            at: format!("spec.configPatches[{index}]"),
            complaints: &mut complaints,
        };
        reader.patch(patch)
    });
    (patches.collect(), complaints)
}

struct Reader<'a> {
    at: String,
    complaints: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn refuse(&mut self, what: &str, why: &str) {
        self.complaints.push(format!("{}.{what}: {why}", self.at));
    }

    fn patch(&mut self, from: &EnvoyConfigObjectPatch) -> Option<Patch> {
        let wanted = from.r#match.clone().unwrap_or_default();
        let patch = from.patch.clone().unwrap_or_default();
        let replace = match patch.operation.unwrap_or_default() {
            PatchOperation::Merge => false,
            PatchOperation::MergeAndReplaceList => true,
            other => {
                self.refuse("patch.operation", &format!("{other:?} is not carried out"));
                return None;
            }
        };
        if wanted
            .proxy
            .as_ref()
            .is_some_and(|proxy| !proxy.metadata.is_empty())
        {
            self.refuse("match.proxy.metadata", "is not carried out");
            return None;
        }
        let routes = wanted.route_configuration.clone().unwrap_or_default();
        let of = match from.apply_to.unwrap_or_default() {
            ApplyTo::VirtualHost => Object::Host(routes),
            ApplyTo::HttpRoute => Object::Route(routes),
            ApplyTo::Cluster => Object::Cluster(wanted.cluster.clone().unwrap_or_default()),
            other => {
                self.refuse("applyTo", &format!("{other:?} is not carried out"));
                return None;
            }
        };
        if let Object::Host(routes) | Object::Route(routes) = &of
            && !(routes.gateway.is_empty() && routes.port_name.is_empty())
        {
            self.refuse(
                "match.routeConfiguration",
                "gateway and portName are not carried out",
            );
            return None;
        }
        let value = patch.value.unwrap_or_default();
        let mut changes = Vec::new();
        for (path, value) in leaves("", &value.0) {
            match change(&of, &path, &value, replace) {
                Ok(change) => changes.push(change),
                Err(why) => self.refuse(&format!("patch.value.{path}"), why),
            }
        }
        let context = wanted.context.unwrap_or_default();
        Some(Patch {
            context,
            of,
            changes,
        })
    }
}

const UNKNOWN: &str = "is not carried out";

/// The change that a field of Envoy's configuration asks for.
fn change(of: &Object, path: &str, value: &Value, replace: bool) -> Result<Change, &'static str> {
    let time = || duration(value).ok_or("is not a duration such as 0.050s");
    let count = || {
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.ok_or("is not a number")
    };
    let field = match of {
        Object::Host(_) if path.starts_with("retry_policy.") => {
            return Err("has no effect: every route has a retry policy of its own, which counts");
        }
        Object::Host(_) => path,
        Object::Route(_) => path.strip_prefix("route.").ok_or(UNKNOWN)?,
        Object::Cluster(_) => {
            return match path {
                "connect_timeout" => Ok(Change::ConnectTimeout(time()?)),
                "circuit_breakers.thresholds" if replace => {
                    let first = value.get(0).ok_or("is not a list")?;
                    Ok(Change::Thresholds(first.clone()))
                }
                "circuit_breakers.thresholds" => Err(
                    "has no effect: MERGE appends to the list, of which Envoy uses the first. \
                     Use MERGE_AND_REPLACE_LIST, or trafficPolicy of a DestinationRule",
                ),
                _ => Err(UNKNOWN),
            };
        }
    };
    match field {
        "hedge_policy.hedge_on_per_try_timeout" => Ok(Change::Hedge(
            value.as_bool().ok_or("is not true or false")?,
        )),
        _ if matches!(of, Object::Host(_)) => Err(UNKNOWN),
        "timeout" => Ok(Change::Timeout(time()?)),
        "retry_policy.retry_on" => Ok(Change::RetryOn(
            value.as_str().ok_or("is not a text")?.to_owned(),
        )),
        "retry_policy.num_retries" => Ok(Change::Retries(count()?)),
        "retry_policy.per_try_timeout" => Ok(Change::PerTryTimeout(time()?)),
        "retry_policy.retry_back_off.base_interval" => Ok(Change::BaseInterval(time()?)),
        "retry_policy.retry_back_off.max_interval" => Ok(Change::MaxInterval(time()?)),
        "retry_policy.retriable_status_codes" => {
            let codes = value.as_array().into_iter().flatten();
            let codes = codes.map(|code| code.as_u64().and_then(|code| u16::try_from(code).ok()));
            let codes: Option<Vec<u16>> = codes.collect();
            Ok(Change::StatusCodes(
                codes.ok_or("is not a list of status codes")?,
                replace,
            ))
        }
        "retry_policy.retry_host_predicate" => {
            let previous = "envoy.retry_host_predicates.previous_hosts";
            let predicates = value.as_array().ok_or("is not a list")?;
            let known = predicates
                .iter()
                .all(|predicate| predicate["name"] == previous);
            known
                .then_some(Change::OtherHost)
                .ok_or("only previous_hosts is carried out")
        }
        // How often another host is looked for: as Istio sets it.
        "retry_policy.host_selection_retry_max_attempts" if *value == 5 || *value == "5" => {
            Ok(Change::OtherHost)
        }
        _ => Err(UNKNOWN),
    }
}

/// Every value that is no object with its dotted path, in snake case.
fn leaves(at: &str, fields: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, value) in fields {
        let name = snake_case(name);
        let path = if at.is_empty() {
            name
        } else {
            format!("{at}.{name}")
        };
        match value {
            Value::Object(fields) => found.extend(leaves(&path, fields)),
            Value::Null => {}
            Value::Array(items) => {
                let items = items.iter().map(|item| match item {
                    Value::Object(fields) => Value::Object(snake_keys(fields)),
                    other => other.clone(),
                });
                found.push((path, items.collect()));
            }
            other => found.push((path, other.clone())),
        }
    }
    found
}

fn snake_keys(fields: &Map<String, Value>) -> Map<String, Value> {
    let value = |value: &Value| match value {
        Value::Object(fields) => Value::Object(snake_keys(fields)),
        other => other.clone(),
    };
    fields
        .iter()
        .map(|(name, it)| (snake_case(name), value(it)))
        .collect()
}

fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut to, letter| {
        if letter.is_ascii_uppercase() {
            to.push('_');
        }
        to.push(letter.to_ascii_lowercase());
        to
    })
}

fn duration(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => match text.strip_suffix("ms") {
            Some(millis) => millis.parse::<f64>().ok()? / 1000.0,
            None => text.strip_suffix('s')?.parse().ok()?,
        },
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(patches: Value) -> EnvoyFilter {
        let object = json!({"metadata": {"name": "f", "namespace": "ns"}, "spec": {"configPatches": patches}});
        mesh_api::parse("EnvoyFilter", &object)
            .unwrap()
            .resource
            .spec
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let spec = filter(json!([
            {"applyTo": "HTTP_ROUTE", "match": {"context": "SIDECAR_OUTBOUND"}, "patch": {"operation": "MERGE", "value": {"route": {
                "retry_policy": {"retry_back_off": {"base_interval": "50ms"}, "retriableStatusCodes": [408, 400], "retry_options_predicates": []},
                "cors": {"enabled": true}}}}},
            {"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_BEFORE", "value": {"name": "envoy.lua"}}},
            {"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"circuit_breakers": {"thresholds": [{}]}}}},
        ]));
        let (patches, complaints) = read(&spec);
        assert_eq!(patches[0].changes.len(), 2, "{patches:?}");
        let places: Vec<_> = complaints
            .iter()
            .map(|text| text.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            places,
            [
                "spec.configPatches[0].patch.value.route.retry_policy.retry_options_predicates",
                "spec.configPatches[0].patch.value.route.cors.enabled",
                "spec.configPatches[1].patch.operation",
                "spec.configPatches[2].patch.value.circuit_breakers.thresholds",
            ]
        );
    }
}
