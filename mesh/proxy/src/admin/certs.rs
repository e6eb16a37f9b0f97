//! `/certs`: the certificates in use.

use std::time::SystemTime;

use mesh_config::tls;
use serde_json::{Value, json};

use crate::tls::{Facts, Secrets, certificates};

/// `{"certificates": [{"ca_cert": [...], "cert_chain": [...]}]}`, one entry per certificate with the
/// authorities of the mesh beside the workload's own.
pub(super) fn page(secrets: &Secrets) -> Value {
    let all = secrets.all();
    let details = |pem: &str| -> Vec<Value> {
        certificates(pem)
            .iter()
            .filter_map(Facts::of)
            .map(|facts| describe(&facts))
            .collect()
    };
    let named = |name: &str| all.iter().find(|secret| secret.name == name);
    let entries: Vec<Value> = all
        .iter()
        .filter(|secret| !secret.certificate_chain.is_empty())
        .map(|secret| {
            let trusted = match secret.name.as_str() {
                tls::WORKLOAD => named(tls::MESH_ROOT),
                name => named(&format!("{name}-cacert")),
            };
            let trusted = trusted.map_or("", |trusted| &trusted.trusted_ca);
            json!({ "ca_cert": details(trusted), "cert_chain": details(&secret.certificate_chain) })
        })
        .collect();
    json!({ "certificates": entries })
}

fn describe(facts: &Facts) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    let time = |seconds: i64| {
        jiff::Timestamp::from_second(seconds).map_or(String::new(), |time| time.to_string())
    };
    let uris = facts.uris.iter().map(|uri| json!({ "uri": uri }));
    let names = facts.dns.iter().map(|name| json!({ "dns": name }));
    json!({
        "path": "<inline>",
        "serial_number": facts.serial,
        "subject_alt_names": uris.chain(names).collect::<Vec<_>>(),
        "days_until_expiration": (facts.not_after - now).max(0) / 86_400,
        "valid_from": time(facts.not_before),
        "expiration_time": time(facts.not_after),
    })
}
