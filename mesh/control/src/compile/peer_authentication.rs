//! PeerAuthentication: what the ports of a workload accept, plain text or mutual TLS.

use mesh_api::{
    Resource,
    security::{MutualTls, MutualTlsMode, PeerAuthentication},
};
use mesh_config::{
    CertificateValidation, ClientCertificate, DownstreamTlsContext, Transport, TransportProtocol,
    tls,
};

use super::Compiler;
use crate::{
    ROOT_NAMESPACE,
    world::{Pod, Protocol, selects},
};

/// Label of pods that take mutual TLS.
pub(crate) const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// What clients of the mesh offer (ALPN), by which their TLS is known.
const MESH_PROTOCOLS: [&str; 5] = [
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
    "istio-peer-exchange",
    "istio",
];

/// What a port accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Plain text.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS.
    Strict,
}

/// The mode of a port of a pod: that of the port, else of the policy that chooses the pod, else of
/// its namespace, else of the mesh, else permissive. `UNSET` asks the next; of several policies on
/// one level the oldest counts.
pub(crate) fn mode(compiler: &Compiler, pod: &Pod, port: u16) -> Mode {
    let labels = |policy: &Resource<PeerAuthentication>| {
        let selector = policy.spec.selector.as_ref();
        selector.map_or_else(Default::default, |selector| selector.match_labels.clone())
    };
    let policies = || compiler.peer_authentications.iter().map(|policy| &**policy);
    let of_namespace = |namespace: &str| {
        policies()
            .find(|policy| policy.metadata.namespace == namespace && labels(policy).is_empty())
    };
    let of_workload = policies().find(|policy| {
        let selector = labels(policy);
        policy.metadata.namespace == pod.namespace
            && policy.metadata.namespace != ROOT_NAMESPACE
            && !selector.is_empty()
            && selects(&selector, &pod.labels)
    });
    let of_port = of_workload.and_then(|policy| policy.spec.port_level_mtls.get(&port.to_string()));
    let whole = |policy: Option<&Resource<PeerAuthentication>>| {
        policy.and_then(|policy| said(policy.spec.mtls.as_ref()))
    };
    said(of_port)
        .or_else(|| whole(of_workload))
        .or_else(|| whole(of_namespace(&pod.namespace)))
        .or_else(|| whole(of_namespace(ROOT_NAMESPACE)))
        .unwrap_or(Mode::Permissive)
}

fn said(mtls: Option<&MutualTls>) -> Option<Mode> {
    match mtls?.mode? {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(Mode::Disable),
        MutualTlsMode::Permissive => Some(Mode::Permissive),
        MutualTlsMode::Strict => Some(Mode::Strict),
    }
}

/// The filter chains of an inbound port, by the transport that they take. `None` inside: the chain
/// passes bytes on as they are, whatever protocol the port has.
pub(super) fn transports(mode: Mode, protocol: Protocol) -> Vec<(Transport, Chain)> {
    let on = |protocol, application_protocols: &[&str], tls| Transport {
        protocol: Some(protocol),
        application_protocols: application_protocols
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        tls,
    };
    let mutual = |offers: &[&str]| on(TransportProtocol::Tls, offers, Some(server_context()));
    let plain = || on(TransportProtocol::RawBuffer, &[], None);
    match mode {
        Mode::Strict => vec![(mutual(&[]), Chain::Port)],
        Mode::Disable => vec![(Transport::default(), Chain::Port)],
        Mode::Permissive => {
            let mut chains = vec![
                (mutual(&MESH_PROTOCOLS), Chain::Port),
                (plain(), Chain::Port),
            ];
            // TLS that is not the mesh's is the application's own affair, where it may be.
            if matches!(protocol, Protocol::Tcp | Protocol::Tls | Protocol::Sniff) {
                chains.push((on(TransportProtocol::Tls, &[], None), Chain::Bytes));
            }
            chains
        }
    }
}

/// What becomes of a connection that a chain of an inbound port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// What the port's protocol says.
    Port,
    /// Its bytes are passed on.
    Bytes,
}

/// The server's side of the mesh's own TLS.
pub(super) fn server_context() -> DownstreamTlsContext {
    DownstreamTlsContext {
        certificates: vec![tls::WORKLOAD.into()],
        client_certificate: ClientCertificate::Required,
        validation: Some(CertificateValidation {
            trust: tls::MESH_ROOT.into(),
            subject_alt_names: Vec::new(),
        }),
        alpn_protocols: vec!["h2".into(), "http/1.1".into()],
        ..DownstreamTlsContext::default()
    }
}

/// An endpoint of a pod takes mutual TLS: it has a proxy that says so, and no policy forbids it.
pub(super) fn offers_mutual_tls(compiler: &Compiler, pod: &Pod, port: u16) -> bool {
    pod.labels
        .get(TLS_MODE_LABEL)
        .is_some_and(|mode| mode == "istio")
        && mode(compiler, pod, port) != Mode::Disable
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::world::World;

    /// The mode of port 8080 of pod `web` (label app=web) of namespace `shop` under these policies,
    /// the oldest first: namespace, selected app, spec.
    fn mode_under(policies: &[(&str, Option<&str>, Value)]) -> Mode {
        let mut world = World::default();
        world
            .insert(&json!({
                "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
                "spec": {"containers": []}, "status": {"podIP": "127.16.0.2"},
            }))
            .unwrap();
        for (age, (namespace, app, spec)) in policies.iter().enumerate() {
            let mut spec = spec.clone();
            if let Some(app) = app {
                spec["selector"] = json!({"matchLabels": {"app": app}});
            }
            world
                .insert(&json!({
                    "kind": "PeerAuthentication", "spec": spec,
                    "metadata": {"name": format!("p{age}"), "namespace": namespace,
                        "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z")},
                }))
                .unwrap();
        }
        let compiler = Compiler::new(Arc::new(world), 1);
        let pod = compiler.world().pod("shop", "web").unwrap().clone();
        mode(&compiler, &pod, 8080)
    }

    #[test]
    fn the_narrowest_that_says_something_decides() {
        let mtls = |mode: &str| json!({"mtls": {"mode": mode}});
        let port = |whole: &str, port: &str| json!({"mtls": {"mode": whole}, "portLevelMtls": {"8080": {"mode": port}}});
        let (mesh, shop) = (ROOT_NAMESPACE, "shop");
        for (policies, expected) in [
            (vec![], Mode::Permissive),
            (vec![(mesh, None, mtls("STRICT"))], Mode::Strict),
            (vec![(shop, None, mtls("STRICT"))], Mode::Strict),
            (vec![("other", None, mtls("STRICT"))], Mode::Permissive),
            (
                vec![(mesh, None, mtls("STRICT")), (shop, None, mtls("DISABLE"))],
                Mode::Disable,
            ),
            (
                vec![(mesh, None, mtls("STRICT")), (shop, None, mtls("UNSET"))],
                Mode::Strict,
            ),
            (
                vec![(mesh, None, mtls("STRICT")), (shop, None, json!({}))],
                Mode::Strict,
            ),
            (
                vec![
                    (shop, None, mtls("STRICT")),
                    (shop, Some("web"), mtls("PERMISSIVE")),
                ],
                Mode::Permissive,
            ),
            (
                vec![
                    (shop, None, mtls("STRICT")),
                    (shop, Some("db"), mtls("PERMISSIVE")),
                ],
                Mode::Strict,
            ),
            (
                vec![(shop, Some("web"), port("STRICT", "DISABLE"))],
                Mode::Disable,
            ),
            (
                vec![(shop, Some("web"), port("STRICT", "UNSET"))],
                Mode::Strict,
            ),
            (
                vec![
                    (shop, Some("web"), port("UNSET", "UNSET")),
                    (mesh, None, mtls("STRICT")),
                ],
                Mode::Strict,
            ),
            // The oldest of a level.
            (
                vec![(shop, None, mtls("DISABLE")), (shop, None, mtls("STRICT"))],
                Mode::Disable,
            ),
            (
                vec![
                    (shop, Some("web"), mtls("STRICT")),
                    (shop, Some("web"), mtls("DISABLE")),
                ],
                Mode::Strict,
            ),
            // A selector in the root namespace reaches no other.
            (vec![(mesh, Some("web"), mtls("STRICT"))], Mode::Permissive),
        ] {
            assert_eq!(mode_under(&policies), expected, "{policies:?}");
        }
    }
}
