//! Certificates and authorities.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::{Listing, Section, section};

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {}

pub(super) fn list(dump: &Value, _: &Filter) -> Option<Listing> {
    let secrets = section(dump, Section::Secrets)?;
    Some(Listing {
        table: table(secrets, Timestamp::now()),
        messages: secrets.clone(),
    })
}

/// One line per certificate that is shown or trusted; certificates before authorities.
fn table(section: &Value, now: Timestamp) -> Vec<Vec<String>> {
    let heads = [
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ];
    let (mut chains, mut authorities) = (Vec::new(), Vec::new());
    for (list, status) in [
        ("dynamic_active_secrets", "ACTIVE"),
        ("dynamic_warming_secrets", "WARMING"),
    ] {
        for entry in section[list].as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default();
            let row = |kind: &str, pem: &Value| row(name, kind, status, pem, now);
            let secret = &entry["secret"];
            chains.extend(row(
                "Cert Chain",
                &secret["tls_certificate"]["certificate_chain"],
            ));
            let trusted = &secret["validation_context"]["trusted_ca"];
            authorities.extend(row("CA", trusted));
        }
    }
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(chains);
    rows.extend(authorities);
    rows
}

/// Of the first certificate; `None`: there is none of this type.
fn row(name: &str, kind: &str, status: &str, pem: &Value, now: Timestamp) -> Option<Vec<String>> {
    let bytes = match (&pem["inline_bytes"], &pem["inline_string"]) {
        (Value::String(text), _) => STANDARD.decode(text).ok()?,
        (_, Value::String(text)) => text.clone().into_bytes(),
        _ => return None,
    };
    let mut cells = [name, kind, status].map(str::to_owned).to_vec();
    let first = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok);
    let parsed = first.as_ref().and_then(|pem| pem.parse_x509().ok());
    match parsed {
        None => cells.extend(["false", "", "", ""].map(str::to_owned)),
        Some(certificate) => {
            let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
            let after = at(certificate.validity().not_after.timestamp());
            let before = at(certificate.validity().not_before.timestamp());
            let serial = certificate.raw_serial().iter();
            let serial: String = serial.map(|byte| format!("{byte:02x}")).collect();
            cells.push((before <= now && now < after).to_string());
            cells.push(serial);
            cells.push(after.to_string());
            cells.push(before.to_string());
        }
    }
    Some(cells)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SerialNumber};
    use serde_json::json;

    use super::{super::columns, *};

    fn certificate() -> String {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
        params.not_before = time::OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(2_000).unwrap();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn each_secret_is_a_line() {
        let pem = json!({ "inline_bytes": STANDARD.encode(certificate()) });
        let section = json!({ "dynamic_active_secrets": [
            { "name": "ROOTCA", "secret": { "validation_context": { "trusted_ca": pem } } },
            { "name": "default", "secret": { "tls_certificate": { "certificate_chain": pem } } },
            { "name": "broken", "secret": { "tls_certificate": { "certificate_chain": { "inline_bytes": "bm90aGluZw==" } } } },
        ] });
        let expected = "\
RESOURCE NAME     TYPE           STATUS     VALID CERT     SERIAL NUMBER     NOT AFTER                NOT BEFORE
default           Cert Chain     ACTIVE     true           0abc              1970-01-01T00:33:20Z     1970-01-01T00:16:40Z
broken            Cert Chain     ACTIVE     false
ROOTCA            CA             ACTIVE     true           0abc              1970-01-01T00:33:20Z     1970-01-01T00:16:40Z
";
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(columns(&table(&section, at(1_500))), expected);
        assert!(columns(&table(&section, at(2_000))).contains("false          0abc"));
    }
}
