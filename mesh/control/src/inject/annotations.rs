//! Annotations that ask something of the injector or of the sidecar, and what becomes of them.

use std::collections::BTreeMap;

/// Those that are carried out, by prefix and name. What they ask stands where they are read.
const CARRIED_OUT: [(&str, &[&str]); 2] = [
    (
        "sidecar.istio.io/",
        &[
            "inject",
            "interceptionMode",
            "nativeSidecar",
            "proxyCPU",
            "proxyCPULimit",
            "proxyImage",
            "proxyMemory",
            "proxyMemoryLimit",
            "rewriteAppHTTPProbers",
            "statsInclusionPrefixes",
            "statsInclusionRegexps",
            "statsInclusionSuffixes",
            "status",
        ],
    ),
    (
        "traffic.sidecar.istio.io/",
        &[
            "excludeInboundPorts",
            "excludeInterfaces",
            "excludeOutboundIPRanges",
            "excludeOutboundPorts",
            "includeInboundPorts",
            "includeOutboundIPRanges",
            "includeOutboundPorts",
        ],
    ),
];

/// Others that Istio reads.
const OTHERS: [&str; 4] = [
    "proxy.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "inject.istio.io/",
];

/// What a pod's annotations ask for in vain, one sentence each.
pub(crate) fn not_carried_out(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let unknown = |annotation: &&String| {
        let of_family = CARRIED_OUT.iter().find_map(|(prefix, names)| {
            let name = annotation.strip_prefix(prefix)?;
            Some(!names.contains(&name))
        });
        of_family.unwrap_or_else(|| OTHERS.iter().any(|other| annotation.starts_with(other)))
    };
    let mut found: Vec<_> = annotations
        .keys()
        .filter(unknown)
        .map(|annotation| format!("annotation {annotation} is not carried out"))
        .collect();
    let mode = annotations.get("sidecar.istio.io/interceptionMode");
    if let Some(mode) = mode.filter(|mode| !["REDIRECT", "NONE"].contains(&mode.as_str())) {
        found.push(format!(
            "annotation sidecar.istio.io/interceptionMode: {mode} is not carried out; istio-init fails (use REDIRECT or NONE)"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named() {
        let annotations = [
            ("app", "a"),
            ("sidecar.istio.io/proxyCPU", "1"),
            ("sidecar.istio.io/userVolume", "[]"),
            ("sidecar.istio.io/interceptionMode", "TPROXY"),
            ("proxy.istio.io/config", "concurrency: 2"),
            ("traffic.sidecar.istio.io/kubevirtInterfaces", "a"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = not_carried_out(&annotations.into());
        let names: Vec<_> = found
            .iter()
            .filter_map(|text| text.split(' ').nth(1))
            .collect();
        assert_eq!(
            names,
            [
                "proxy.istio.io/config",
                "sidecar.istio.io/userVolume",
                "traffic.sidecar.istio.io/kubevirtInterfaces",
                "sidecar.istio.io/interceptionMode:",
            ]
        );
    }
}
