//! The init container that has the kernel bring the pod's connections to the sidecar.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Its name, which is Istio's.
pub(super) const INIT_CONTAINER: &str = "istio-init";

/// The sidecar's own ports, which are open to all as they are.
const SIDECAR_PORTS: &str = "15090,15021,15020";

/// `None`: the pod's annotation `sidecar.istio.io/interceptionMode` is `NONE`. What an annotation says
/// is judged by the container, whose log names the mistake.
pub(super) fn init_container(image: &str, annotations: &BTreeMap<String, String>) -> Option<Value> {
    let own = |name: &str, default: &str| {
        annotations
            .get(name)
            .map_or(default, String::as_str)
            .to_owned()
    };
    let traffic =
        |name: &str, default: &str| own(&format!("traffic.sidecar.istio.io/{name}"), default);
    let mode = own("sidecar.istio.io/interceptionMode", "REDIRECT");
    if mode.eq_ignore_ascii_case("none") {
        return None;
    }
    let excluded = match traffic("excludeInboundPorts", "") {
        more if more.is_empty() => SIDECAR_PORTS.into(),
        more => format!("{SIDECAR_PORTS},{more}"),
    };
    let flags = [
        ("-p", "15001".into()),
        ("-z", "15006".into()),
        ("-u", "1337".into()),
        ("-m", mode),
        ("-i", traffic("includeOutboundIPRanges", "*")),
        ("-x", traffic("excludeOutboundIPRanges", "")),
        ("-b", traffic("includeInboundPorts", "*")),
        ("-d", excluded),
        ("-q", traffic("includeOutboundPorts", "")),
        ("-o", traffic("excludeOutboundPorts", "")),
        ("-c", traffic("excludeInterfaces", "")),
    ];
    let mut args = vec!["istio-iptables".to_owned()];
    for (flag, value) in flags {
        // The flags that Istio leaves out when they say nothing.
        if !(value.is_empty() && matches!(flag, "-q" | "-o" | "-c")) {
            args.extend([flag.to_owned(), value]);
        }
    }
    Some(json!({
        "name": INIT_CONTAINER,
        "image": own("sidecar.istio.io/proxyImage", image),
        "args": args,
        "resources": {
            "requests": { "cpu": "10m", "memory": "16Mi" },
            "limits": { "cpu": "2", "memory": "1Gi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(annotations: &[(&str, &str)]) -> Option<String> {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect();
        let container = init_container("proxyv2", &annotations)?;
        let args: Vec<&str> = container["args"]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        Some(args.join(" "))
    }

    #[test]
    fn the_flags_follow_the_annotations() {
        assert_eq!(
            args(&[]).unwrap(),
            "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020"
        );
        let given = args(&[
            ("traffic.sidecar.istio.io/excludeInboundPorts", "22,25"),
            ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306"),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.0/8",
            ),
        ]);
        assert_eq!(
            given.unwrap(),
            "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x 10.0.0.0/8 -b * \
             -d 15090,15021,15020,22,25 -o 3306"
        );
        assert_eq!(args(&[("sidecar.istio.io/interceptionMode", "NONE")]), None);
    }
}
