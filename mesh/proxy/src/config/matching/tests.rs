use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;

fn matcher(matches: Value) -> RouteMatcher {
    let mut whole = json!({ "path": { "prefix": "/" } });
    for (key, value) in matches.as_object().unwrap() {
        whole[key] = value.clone();
    }
    RouteMatcher::compile(&serde_json::from_value(whole).unwrap()).unwrap()
}

/// `METHOD authority target name:value name:value`.
fn matches(matcher: &RouteMatcher, request: &str) -> bool {
    let mut words = request.split('|');
    let method = words.next().unwrap().parse().unwrap();
    let authority = words.next().unwrap();
    let target = words.next().unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for word in words {
        let (name, value) = word.split_once(':').unwrap();
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    matcher.matches(&RequestView {
        claims: None,
        method: &method,
        scheme: "http",
        authority,
        path,
        query,
        headers: &headers,
    })
}

#[test]
fn conditions_hold_as_envoy_has_them() {
    let exact = |text: &str| json!({ "value": { "exact": text } });
    let header =
        |name: &str, value: Value| json!({ "headers": [{ "name": name, "value": value }] });
    let without = |name: &str, value: Value| json!({ "headers": [{ "name": name, "value": value, "invert": true }] });
    let cookie = json!({ "value": { "regex": "^(.*?;)?(user=jason)(;.*)?$" } });
    let cases: Vec<(Value, &[(&str, bool)])> = vec![
        (
            json!({ "path": { "exact": "/a" } }),
            &[
                ("GET|web|/a", true),
                ("GET|web|/a?x=1", true),
                ("GET|web|/a/", false),
                ("GET|web|/ab", false),
            ],
        ),
        (
            json!({ "path": { "prefix": "/a" } }),
            &[
                ("GET|web|/a", true),
                ("GET|web|/abc", true),
                ("GET|web|/A", false),
            ],
        ),
        (
            json!({ "path": { "prefix": "/a" }, "ignorePathCase": true }),
            &[("GET|web|/ABC", true), ("GET|web|/", false)],
        ),
        (
            json!({ "path": { "exact": "/a" }, "ignorePathCase": true }),
            &[("GET|web|/A", true), ("GET|web|/AB", false)],
        ),
        (
            json!({ "path": { "regex": "/rx/[a-z]+" } }),
            &[
                ("GET|web|/rx/ab", true),
                ("GET|web|/rx/ab?q=1", true),
                ("GET|web|/rx/ab1", false),
                ("GET|web|/x/rx/ab", false),
            ],
        ),
        (
            header("end-user", exact("jason")),
            &[
                ("GET|web|/|end-user:jason", true),
                ("GET|web|/|end-user:Jason", false),
                ("GET|web|/", false),
                ("GET|web|/|end-user:a|end-user:jason", true),
            ],
        ),
        (
            header("x-v", json!("present")),
            &[("GET|web|/|x-v:", true), ("GET|web|/", false)],
        ),
        (
            header("x-v", json!({ "value": { "prefix": "ab" } })),
            &[("GET|web|/|x-v:abc", true), ("GET|web|/|x-v:a", false)],
        ),
        (
            without("x-v", exact("1")),
            &[
                ("GET|web|/", true),
                ("GET|web|/|x-v:1", false),
                ("GET|web|/|x-v:2", true),
            ],
        ),
        (
            without("x-v", json!("present")),
            &[("GET|web|/", true), ("GET|web|/|x-v:1", false)],
        ),
        (
            header("cookie", cookie),
            &[
                ("GET|web|/|cookie:user=jason", true),
                ("GET|web|/|cookie:a=b;user=jason", true),
                ("GET|web|/|cookie:a=b; user=jason; c=d", false),
            ],
        ),
        (
            header(":method", exact("POST")),
            &[("POST|web|/", true), ("GET|web|/", false)],
        ),
        (
            header(":authority", exact("web")),
            &[("GET|web|/", true), ("GET|web:80|/", false)],
        ),
        (
            json!({ "query": [{ "name": "k", "value": exact("a b") }] }),
            &[("GET|web|/q?k=a%20b", false), ("GET|web|/q?k=a+b", false)],
        ),
        (
            json!({ "query": [{ "name": "k", "value": exact("a%20b") }] }),
            &[("GET|web|/q?k=a%20b", true)],
        ),
        (
            json!({ "query": [{ "name": "k", "value": exact("2") }] }),
            &[("GET|web|/?k=2&k=1", true), ("GET|web|/?k=1&k=2", false)],
        ),
        (
            json!({ "query": [{ "name": "k", "value": "present" }] }),
            &[
                ("GET|web|/?k", true),
                ("GET|web|/?k=", true),
                ("GET|web|/?j=1", false),
                ("GET|web|/", false),
            ],
        ),
    ];
    for (conditions, requests) in cases {
        let matcher = matcher(conditions.clone());
        for (request, expected) in requests {
            assert_eq!(
                matches(&matcher, request),
                *expected,
                "{conditions} on {request}"
            );
        }
    }
}

#[test]
fn all_conditions_of_a_route_must_hold() {
    let both = matcher(json!({
        "path": { "prefix": "/a" },
        "headers": [{ "name": "x", "value": "present" }],
    }));
    assert!(matches(&both, "GET|web|/a|x:1"));
    assert!(!matches(&both, "GET|web|/a"));
    assert!(!matches(&both, "GET|web|/b|x:1"));
}

#[test]
fn a_bad_expression_is_named() {
    let error = whole("(").unwrap_err();
    assert!(error.to_string().contains("\"(\""), "{error}");
    assert!(whole("a{1000}{1000}").is_err(), "its size is bounded");
}
