//! Who is at the other end of a mutual TLS connection.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A client that showed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its first URI, a SPIFFE identity in the mesh; empty when it has none.
    pub(crate) identity: Box<str>,
    /// `x-forwarded-client-cert` of an inbound sidecar.
    pub(crate) client_cert: HeaderValue,
    /// The same as a gateway tells it: with the certificate itself.
    pub(crate) client_cert_of_gateway: HeaderValue,
}

/// What is read of a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) uris: Vec<String>,
    pub(crate) dns: Vec<String>,
    /// As RFC 2253 writes it.
    pub(crate) subject: String,
    /// Hexadecimal.
    pub(crate) serial: String,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Facts {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let mut facts = Self {
            subject: subject(&parsed),
            serial: hex(parsed.raw_serial()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            ..Self::default()
        };
        let names = parsed.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => facts.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => facts.dns.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(facts)
    }
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    let oids = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = certificate
        .subject()
        .iter_attributes()
        .map(|attribute| {
            let short = x509_parser::objects::oid2sn(attribute.attr_type(), oids);
            let name = match short {
                Ok("commonName") => "CN".to_owned(),
                Ok("organizationName") => "O".to_owned(),
                Ok("organizationalUnitName" | "organizationalUnit") => "OU".to_owned(),
                Ok("countryName") => "C".to_owned(),
                Ok("localityName") => "L".to_owned(),
                Ok("stateOrProvinceName") => "ST".to_owned(),
                Ok(other) => other.to_owned(),
                Err(_) => attribute.attr_type().to_id_string(),
            };
            format!("{name}={}", attribute.as_str().unwrap_or_default())
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

impl Peer {
    /// From the client's certificate and our own.
    pub(super) fn read(leaf: &CertificateDer<'_>, own: Option<&CertificateDer<'_>>) -> Self {
        let facts = Facts::of(leaf).unwrap_or_default();
        let by = own.and_then(|own| Facts::of(own)?.uris.into_iter().next());
        let hash = hex(ring::digest::digest(&ring::digest::SHA256, leaf).as_ref());
        let by = by.map_or_else(String::new, |uri| format!("By={uri};"));
        let subject = facts.subject.replace('\\', "\\\\").replace('"', "\\\"");
        let subject = format!("Subject=\"{subject}\"");
        let uris: String = facts.uris.iter().map(|uri| format!(";URI={uri}")).collect();
        let dns: String = facts
            .dns
            .iter()
            .map(|name| format!(";DNS={name}"))
            .collect();
        let pem = encoded_pem(leaf);
        Self {
            client_cert: value(&format!("{by}Hash={hash};{subject}{uris}")),
            client_cert_of_gateway: value(&format!(
                "{by}Hash={hash};Cert=\"{pem}\";{subject}{uris}{dns}"
            )),
            identity: facts.uris.into_iter().next().unwrap_or_default().into(),
        }
    }
}

/// A header value; names that cannot be in one cannot be told.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// All but the characters that RFC 3986 leaves as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// PEM, percent-encoded for a header.
fn encoded_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let encoded = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    utf8_percent_encode(&text, RESERVED).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
