use serde_json::{Value, json};

use super::*;

fn printed(it: Value) -> String {
    text(&serde_json::from_value(it).unwrap())
}

fn explained(outcome: Value, clusters: Value) -> Value {
    json!({ "listener": "virtualOutbound", "address": "127.16.192.2:15001", "filterChain": "0.0.0.0_9080",
        "guarded": false, "outcome": outcome, "clusters": clusters })
}

#[test]
fn a_person_reads_which_rule_matched_why_others_did_not_and_where_it_goes() {
    let config = names::config("virtual-service", "default", "reviews");
    let to = |clusters: Value| json!({ "forward": { "clusters": clusters } });
    let jason = json!({ "path": { "prefix": "/" },
        "headers": [{ "name": "end-user", "value": { "value": { "exact": "jason" } } }] });
    let mut acting = json!({ "match": { "path": { "prefix": "/" } }, "config": config,
        "fault": { "delay": { "fixed": "7s", "percent": 500_000 } },
        "requestHeaders": { "set": [["x", "y"]] },
        "action": to(json!([
            { "name": "outbound|9080|v1|reviews", "weight": 90 },
            { "name": "outbound|9080|v9|reviews", "weight": 10 },
        ])) });
    let forward = &mut acting["action"]["forward"];
    forward["timeout"] = "0.5s".into();
    forward["retry"] =
        json!({ "retryOn": ["5xx", "reset"], "numRetries": 2, "perTryTimeout": "0.2s" });
    forward["mirrors"] = json!([{ "cluster": "PassthroughCluster", "percent": 1_000_000 }]);
    let rules = json!([
        { "route": { "match": jason, "action": to(json!([])), "config": config },
          "verdict": { "failed": { "condition": { "header": 0 }, "seen": null } } },
        { "route": acting, "verdict": "matched" },
        { "route": { "match": { "path": { "exact": "/x" } }, "action": to(json!([])), "name": "third" },
          "verdict": "notReached" },
    ]);
    let http = json!({ "http": { "routeTable": "9080", "virtualHost": "reviews:9080",
        "domains": ["reviews", "reviews.default"], "rules": rules } });
    let endpoint = |address: &str, ejected: bool| {
        json!({ "address": address, "ejected": ejected,
        "workload": { "name": "reviews-v1" } })
    };
    let clusters = json!([
        { "name": "outbound|9080|v1|reviews", "endpoints": [endpoint("127.16.0.7:9080", false), endpoint("127.16.0.8:9080", true)],
          "cluster": { "name": "outbound|9080|v1|reviews", "discovery": "eds", "connectTimeout": "1s",
            "config": names::config("destination-rule", "default", "reviews") } },
        { "name": "outbound|9080|v9|reviews", "cluster": null, "endpoints": [] },
        { "name": "PassthroughCluster", "cluster": null, "endpoints": [] },
    ]);
    let expected = r#"Listener          virtualOutbound on 127.16.192.2:15001
Filter chain      0.0.0.0_9080
Route table       9080
Virtual host      reviews:9080 (reviews, reviews.default)

Rules
  1  no           path /*, header end-user is "jason"   [VirtualService reviews.default]
       header end-user is "jason": the request has none
  2  matches      path /*   [VirtualService reviews.default]
  3  not reached  path /x   [third]

Fault             7 s late for 50% of requests
Timeout           0.5 s (504 then)
Retries           2 on 5xx,reset, 0.2 s each
Goes to
  90%    outbound|9080|v1|reviews
         LEAST_REQUEST, subset v1, DestinationRule reviews.default
         127.16.0.7:9080       reviews-v1          healthy
         127.16.0.8:9080       reviews-v1          ejected by outlier detection
  10%    outbound|9080|v9|reviews
         there is no such cluster: 503 (NC). Is the subset missing in the DestinationRule?
Mirror            100% also to PassthroughCluster
         no service of the mesh: it goes to where the client wanted, unchanged
Request headers   set x: y
"#;
    assert_eq!(printed(explained(http, clusters)), expected);
}

#[test]
fn dead_ends_are_named() {
    let http = |host: Value, rules: Value| {
        let http = json!({ "http": { "routeTable": "9080", "virtualHost": host, "domains": [], "rules": rules } });
        printed(explained(http, json!([])))
    };
    assert!(http(Value::Null, json!([])).contains("none has this host name: 404 (NR)"));
    let rule = json!({ "route": { "match": { "path": { "exact": "/a" } }, "action": { "directResponse": { "status": 200 } } },
        "verdict": { "failed": { "condition": "path", "seen": "/b" } } });
    let text = http("web".into(), json!([rule]));
    assert!(
        text.contains("path /a: it is \"/b\"") && text.contains("none matches: 404 (NR)"),
        "{text}"
    );

    let closed = printed(explained("closed".into(), json!([])));
    assert!(closed.contains("TLS does not end here"), "{closed}");
    let mut nowhere = explained("closed".into(), json!([]));
    nowhere["filterChain"] = Value::Null;
    assert!(printed(nowhere).contains("the connection is closed (NR)"));

    let tcp = json!({ "tcp": [{ "name": "BlackHoleCluster", "weight": 1 }] });
    let tcp = printed(explained(tcp, json!([])));
    assert!(
        tcp.contains("100%   BlackHoleCluster") && tcp.contains("REGISTRY_ONLY"),
        "{tcp}"
    );
}

#[test]
fn answers_without_an_upstream() {
    let acts = |action: Value| {
        let rule = json!({ "route": { "match": { "path": { "prefix": "/" } }, "action": action }, "verdict": "matched" });
        let http = json!({ "http": { "routeTable": "80", "virtualHost": "web", "domains": ["web"], "rules": [rule] } });
        printed(explained(http, json!([])))
    };
    let direct = acts(json!({ "directResponse": { "status": 418, "body": "tea" } }));
    assert!(
        direct.contains("Answers itself    418 with \"tea\""),
        "{direct}"
    );
    let redirect = acts(
        json!({ "redirect": { "status": 301, "scheme": "https", "path": { "full": "/new" } } }),
    );
    assert!(
        redirect.contains("Redirect          301, scheme https, path /new"),
        "{redirect}"
    );
}
