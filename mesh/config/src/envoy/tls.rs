//! Transport sockets and secrets: `envoy.extensions.transport_sockets.tls.v3`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::any;
use crate::{
    CertificateValidation, ClientCertificate, DownstreamTlsContext, Secret, TlsVersion, Transport,
    TransportProtocol, UpstreamTlsContext,
};

/// Adds what a filter chain asks of the connection's first bytes.
pub(super) fn chain_match(transport: &Transport, matches: &mut Value) {
    if let Some(protocol) = transport.protocol {
        matches["transport_protocol"] = match protocol {
            TransportProtocol::RawBuffer => "raw_buffer",
            TransportProtocol::Tls => "tls",
        }
        .into();
    }
    if !transport.application_protocols.is_empty() {
        matches["application_protocols"] = json!(transport.application_protocols);
    }
}

/// The transport socket of a filter chain.
pub(super) fn downstream(context: &DownstreamTlsContext) -> Value {
    let mut parameters = json!({});
    for (field, version) in [
        ("tls_minimum_protocol_version", context.minimum_version),
        ("tls_maximum_protocol_version", context.maximum_version),
    ] {
        if let Some(version) = version {
            parameters[field] = match version {
                TlsVersion::Tls12 => "TLSv1_2",
                TlsVersion::Tls13 => "TLSv1_3",
            }
            .into();
        }
    }
    if !context.cipher_suites.is_empty() {
        parameters["cipher_suites"] = json!(context.cipher_suites);
    }
    let mut common = common(
        context.certificates.iter().map(String::as_str),
        context.validation.as_ref(),
        &context.alpn_protocols,
    );
    common["tls_params"] = parameters;
    let message = json!({
        "common_tls_context": common,
        "require_client_certificate": context.client_certificate == ClientCertificate::Required,
    });
    socket("DownstreamTlsContext", message)
}

/// Adds the transport socket of a cluster, or the two that its endpoints choose between.
pub(super) fn upstream(context: &UpstreamTlsContext, cluster: &mut Value) {
    let mut message = json!({ "common_tls_context": common(
        context.certificate.as_deref().into_iter(),
        context.validation.as_ref(),
        &context.alpn_protocols,
    ) });
    if !context.sni.is_empty() {
        message["sni"] = json!(context.sni);
    }
    let tls = socket("UpstreamTlsContext", message);
    if !context.where_offered {
        cluster["transport_socket"] = tls;
        return;
    }
    cluster["transport_socket_matches"] = json!([
        { "name": "tlsMode-istio", "match": { "tlsMode": "istio" }, "transport_socket": tls },
        { "name": "tlsMode-disabled", "match": {}, "transport_socket": raw_buffer() },
    ]);
}

/// Plain text.
pub(super) fn raw_buffer() -> Value {
    json!({
        "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": any("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", json!({})),
    })
}

fn socket(kind: &str, message: Value) -> Value {
    let kind = format!("envoy.extensions.transport_sockets.tls.v3.{kind}");
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": any(&kind, message) })
}

fn common<'a>(
    certificates: impl Iterator<Item = &'a str>,
    validation: Option<&CertificateValidation>,
    alpn: &[String],
) -> Value {
    let certificates: Vec<Value> = certificates.map(reference).collect();
    let mut common = json!({ "tls_certificate_sds_secret_configs": certificates });
    if let Some(validation) = validation {
        let names: Vec<Value> = validation
            .subject_alt_names
            .iter()
            .map(|name| {
                let kind = if name.contains("://") { "URI" } else { "DNS" };
                json!({ "san_type": kind, "matcher": string_match(name) })
            })
            .collect();
        common["combined_validation_context"] = json!({
            "default_validation_context": { "match_typed_subject_alt_names": names },
            "validation_context_sds_secret_config": reference(&validation.trust),
        });
    }
    if !alpn.is_empty() {
        common["alpn_protocols"] = json!(alpn);
    }
    common
}

fn string_match(name: &str) -> Value {
    match (name.strip_suffix('*'), name.strip_prefix('*')) {
        (Some(prefix), _) => json!({ "prefix": prefix }),
        (_, Some(suffix)) => json!({ "suffix": suffix }),
        _ => json!({ "exact": name }),
    }
}

fn reference(name: &str) -> Value {
    json!({ "name": name, "sds_config": { "ads": {}, "resource_api_version": "V3" } })
}

/// `Secret`, with the key as it is: what a real Envoy is given, never what `/config_dump` prints.
pub fn secret(secret: &Secret) -> Value {
    let inline = |text: &str| json!({ "inline_string": text });
    if secret.private_key.is_empty() {
        return json!({
            "name": secret.name,
            "validation_context": { "trusted_ca": inline(&secret.trusted_ca) },
        });
    }
    json!({
        "name": secret.name,
        "tls_certificate": {
            "certificate_chain": inline(&secret.certificate_chain),
            "private_key": inline(&secret.private_key),
        },
    })
}

/// `Secret` as `/config_dump` prints it: certificates in base64, the key as `[redacted]` in base64.
pub(super) fn redacted(secret: &Secret) -> Value {
    let inline = |text: &str| json!({ "inline_bytes": STANDARD.encode(text) });
    if secret.certificate_chain.is_empty() {
        return json!({ "name": secret.name, "validation_context": { "trusted_ca": inline(&secret.trusted_ca) } });
    }
    json!({
        "name": secret.name,
        "tls_certificate": {
            "certificate_chain": inline(&secret.certificate_chain),
            "private_key": inline("[redacted]"),
        },
    })
}
