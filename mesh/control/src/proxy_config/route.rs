//! Routes.

use serde_json::Value;

use super::{
    Listing,
    dump::{Section, resource_behind, text},
};

#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only the table of this name: a port, or as a listener names it
    #[arg(long)]
    name: Option<String>,
}

/// Domains of a virtual host that are shown.
const SHOWN_DOMAINS: usize = 2;

pub(super) fn list(dump: &Value, filter: &Filter) -> Option<Listing> {
    let tables: Vec<&Value> = Section::Routes
        .resources(dump)?
        .into_iter()
        .filter(|table| {
            filter
                .name
                .as_ref()
                .is_none_or(|name| *name == text(table, "name"))
        })
        .collect();
    let mut rows = Vec::new();
    for table in &tables {
        for host in members(table, "virtual_hosts") {
            let row = |matches: String, behind: String| {
                [
                    text(table, "name").to_owned(),
                    text(host, "name").to_owned(),
                    domains(host),
                    matches,
                    behind,
                ]
            };
            let routes = members(host, "routes");
            if routes.is_empty() {
                // Whatever is asked.
                rows.push(row("/*".into(), "404".into()));
            }
            let of_route = |route: &Value| row(path(&route["match"]), resource_behind(route));
            rows.extend(routes.iter().map(of_route));
        }
    }
    let heads = ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"];
    let messages = tables.into_iter().cloned().collect();
    Some(Listing::of(heads, rows, messages))
}

fn members<'a>(message: &'a Value, field: &str) -> &'a [Value] {
    message[field].as_array().map_or(&[], Vec::as_slice)
}

/// The first of them, and how many more there are. Longer names of what has a shorter one are left out.
fn domains(host: &Value) -> String {
    let all: Vec<&str> = members(host, "domains")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let is_longer = |name: &str| {
        let mut shorter = [".", ".svc.cluster.local", ".svc"].into_iter();
        shorter.any(|end| {
            name.strip_suffix(end)
                .is_some_and(|rest| all.contains(&rest))
        })
    };
    let short: Vec<&str> = all
        .iter()
        .copied()
        .filter(|name| !is_longer(name))
        .collect();
    let shown = short[..short.len().min(SHOWN_DOMAINS)].join(", ");
    match short.len().saturating_sub(SHOWN_DOMAINS) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// The condition on the path; those on headers are not shown, as istioctl does not.
fn path(condition: &Value) -> String {
    let field = |name: &str| condition[name].as_str();
    if let Some(prefix) = field("prefix") {
        return format!("{prefix}*");
    }
    if let Some(path) = field("path") {
        return path.to_owned();
    }
    let regex = condition["safe_regex"]["regex"].as_str();
    regex.map_or_else(String::new, |regex| format!("regex {regex}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::columns, *};

    fn dump() -> Value {
        let behind = |name: &str| {
            let path = mesh_config::names::config("virtual-service", "default", name);
            json!({"filter_metadata": {"istio": {"config": path}}})
        };
        json!({ "configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs": [
                { "route_config": { "name": "9080", "virtual_hosts": [
                    { "name": "reviews:9080", "domains": ["a.b.svc.cluster.local", "a.b.svc.cluster.local.", "a", "a.b.svc", "a.b", "127.16.128.2"], "routes": [
                        { "match": { "prefix": "/api", "headers": [{}] }, "metadata": behind("reviews") },
                        { "match": { "safe_regex": { "regex": "/v[12]" } }, "metadata": behind("reviews") },
                        { "match": { "path": "/exact" } },
                    ] },
                    { "name": "empty:9080", "domains": ["empty"], "routes": [] },
                ] } },
                { "route_config": { "name": "80", "virtual_hosts": [] } },
            ],
        }] })
    }

    #[test]
    fn each_route_is_a_line() {
        let listing = list(&dump(), &Filter::default()).unwrap();
        let expected = "\
NAME     VHOST NAME       DOMAINS                MATCH            VIRTUAL SERVICE
9080     reviews:9080     a, a.b + 1 more...     /api*            reviews.default
9080     reviews:9080     a, a.b + 1 more...     regex /v[12]     reviews.default
9080     reviews:9080     a, a.b + 1 more...     /exact
9080     empty:9080       empty                  /*               404
";
        assert_eq!(columns(&listing.table), expected);
    }

    #[test]
    fn one_table_can_be_asked_for() {
        let name = Some("80".to_owned());
        let listing = list(&dump(), &Filter { name }).unwrap();
        assert_eq!(listing.messages[0]["name"], "80");
        assert_eq!(listing.messages.as_array().unwrap().len(), 1);
    }
}
