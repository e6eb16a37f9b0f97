//! Servers of a gateway that end TLS: their certificates, and the filter chains by server name.

use std::{collections::BTreeSet, sync::Arc};

use mesh_api::{
    Gateway, Resource,
    gateway::{Server, ServerTlsMode, ServerTlsSettings, TlsProtocol},
};
use mesh_config::{
    CertificateValidation, ClientCertificate, DownstreamTlsContext, FilterChain, Secret, Snapshot,
    TlsVersion, Transport, TransportProtocol,
};

use super::{Compiler, gateway_hosts::server_host, peer_authentication::server_context};

/// What the names of Secrets begin with.
const KUBERNETES: &str = "kubernetes://";
/// What is put after the name of a Secret for the authorities in it.
const AUTHORITIES: &str = "-cacert";

/// The TLS that a server ends; `None`: it ends none.
pub(crate) fn context(server: &Server) -> Option<DownstreamTlsContext> {
    let settings = server.tls.as_ref()?;
    let secure = ["HTTPS", "TLS"].contains(&server.port.protocol.to_ascii_uppercase().as_str());
    let client_certificate = match settings.mode? {
        _ if !secure => return None,
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => return None,
        ServerTlsMode::IstioMutual => return Some(server_context()),
        ServerTlsMode::Simple => ClientCertificate::None,
        ServerTlsMode::Mutual => ClientCertificate::Required,
        ServerTlsMode::OptionalMutual => ClientCertificate::Optional,
    };
    let asks = client_certificate != ClientCertificate::None;
    Some(DownstreamTlsContext {
        certificates: certificates(settings),
        client_certificate,
        validation: asks.then(|| CertificateValidation {
            trust: authorities(settings),
            subject_alt_names: settings.subject_alt_names.clone(),
        }),
        alpn_protocols: vec!["h2".into(), "http/1.1".into()],
        minimum_version: version(settings.min_protocol_version),
        maximum_version: version(settings.max_protocol_version),
        cipher_suites: settings.cipher_suites.clone(),
    })
}

fn certificates(settings: &ServerTlsSettings) -> Vec<String> {
    let files = |certificate: &str, key: &str| format!("file-cert:{certificate}~{key}");
    let mut names: Vec<String> = std::iter::once(&settings.credential_name)
        .chain(&settings.credential_names)
        .filter(|name| !name.is_empty())
        .map(|name| format!("{KUBERNETES}{name}"))
        .collect();
    let pairs = settings.tls_certificates.iter();
    names.extend(pairs.map(|pair| files(&pair.server_certificate, &pair.private_key)));
    if names.is_empty() {
        names.push(files(&settings.server_certificate, &settings.private_key));
    }
    names
}

fn authorities(settings: &ServerTlsSettings) -> String {
    let secrets = std::iter::once(&settings.credential_name).chain(&settings.credential_names);
    match secrets.into_iter().find(|name| !name.is_empty()) {
        Some(name) => format!("{KUBERNETES}{name}{AUTHORITIES}"),
        None => format!("file-root:{}", settings.ca_certificates),
    }
}

/// Versions before 1.2 do not exist for the proxy; they are reported.
fn version(protocol: Option<TlsProtocol>) -> Option<TlsVersion> {
    match protocol? {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::Tlsv1_0 | TlsProtocol::Tlsv1_1 | TlsProtocol::Tlsv1_2 => {
            Some(TlsVersion::Tls12)
        }
        TlsProtocol::Tlsv1_3 => Some(TlsVersion::Tls13),
    }
}

/// `chain` once for each host of the server, for clients that ask for that host.
pub(super) fn by_host(
    gateway: &Resource<Gateway>,
    server: &Server,
    context: &DownstreamTlsContext,
    chain: &FilterChain,
) -> Vec<FilterChain> {
    let hosts: BTreeSet<String> = server
        .hosts
        .iter()
        .map(|text| server_host(text, gateway).1.to_string())
        .collect();
    hosts
        .into_iter()
        .map(|host| FilterChain {
            server_names: vec![host],
            transport: Transport {
                protocol: Some(TransportProtocol::Tls),
                application_protocols: Vec::new(),
                tls: Some(context.clone()),
            },
            ..chain.clone()
        })
        .collect()
}

/// The most specific name first; of equal names only the first, which is the oldest Gateway's.
pub(super) fn order(chains: &mut Vec<FilterChain>) {
    let rank = |chain: &FilterChain| {
        let name = chain.server_names.first().map_or("", String::as_str);
        (
            name.starts_with('*') || name.is_empty(),
            std::cmp::Reverse(name.len()),
        )
    };
    chains.sort_by_key(rank);
    let mut seen = BTreeSet::new();
    chains.retain(|chain| {
        chain.server_names.is_empty()
            || seen.insert((chain.server_names.clone(), chain.destinations.clone()))
    });
}

/// Gives a gateway the Secrets of its namespace that its TLS names, and no others.
pub(super) fn secrets(compiler: &Compiler, namespace: &str, snapshot: &mut Snapshot) {
    let listeners = snapshot.listeners.values();
    let downstream = listeners
        .flat_map(|listener| &listener.filter_chains)
        .filter_map(|chain| chain.transport.tls.as_ref())
        .flat_map(|tls| {
            let trust = tls.validation.iter().map(|validation| &validation.trust);
            tls.certificates.iter().chain(trust)
        });
    let upstream = snapshot
        .clusters
        .values()
        .filter_map(|cluster| cluster.tls.as_ref());
    let upstream = upstream.flat_map(|tls| {
        let trust = tls.validation.iter().map(|validation| &validation.trust);
        tls.certificate.iter().chain(trust)
    });
    let names: BTreeSet<String> = downstream.chain(upstream).cloned().collect();
    for name in names {
        let Some(credential) = name.strip_prefix(KUBERNETES) else {
            continue;
        };
        if let Some(secret) = secret(compiler, namespace, credential, &name) {
            snapshot.secrets.insert(name, Arc::new(secret));
        }
    }
}

fn secret(compiler: &Compiler, namespace: &str, credential: &str, name: &str) -> Option<Secret> {
    let find = |name: &str| {
        let key = (namespace.to_owned(), name.to_owned());
        compiler.world.secrets.get(&key)
    };
    let mut secret = Secret {
        name: name.to_owned(),
        ..Secret::default()
    };
    match credential.strip_suffix(AUTHORITIES) {
        Some(base) => {
            let own = find(credential).filter(|found| !found.authorities.is_empty());
            secret.trusted_ca = own.or_else(|| find(base))?.authorities.clone();
        }
        None => {
            let found = find(credential)?;
            secret.certificate_chain = found.certificate.clone();
            secret.private_key = found.key.clone();
        }
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use mesh_config::ProxyId;
    use serde_json::{Value, json};

    use super::*;
    use crate::world::World;

    fn snapshot(servers: Value, secrets: &[(&str, &str, Value)]) -> Snapshot {
        let mut world = World::default();
        let mut insert = |object: Value| world.insert(&object).unwrap();
        insert(
            json!({"kind": "Pod", "metadata": {"name": "gw", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}},
            "spec": {"containers": []}, "status": {"podIP": "127.16.0.2"}}),
        );
        insert(
            json!({"kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers}}),
        );
        for (namespace, name, data) in secrets {
            insert(
                json!({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}),
            );
        }
        let proxy: ProxyId = serde_json::from_value(json!({"role": "router", "pod": "gw",
            "namespace": "istio-system", "address": "127.16.0.2", "interception": {"mode": "none"}}))
        .unwrap();
        Compiler::new(Arc::new(world), 1).snapshot(&proxy).unwrap()
    }

    fn https(host: &str, tls: Value) -> Value {
        json!({"port": {"number": 8443, "name": format!("https-{host}"), "protocol": "HTTPS"}, "hosts": [host], "tls": tls})
    }

    #[test]
    fn chains_go_by_server_name_the_most_specific_first() {
        let simple = |name: &str| json!({"mode": "SIMPLE", "credentialName": name});
        let servers = json!([
            https("*", simple("any")),
            https("a.example", simple("a")),
            https("*.example", simple("wild"))
        ]);
        let snapshot = snapshot(servers, &[]);
        let chains = &snapshot.listeners["0.0.0.0_8443"].filter_chains;
        let names: Vec<_> = chains
            .iter()
            .map(|chain| chain.server_names[0].as_str())
            .collect();
        assert_eq!(names, ["a.example", "*.example", "*"]);
        let first = chains[0].transport.tls.as_ref().unwrap();
        assert_eq!(first.certificates, ["kubernetes://a"]);
        assert!(
            snapshot
                .routes
                .contains_key("https.8443.https-a.example.g.shop")
        );
    }

    #[test]
    fn secrets_are_those_of_the_gateways_namespace_that_it_names() {
        let tls =
            json!({"mode": "MUTUAL", "credentialName": "site", "minProtocolVersion": "TLSV1_3"});
        let data = json!({"tls.crt": "Q0VSVA==", "tls.key": "S0VZ", "ca.crt": "Q0E="});
        let secrets = [
            ("istio-system", "site", data.clone()),
            ("istio-system", "other", data.clone()),
            ("shop", "site", json!({})),
        ];
        let snapshot = snapshot(json!([https("a.example", tls)]), &secrets);
        let names: Vec<_> = snapshot.secrets.keys().collect();
        assert_eq!(names, ["kubernetes://site", "kubernetes://site-cacert"]);
        assert_eq!(snapshot.secrets["kubernetes://site"].private_key, "KEY");
        assert_eq!(
            snapshot.secrets["kubernetes://site-cacert"].trusted_ca,
            "CA"
        );
        let context = snapshot.listeners["0.0.0.0_8443"].filter_chains[0]
            .transport
            .tls
            .clone()
            .unwrap();
        assert_eq!(context.client_certificate, ClientCertificate::Required);
        assert_eq!(context.minimum_version, Some(TlsVersion::Tls13));
    }
}
