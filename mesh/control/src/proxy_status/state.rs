//! Of one proxy: what was sent, what is in effect, and what that makes of each type of resource.

use serde::Serialize;
use serde_json::Value;

use crate::push::TYPES;

/// A connected proxy.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// POD.NAMESPACE.
    pub(super) name: String,
    cluster: String,
    cds: &'static str,
    lds: &'static str,
    eds: &'static str,
    rds: &'static str,
    istiod: String,
    version: String,
    /// What the proxy has refused, and why; or why it cannot be asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

/// Pod and namespace of an entry of `/debug/syncz`.
pub(super) fn name(proxy: &Value) -> (&str, &str) {
    let name = proxy["proxy"].as_str().unwrap_or_default();
    name.rsplit_once('.').unwrap_or((name, ""))
}

impl Status {
    /// From an entry of `/debug/syncz` and what the proxy says of itself.
    pub(super) fn of(istiod: &str, sent: &Value, own: Result<Value, String>) -> Self {
        let (metadata, version, refused, unasked) = match &own {
            Err(why) => (&Value::Null, None, Vec::new(), Some(why)),
            Ok(dump) => (metadata(dump), in_effect(dump), refused(dump), None),
        };
        let state = |of: &str| {
            let sent = sent["versions_sent"][of].as_u64();
            match (sent, version) {
                (None, _) => "NOT SENT",
                (Some(_), None) => "UNKNOWN",
                (Some(_), Some(_)) if refused.iter().any(|it| it.of == of) => "ERROR",
                (Some(sent), Some(own)) if own < sent => "STALE",
                (Some(_), Some(_)) => "SYNCED",
            }
        };
        let [cds, eds, lds, rds] = TYPES.map(state);
        let text = |field: &str| metadata[field].as_str().unwrap_or("-").to_owned();
        let problems = refused
            .iter()
            .map(|it| format!("{} {} refused: {}", it.of, it.name, it.details));
        Self {
            name: sent["proxy"].as_str().unwrap_or_default().to_owned(),
            cluster: text("CLUSTER_ID"),
            cds,
            lds,
            eds,
            rds,
            istiod: istiod.to_owned(),
            version: text("ISTIO_VERSION"),
            problems: problems.chain(unasked.cloned()).collect(),
        }
    }
}

fn configs(dump: &Value) -> impl Iterator<Item = &Value> {
    dump["configs"].as_array().into_iter().flatten()
}

fn metadata(dump: &Value) -> &Value {
    let mut found = configs(dump).map(|config| &config["bootstrap"]["node"]["metadata"]);
    found
        .find(|metadata| metadata.is_object())
        .unwrap_or(&Value::Null)
}

/// The version that the proxy has, of everything.
fn in_effect(dump: &Value) -> Option<u64> {
    let mut versions = configs(dump).filter_map(|config| config["version_info"].as_str());
    versions.next()?.parse().ok()
}

/// A resource that is not in effect.
pub(super) struct Refused<'a> {
    /// Type of the resource.
    pub(super) of: &'static str,
    pub(super) name: &'a str,
    pub(super) details: &'a str,
}

/// What the proxy has refused.
pub(super) fn refused(dump: &Value) -> Vec<Refused<'_>> {
    let mut all = Vec::new();
    for config in configs(dump) {
        for (of, list, name) in [
            ("LDS", "dynamic_listeners", "/name"),
            ("RDS", "dynamic_route_configs", "/route_config/name"),
        ] {
            let members = config[list].as_array().into_iter().flatten();
            all.extend(members.filter_map(|member| {
                Some(Refused {
                    of,
                    name: member.pointer(name)?.as_str()?,
                    details: member.pointer("/error_state/details")?.as_str()?,
                })
            }));
        }
    }
    all
}

/// The heads and a line for each proxy.
pub(super) fn table(all: &[Status]) -> Vec<Vec<String>> {
    let heads = [
        "NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ISTIOD", "VERSION",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|it| {
        [
            &it.name,
            &it.cluster,
            it.cds,
            it.lds,
            it.eds,
            it.rds,
            &it.istiod,
            &it.version,
        ]
        .map(str::to_owned)
        .to_vec()
    }));
    rows
}

/// What is behind each `ERROR` and `UNKNOWN`.
pub(super) fn problems(all: &[Status]) -> String {
    let of_one = |it: &Status| {
        let lines = it
            .problems
            .iter()
            .map(|problem| format!("{}: {problem}\n", it.name));
        lines.collect::<String>()
    };
    let lines: String = all.iter().map(of_one).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent() -> Value {
        json!({ "proxy": "web.v1.shop", "versions_sent": { "CDS": 4, "EDS": 7, "LDS": 7, "RDS": null } })
    }

    fn own(version: &str, error: Value) -> Value {
        json!({ "configs": [
            { "bootstrap": { "node": { "metadata": { "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.0" } } } },
            { "version_info": version },
            { "dynamic_listeners": [{ "name": "http", "error_state": error }] },
        ] })
    }

    fn states(own: Result<Value, String>) -> Status {
        Status::of("istiod-0", &sent(), own)
    }

    #[test]
    fn synced_stale_not_sent_refused_and_unknown() {
        let row = |it: &Status| (it.cds, it.lds, it.eds, it.rds);
        assert_eq!(name(&sent()), ("web.v1", "shop"));
        let synced = states(Ok(own("7", Value::Null)));
        assert_eq!(row(&synced), ("SYNCED", "SYNCED", "SYNCED", "NOT SENT"));
        let behind = states(Ok(own("6", Value::Null)));
        assert_eq!(row(&behind), ("SYNCED", "STALE", "STALE", "NOT SENT"));
        let bad = states(Ok(own("7", json!({ "details": "cannot bind" }))));
        assert_eq!(row(&bad), ("SYNCED", "ERROR", "SYNCED", "NOT SENT"));
        assert_eq!(
            problems(&[bad]),
            "\nweb.v1.shop: LDS http refused: cannot bind\n"
        );
        let silent = states(Err("no answer".into()));
        assert_eq!(row(&silent), ("UNKNOWN", "UNKNOWN", "UNKNOWN", "NOT SENT"));
        assert_eq!(problems(&[synced, behind]), "");
    }

    #[test]
    fn the_columns_are_istioctls() {
        let table = table(&[states(Ok(own("7", Value::Null)))]);
        assert_eq!(
            table[0].join(" "),
            "NAME CLUSTER CDS LDS EDS RDS ISTIOD VERSION"
        );
        let expected = [
            "web.v1.shop",
            "Kubernetes",
            "SYNCED",
            "SYNCED",
            "SYNCED",
            "NOT SENT",
            "istiod-0",
            "1.0",
        ];
        assert_eq!(table[1], expected);
    }
}
