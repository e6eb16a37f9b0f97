use serde_json::{Value, json};

use super::*;
use crate::stats::{Registry, istio::Labels};

/// A sidecar that knows `reviews:9080` with two rules, and a database.
fn sidecar() -> Config {
    let to =
        |cluster: &str| json!({ "forward": { "clusters": [{ "name": cluster, "weight": 1 }] } });
    let any = json!({ "path": { "prefix": "/" } });
    let jason = json!({ "path": { "prefix": "/" },
        "headers": [{ "name": "end-user", "value": { "value": { "exact": "jason" } } }],
        "query": [{ "name": "beta", "value": "present" }] });
    let http = json!({ "http": { "statPrefix": "x", "routeConfig": "9080" } });
    let snapshot = json!({
        "version": 1,
        "listeners": { "virtualOutbound": {
            "name": "virtualOutbound", "address": "127.16.192.2:15001", "direction": "outbound", "accept": "httpProxy",
            "filterChains": [
                { "name": "9080", "destinationPort": 9080, "filter": http },
                { "name": "mongo", "destinationPort": 27017, "destinations": ["mongo"],
                  "filter": { "tcp": { "statPrefix": "x", "clusters": [{ "name": "mongo", "weight": 1 }] } } },
            ],
        } },
        "routes": { "9080": { "name": "9080", "virtualHosts": [
            { "name": "reviews:9080", "domains": ["reviews"], "routes": [
                { "match": { "path": { "prefix": "/admin" } }, "action": to("v1") },
                { "match": jason, "action": to("v2") },
                { "match": any, "action": to("v3") },
                { "match": any, "action": to("v3") },
            ] },
        ] } },
        "clusters": { "v2": { "name": "v2", "discovery": "eds", "connectTimeout": "1s" } },
        "endpoints": { "v2": { "clusterName": "v2", "endpoints": [
            { "address": "127.16.0.7:9080", "workload": { "name": "reviews-v2" } } ] } },
    });
    let mut config = Config::default();
    let snapshot = serde_json::from_value(snapshot).unwrap();
    let errors = config.apply(snapshot, &Registry::default(), &Labels::default());
    assert!(errors.is_empty(), "{errors:?}");
    config
}

/// Status and answer of the page.
fn ask(config: &Config, query: &str) -> (u16, Value) {
    let page = page(config, &Query::of(query));
    let (status, text) = page.parts();
    (
        status,
        serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    )
}

fn verdicts(answer: &Value) -> Vec<Value> {
    let rules = answer["outcome"]["http"]["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["verdict"].clone()).collect()
}

#[test]
fn each_rule_says_whether_it_matched_and_what_failed() {
    let config = sidecar();
    let url = "url=http://reviews:9080/%3Fbeta";
    let (status, answer) = ask(&config, url);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["filterChain"], "9080");
    assert_eq!(answer["outcome"]["http"]["virtualHost"], "reviews:9080");
    let failed = |condition: Value, seen: Value| json!({ "failed": { "condition": condition, "seen": seen } });
    let expected = [
        failed(json!("path"), json!("/")),
        failed(json!({ "header": 0 }), Value::Null),
        json!("matched"),
        json!("notReached"),
    ];
    assert_eq!(verdicts(&answer), expected);
    // It is named by the route, and there is none.
    assert_eq!(
        answer["clusters"],
        json!([{ "name": "v3", "cluster": null, "endpoints": [] }])
    );

    let (_, answer) = ask(
        &config,
        &format!("{url}&header=end-user:bob&header=end-user:eve"),
    );
    assert_eq!(
        verdicts(&answer)[1],
        failed(json!({ "header": 0 }), json!("bob, eve"))
    );

    let (_, answer) = ask(&config, &format!("{url}&header=End-User:%20jason"));
    assert_eq!(verdicts(&answer)[1], "matched");
    let endpoint = &answer["clusters"][0]["endpoints"][0];
    assert_eq!(endpoint["address"], "127.16.0.7:9080");
    assert_eq!(endpoint["workload"]["name"], "reviews-v2");
    assert_eq!(endpoint["ejected"], false);

    let (_, answer) = ask(&config, "url=http://reviews:9080/&header=end-user:jason");
    assert_eq!(
        verdicts(&answer)[1],
        failed(json!({ "query": 0 }), Value::Null)
    );
}

#[test]
fn unknown_hosts_and_ports_and_bytes_are_told_apart() {
    let config = sidecar();
    let (_, answer) = ask(&config, "url=http://ratings:9080/");
    assert_eq!(answer["outcome"]["http"]["virtualHost"], Value::Null);
    assert_eq!(verdicts(&answer), [] as [Value; 0]);
    let (_, answer) = ask(&config, "url=http://reviews:1/");
    assert_eq!(answer["outcome"], "closed");
    let (_, answer) = ask(&config, "url=http://mongo:27017/");
    assert_eq!(answer["outcome"]["tcp"][0]["name"], "mongo");
    // TLS on a port of HTTP.
    let (_, answer) = ask(&config, "url=https://reviews:9080/");
    assert_eq!(
        (&answer["outcome"], &answer["filterChain"]),
        (&json!("closed"), &json!("9080"))
    );
}

#[test]
fn what_cannot_be_asked_is_said() {
    let config = sidecar();
    for (query, named) in [
        ("", "?url="),
        ("url=reviews", "neither http:// nor https://"),
        ("url=http://reviews:99999/", "bad port"),
        ("url=http://reviews/&method=G%20T", "method"),
        ("url=http://reviews/&header=nothing", "NAME: VALUE"),
        ("url=http://localhost:8080/", "no rule of the mesh"),
    ] {
        let (status, answer) = ask(&config, query);
        assert_eq!(status, 400, "{query}");
        assert!(
            answer.as_str().unwrap().contains(named),
            "{query}: {answer}"
        );
    }
    let (status, answer) = ask(&Config::default(), "url=http://reviews/");
    assert_eq!(status, 400);
    assert!(
        answer
            .as_str()
            .unwrap()
            .contains("no listener takes port 80"),
        "{answer}"
    );
}
