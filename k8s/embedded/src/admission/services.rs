//! Addresses and node ports of Services.

use crate::network::addresses::AddressPlan;
use crate::status::Cause;
use crate::store::Store;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// Ports that NodePort services get on 127.0.0.1.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// Gives a Service its cluster IP and node ports, or keeps those of `live`. The caller serializes
/// calls.
///
/// # Errors
/// The fields that ask for what is taken or out of range.
pub fn allocate(
    store: &Store,
    plan: AddressPlan,
    live: Option<&Value>,
    service: &mut Value,
) -> Result<(), Vec<Cause>> {
    let own = service["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (services, _) = store.list("core/services", None);
    let (mut addresses, mut ports) = (HashSet::new(), HashSet::new());
    for other in services {
        let other = other.value();
        if other["metadata"]["uid"] == own.as_str() {
            continue;
        }
        if let Some(Ok(address)) = other["spec"]["clusterIP"].as_str().map(str::parse) {
            addresses.insert(address);
        }
        for port in node_ports(&other) {
            ports.insert(port);
        }
    }
    cluster_ip(plan, live, service, &addresses)?;
    allocate_node_ports(live, service, &ports)
}

fn cause(reason: &str, field: impl Into<String>, message: String) -> Vec<Cause> {
    vec![Cause {
        reason: reason.into(),
        message,
        field: field.into(),
    }]
}

fn cluster_ip(
    plan: AddressPlan,
    live: Option<&Value>,
    service: &mut Value,
    taken: &HashSet<Ipv4Addr>,
) -> Result<(), Vec<Cause>> {
    let spec = &mut service["spec"];
    if spec["type"] == "ExternalName" {
        if let Some(spec) = spec.as_object_mut() {
            spec.shift_remove("clusterIP");
            spec.shift_remove("clusterIPs");
        }
        return Ok(());
    }
    let asked = spec["clusterIP"]
        .as_str()
        .or(spec["clusterIPs"][0].as_str())
        .unwrap_or_default()
        .to_owned();
    let had = live
        .and_then(|live| live["spec"]["clusterIP"].as_str())
        .unwrap_or_default();
    let address = match (asked.as_str(), had) {
        ("", "") => plan
            .next_service(|address| taken.contains(&address))
            .ok_or_else(|| {
                cause(
                    "InternalError",
                    "spec.clusterIPs",
                    "Internal error: no service address is free".into(),
                )
            })?
            .to_string(),
        ("", had) => had.to_owned(),
        (asked, "") if asked != "None" => {
            let parsed: Option<Ipv4Addr> = asked.parse().ok();
            let refuse = |why: &str| {
                Err(cause(
                    "FieldValueInvalid",
                    "spec.clusterIPs",
                    format!("Invalid value: [{asked:?}]: failed to allocate IP {asked}: {why}"),
                ))
            };
            match parsed {
                Some(address) if taken.contains(&address) => {
                    return refuse("provided IP is already allocated");
                }
                Some(address) if plan.is_service(address) => asked.to_owned(),
                _ => return refuse("the provided IP is not in the valid range"),
            }
        }
        (asked, had) if !had.is_empty() && asked != had => {
            return Err(cause(
                "FieldValueInvalid",
                "spec.clusterIPs[0]",
                format!("Invalid value: [{asked:?}]: may not change once set"),
            ));
        }
        (asked, _) => asked.to_owned(),
    };
    spec["clusterIP"] = address.as_str().into();
    spec["clusterIPs"] = json!([address]);
    Ok(())
}

fn node_ports(service: &Value) -> Vec<u16> {
    let mut ports: Vec<u16> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok())
        .collect();
    ports.extend(
        service["spec"]["healthCheckNodePort"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok()),
    );
    ports
}

fn allocate_node_ports(
    live: Option<&Value>,
    service: &mut Value,
    taken: &HashSet<u16>,
) -> Result<(), Vec<Cause>> {
    let kind = service["spec"]["type"].as_str().unwrap_or_default();
    let wanted = match kind {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    };
    let external = matches!(kind, "NodePort" | "LoadBalancer");
    let mut used = taken.clone();
    used.extend(node_ports(service));
    let Some(ports) = service["spec"]["ports"].as_array_mut() else {
        return Ok(());
    };
    let mut seen = HashSet::new();
    for (index, port) in ports.iter_mut().enumerate() {
        if !external {
            // a service that is no longer external gives its ports back
            if live.is_some()
                && let Some(port) = port.as_object_mut()
            {
                port.shift_remove("nodePort");
            }
            continue;
        }
        let field = format!("spec.ports[{index}].nodePort");
        match port["nodePort"].as_u64().filter(|port| *port > 0) {
            Some(asked) => {
                let valid = u16::try_from(asked).ok().filter(|p| NODE_PORTS.contains(p));
                let Some(valid) = valid else {
                    return Err(cause(
                        "FieldValueInvalid",
                        field,
                        format!(
                            "Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is {}-{}",
                            NODE_PORTS.start(),
                            NODE_PORTS.end()
                        ),
                    ));
                };
                if taken.contains(&valid) || !seen.insert(valid) {
                    return Err(cause(
                        "FieldValueInvalid",
                        field,
                        format!("Invalid value: {asked}: provided port is already allocated"),
                    ));
                }
            }
            None if wanted => {
                let kept = live.and_then(|live| kept_port(live, port));
                let free = kept
                    .into_iter()
                    .chain(NODE_PORTS)
                    .find(|candidate| !used.contains(candidate))
                    .ok_or_else(|| {
                        cause(
                            "InternalError",
                            field,
                            "Internal error: no node port is free".into(),
                        )
                    })?;
                used.insert(free);
                port["nodePort"] = free.into();
            }
            None => {}
        }
    }
    Ok(())
}

/// The node port that the same port of the live service has.
fn kept_port(live: &Value, port: &Value) -> Option<u16> {
    let same = live["spec"]["ports"]
        .as_array()?
        .iter()
        .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"])?;
    u16::try_from(same["nodePort"].as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> AddressPlan {
        AddressPlan::new(16).unwrap()
    }

    #[tokio::test]
    async fn addresses_and_ports_are_unique_and_kept() {
        let store = Store::in_memory();
        let mut first = json!({"metadata": {"uid": "1"}, "spec": {"type": "NodePort",
            "ports": [{"port": 80, "protocol": "TCP"}]}});
        allocate(&store, plan(), None, &mut first).unwrap();
        store
            .create("core/services", "a", "first", first.clone())
            .await
            .unwrap();
        let mut second = json!({"metadata": {"uid": "2"}, "spec": {"type": "LoadBalancer",
            "ports": [{"port": 80, "protocol": "TCP"}]}});
        allocate(&store, plan(), None, &mut second).unwrap();
        assert_ne!(first["spec"]["clusterIP"], second["spec"]["clusterIP"]);
        assert_eq!(first["spec"]["ports"][0]["nodePort"], 30000);
        assert_eq!(second["spec"]["ports"][0]["nodePort"], 30001);

        let mut changed = json!({"metadata": {"uid": "1"}, "spec": {"type": "NodePort",
            "ports": [{"port": 80, "protocol": "TCP"}]}});
        allocate(&store, plan(), Some(&first), &mut changed).unwrap();
        assert_eq!(changed["spec"]["clusterIP"], first["spec"]["clusterIP"]);
        assert_eq!(changed["spec"]["ports"][0]["nodePort"], 30000);

        let mut thief = json!({"metadata": {"uid": "3"}, "spec": {
            "clusterIP": first["spec"]["clusterIP"], "ports": [{"port": 80}]}});
        let causes = allocate(&store, plan(), None, &mut thief).unwrap_err();
        assert!(
            causes[0]
                .message
                .ends_with("provided IP is already allocated")
        );
        let mut low = json!({"metadata": {"uid": "4"}, "spec": {"type": "NodePort",
            "ports": [{"port": 80, "nodePort": 80}]}});
        assert!(allocate(&store, plan(), None, &mut low).is_err());
        let mut headless = json!({"metadata": {"uid": "5"}, "spec": {"clusterIP": "None"}});
        allocate(&store, plan(), None, &mut headless).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    }
}
