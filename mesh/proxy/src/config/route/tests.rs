use http::{HeaderMap, Method};
use serde_json::json;

use super::*;

fn table(hosts: &[(&str, &[&str])]) -> RouteTable {
    let hosts: Vec<_> = hosts
        .iter()
        .map(|(name, domains)| {
            json!({ "name": name, "domains": domains, "routes": [{ "name": name,
                "match": { "path": { "prefix": "/" } },
                "action": { "directResponse": { "status": 200 } } }] })
        })
        .collect();
    let table = json!({ "name": "80", "virtualHosts": hosts });
    let table = serde_json::from_value(table).unwrap();
    RouteTable::compile(&table, None, &mut Clusters::default()).unwrap()
}

fn host(table: &RouteTable, authority: &str) -> Option<String> {
    let view = RequestView {
        claims: None,
        method: &Method::GET,
        scheme: "http",
        authority,
        path: "/",
        query: "",
        headers: &HeaderMap::new(),
    };
    table.route(&view).map(|route| route.name.to_string())
}

#[test]
fn the_most_specific_domain_wins() {
    let table = table(&[
        ("any", &["*"]),
        ("prefix", &["foo.*"]),
        ("short", &["*.com"]),
        ("long", &["*.bar.com"]),
        ("exact", &["foo.bar.com", "web", "127.0.0.1", "[::1]"]),
    ]);
    for (authority, expected) in [
        ("foo.bar.com", "exact"),
        ("x.bar.com", "long"),
        ("bar.com", "short"),
        ("foo.org", "prefix"),
        ("other", "any"),
        ("WEB:8080", "exact"),
        ("web.", "any"),
        ("127.0.0.1:80", "exact"),
        ("[::1]:80", "exact"),
        (".bar.com", "short"),
    ] {
        assert_eq!(
            host(&table, authority).as_deref(),
            Some(expected),
            "{authority}"
        );
    }
    assert_eq!(host(&self::table(&[("a", &["a"])]), "b"), None);
}

#[test]
fn virtual_hosts_that_stay_are_not_compiled_again() {
    let host = |name: &str| {
        std::sync::Arc::new(model::VirtualHost {
            name: name.into(),
            domains: vec![name.into()],
            ..Default::default()
        })
    };
    let (a, b) = (host("a"), host("b"));
    let mut model = model::RouteConfiguration {
        name: "80".into(),
        virtual_hosts: vec![a.clone(), b],
    };
    let mut clusters = Clusters::default();
    let before = RouteTable::compile(&model, None, &mut clusters).unwrap();
    model.virtual_hosts = vec![host("new"), a];
    let after = RouteTable::compile(&model, Some(&before), &mut clusters).unwrap();
    assert!(Arc::ptr_eq(&before.hosts[0].routes, &after.hosts[1].routes));
    assert_eq!((after.host("a"), after.host("b")), (Some(1), None));
}

#[test]
fn a_draw_falls_by_weight() {
    let forward =
        json!({ "clusters": [{ "name": "a", "weight": 1 }, { "name": "b", "weight": 3 }] });
    let forward = serde_json::from_value(forward).unwrap();
    let forward = Forward::compile(&forward, &mut Clusters::default()).unwrap();
    assert_eq!(forward.target_index(0), 0);
    assert_eq!(forward.target_index(u32::MAX / 4), 0);
    assert_eq!(forward.target_index(u32::MAX / 4 + 1), 1);
    assert_eq!(forward.target_index(u32::MAX), 1);
}

#[test]
fn substitutions_are_those_of_re2() {
    assert_eq!(replacement(r"/\2/\1"), "/${2}/${1}");
    assert_eq!(replacement(r"a\\b$1"), r"a\b$$1");
}
