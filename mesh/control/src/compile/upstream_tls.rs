//! TLS towards a service: what its DestinationRule says, else mutual TLS of the mesh towards the
//! endpoints that offer it.

use std::collections::BTreeSet;

use mesh_api::destination_rule::{ClientTlsSettings, Subset, TlsMode};
use mesh_config::{CertificateValidation, UpstreamTlsContext, Workload, names, tls};

use crate::world::{Protocol, Service, ServicePort};

/// The TLS of a cluster; `None` for plain text. `identities` are those that may answer for the
/// service.
pub(super) fn of(
    settings: Option<&ClientTlsSettings>,
    service: &Service,
    port: &ServicePort,
    subset: Option<&Subset>,
    identities: &[String],
) -> Option<UpstreamTlsContext> {
    let subset = subset.map_or("", |subset| &subset.name);
    let host = service.host.as_str();
    match settings.map(|settings| (settings, settings.mode.unwrap_or_default())) {
        // What is not of the mesh has no identity in it.
        None if service.external => None,
        None => Some(UpstreamTlsContext {
            where_offered: true,
            ..mutual(port, subset, host, identities)
        }),
        Some((_, TlsMode::Disable)) => None,
        Some((settings, TlsMode::IstioMutual)) => {
            let mut context = mutual(port, subset, host, identities);
            if !settings.sni.is_empty() {
                context.sni = settings.sni.clone();
            }
            if let (Some(validation), false) = (
                &mut context.validation,
                settings.subject_alt_names.is_empty(),
            ) {
                validation.subject_alt_names = settings.subject_alt_names.clone();
            }
            Some(context)
        }
        Some((settings, mode)) => Some(own_files(settings, mode, port)),
    }
}

/// The identities of the workloads behind a service; no others may answer for it.
pub(super) fn identities<'a>(workloads: impl Iterator<Item = &'a Workload>) -> Vec<String> {
    let identities: BTreeSet<&String> = workloads
        .map(|workload| &workload.identity)
        .filter(|identity| !identity.is_empty())
        .collect();
    identities.into_iter().cloned().collect()
}

fn mutual(
    port: &ServicePort,
    subset: &str,
    host: &str,
    identities: &[String],
) -> UpstreamTlsContext {
    let alpn: &[&str] = match port.protocol {
        Protocol::Http => &["istio-http/1.1", "istio", "http/1.1"],
        Protocol::Http2 => &["istio-h2", "istio", "h2"],
        Protocol::Tcp | Protocol::Tls | Protocol::Sniff => &["istio"],
    };
    UpstreamTlsContext {
        where_offered: false,
        certificate: Some(tls::WORKLOAD.into()),
        validation: Some(CertificateValidation {
            trust: tls::MESH_ROOT.into(),
            subject_alt_names: identities.to_vec(),
        }),
        // Istio's form of a cluster's name that a host name may have.
        sni: names::outbound(port.number, subset, host).replace('|', "_."),
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// SIMPLE and MUTUAL: with files of the proxy's or a Secret.
fn own_files(
    settings: &ClientTlsSettings,
    mode: TlsMode,
    port: &ServicePort,
) -> UpstreamTlsContext {
    let secret = &settings.credential_name;
    let trust = if !secret.is_empty() {
        format!("kubernetes://{secret}-cacert")
    } else if !settings.ca_certificates.is_empty() {
        format!("file-root:{}", settings.ca_certificates)
    } else {
        tls::SYSTEM_ROOT.into()
    };
    let certificate = (mode == TlsMode::Mutual).then(|| {
        if secret.is_empty() {
            let (certificate, key) = (&settings.client_certificate, &settings.private_key);
            format!("file-cert:{certificate}~{key}")
        } else {
            format!("kubernetes://{secret}")
        }
    });
    let validation = CertificateValidation {
        trust,
        subject_alt_names: settings.subject_alt_names.clone(),
    };
    UpstreamTlsContext {
        where_offered: false,
        certificate,
        validation: (settings.insecure_skip_verify != Some(true)).then_some(validation),
        sni: settings.sni.clone(),
        alpn_protocols: if port.protocol == Protocol::Http2 {
            vec!["h2".into()]
        } else {
            Vec::new()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::{compile::Compiler, world::World};

    /// The TLS of `outbound|80||web.shop...` under a DestinationRule's trafficPolicy, as JSON.
    fn tls_under(policy: Option<Value>) -> Value {
        let mut world = World::default();
        let mut insert = |object: Value| world.insert(&object).unwrap();
        insert(
            json!({"kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"clusterIP": "127.16.128.2", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}),
        );
        insert(
            json!({"kind": "Pod", "metadata": {"name": "web", "namespace": "shop",
                "labels": {"app": "web", "security.istio.io/tlsMode": "istio"}},
            "spec": {"serviceAccountName": "clerk", "containers": []}, "status": {"podIP": "127.16.0.2"}}),
        );
        insert(
            json!({"kind": "EndpointSlice", "metadata": {"name": "web-1", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": ["127.16.0.2"], "targetRef": {"kind": "Pod", "name": "web"}}]}),
        );
        if let Some(policy) = policy {
            insert(
                json!({"kind": "DestinationRule", "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"host": "web", "trafficPolicy": policy}}),
            );
        }
        let compiler = Compiler::new(Arc::new(world), 1);
        let view = compiler.cluster_view(&crate::compile::scope::Scope::whole("shop"));
        let cluster = &view.clusters["outbound|80||web.shop.svc.cluster.local"];
        let endpoints = &view.endpoints["outbound|80||web.shop.svc.cluster.local"].endpoints;
        assert!(endpoints[0].mutual_tls);
        serde_json::to_value(&cluster.tls).unwrap()
    }

    #[test]
    fn the_rule_decides_and_without_one_the_endpoint() {
        let mesh = |where_offered: bool, names: Value| {
            let mut context = json!({
                "certificate": "default",
                "validation": {"trust": "ROOTCA", "subjectAltNames": names},
                "sni": "outbound_.80_._.web.shop.svc.cluster.local",
                "alpnProtocols": ["istio-http/1.1", "istio", "http/1.1"],
            });
            if where_offered {
                context["whereOffered"] = true.into();
            }
            context
        };
        let own = json!(["spiffe://cluster.local/ns/shop/sa/clerk"]);
        assert_eq!(tls_under(None), mesh(true, own.clone()));
        let random = json!({"loadBalancer": {"simple": "RANDOM"}});
        assert_eq!(tls_under(Some(random)), mesh(true, own.clone()));
        for (policy, expected) in [
            (json!({"mode": "DISABLE"}), Value::Null),
            (json!({"mode": "ISTIO_MUTUAL"}), mesh(false, own)),
            (
                json!({"mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://x"]}),
                mesh(false, json!(["spiffe://x"])),
            ),
            (
                json!({"mode": "SIMPLE", "sni": "a.example"}),
                json!({"validation": {"trust": "file-root:system"}, "sni": "a.example"}),
            ),
            (
                json!({"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca"}),
                json!({"certificate": "file-cert:/c~/k", "validation": {"trust": "file-root:/ca"}, "sni": ""}),
            ),
            (
                json!({"mode": "SIMPLE", "insecureSkipVerify": true}),
                json!({"sni": ""}),
            ),
        ] {
            assert_eq!(
                tls_under(Some(json!({"tls": policy}))),
                expected,
                "{policy}"
            );
        }
    }

    #[test]
    fn a_port_that_says_nothing_of_tls_does_not_inherit() {
        let policy =
            json!({"tls": {"mode": "DISABLE"}, "portLevelSettings": [{"port": {"number": 80}}]});
        assert_eq!(tls_under(Some(policy))["whereOffered"], true);
    }
}
