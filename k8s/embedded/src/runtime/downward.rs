//! The downward API: what a container may learn about its own pod, by environment or file.

use k8s_openapi::api::core::v1::{
    Container, ObjectFieldSelector, Pod, PodSpec, ResourceFieldSelector,
};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What is true of the pod's place, not (yet) of its object.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The node's address.
    pub host_ip: Ipv4Addr,
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

fn subscript<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?
        .strip_prefix("['")?
        .strip_suffix("']")
}

/// The value of a field of the pod.
///
/// # Errors
/// When the path names no field of the downward API.
pub fn field(pod: &Pod, place: &Place, selector: &ObjectFieldSelector) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let spec = pod.spec.as_ref();
    let of_map = |map: Option<&BTreeMap<String, String>>, key: &str| {
        map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
    };
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(of_map(pod.metadata.labels.as_ref(), key));
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(of_map(pod.metadata.annotations.as_ref(), key));
    }
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => place.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => place.pod_ip.to_string(),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// The value of a quantity such as `500m`, `1Gi` or `2`, in thousandths.
pub fn milli(quantity: &str) -> Option<i128> {
    let split = quantity
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let factor: i128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction: String = fraction.chars().take(9).collect();
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits * factor / scale)
}

/// The value of a container's resource, in units of the divisor, rounded up. Without a limit it
/// is the machine's.
///
/// # Errors
/// When the selector names no container or resource that there is.
pub fn resource(
    spec: &PodSpec,
    container: &Container,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref() {
        None | Some("") => container,
        Some(name) => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|c| c.name == name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let (kind, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource: {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let limit = resources
        .and_then(|r| r.limits.as_ref())
        .and_then(|l| l.get(name));
    let request = resources
        .and_then(|r| r.requests.as_ref())
        .and_then(|r| r.get(name));
    let value = match kind {
        "limits" => limit
            .and_then(|q| milli(&q.0))
            .unwrap_or_else(|| machine(name)),
        "requests" => request.or(limit).and_then(|q| milli(&q.0)).unwrap_or(0),
        other => return Err(format!("unsupported container resource: {other}.{name}")),
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|q| milli(&q.0))
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    Ok(((value + divisor - 1) / divisor).to_string())
}

/// What the machine has of a resource, in thousandths.
fn machine(name: &str) -> i128 {
    match name {
        "cpu" => std::thread::available_parallelism().map_or(1, usize::from) as i128 * 1000,
        "memory" => memory_bytes().unwrap_or(0) as i128 * 1000,
        _ => 0,
    }
}

/// The machine's memory in bytes.
pub fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities() {
        assert_eq!(milli("500m"), Some(500));
        assert_eq!(milli("2"), Some(2000));
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(milli("1Gi"), Some(1000 << 30));
        assert_eq!(milli("x"), None);
    }

    #[test]
    fn fields_of_the_pod() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "ns", "labels": {"app": "x", "v": "1"}},
        }))
        .unwrap();
        let place = Place {
            pod_ip: Ipv4Addr::new(127, 20, 0, 2),
            host_ip: Ipv4Addr::new(127, 20, 0, 1),
        };
        let get = |path: &str| {
            let selector = ObjectFieldSelector {
                field_path: path.into(),
                ..ObjectFieldSelector::default()
            };
            field(&pod, &place, &selector)
        };
        assert_eq!(get("metadata.name").unwrap(), "a");
        assert_eq!(get("metadata.labels['app']").unwrap(), "x");
        assert_eq!(get("metadata.labels").unwrap(), "app=\"x\"\nv=\"1\"");
        assert_eq!(get("status.podIP").unwrap(), "127.20.0.2");
        assert!(get("spec.nope").is_err());
    }

    #[test]
    fn resources_round_up() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"cpu": "100m"}},
        }))
        .unwrap();
        let get = |resource_: &str, divisor: Option<&str>| {
            let selector =
                serde_json::from_value(json!({"resource": resource_, "divisor": divisor})).unwrap();
            resource(&PodSpec::default(), &container, &selector).unwrap()
        };
        assert_eq!(get("limits.cpu", None), "2");
        assert_eq!(get("limits.cpu", Some("1m")), "1500");
        assert_eq!(get("requests.cpu", None), "1");
        assert_eq!(get("requests.memory", None), "0");
    }
}
