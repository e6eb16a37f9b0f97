//! Routes, splits, rewrites, redirects, headers.

use http::Request;
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn an_absent_cluster_an_empty_one_and_no_route_are_told_apart() {
    let route = |path: &str, cluster: &str| {
        let mut route = forward(cluster, json!({}));
        route["match"]["path"] = json!({ "prefix": path });
        route
    };
    let routes = json!([
        route("/absent", "outbound|80|v9|web"),
        route("/empty", "empty")
    ]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("empty", &[])]));

    let absent = mesh.get("/absent").await;
    assert_eq!((absent.status, absent.body.as_str()), (503, ""));
    assert_eq!(absent.header("content-length"), Some("0"));
    assert_eq!(absent.header("content-type"), None);
    assert_eq!(mesh.flags(), "NC cluster_not_found");

    let empty = mesh.get("/empty").await;
    assert_eq!(
        (empty.status, empty.body.as_str()),
        (503, "no healthy upstream")
    );
    assert_eq!(empty.header("content-type"), Some("text/plain"));
    assert_eq!(mesh.flags(), "UH no_healthy_upstream");

    assert_eq!(mesh.get("/other").await.status, 404);
    assert_eq!(mesh.flags(), "NR route_not_found");
    let stranger = mesh
        .send(Request::get("/empty").header("host", "stranger"))
        .await;
    assert_eq!((stranger.status, stranger.body.as_str()), (404, ""));
    assert_eq!(stranger.header("server"), Some("envoy"));
}

#[tokio::test]
async fn jason_goes_to_v2_and_others_to_v1() {
    let (v1, v2) = (App::start("v1").await, App::start("v2").await);
    let mut jason = forward("v2", json!({}));
    jason["match"]["headers"] =
        json!([{ "name": "end-user", "value": { "value": { "exact": "jason" } } }]);
    let routes = json!([jason, forward("v1", json!({}))]);
    let clusters: &[(&str, &[_])] = &[("v1", &[v1.address]), ("v2", &[v2.address])];
    let mesh = Mesh::start(snapshot("outbound", routes, clusters));
    assert_eq!(mesh.get("/").await.body, "v1");
    for (user, version) in [("jason", "v2"), ("Jason", "v1")] {
        let request = Request::get("/")
            .header("host", "WEB:8080")
            .header("end-user", user);
        assert_eq!(mesh.send(request).await.body, version);
    }
}

#[tokio::test]
async fn a_split_keeps_to_its_weights() {
    let (v1, v2) = (App::start("v1").await, App::start("v2").await);
    let split = json!([{ "name": "v1", "weight": 90 }, { "name": "v2", "weight": 10 }]);
    let routes = json!([forward("v1", json!({ "clusters": split }))]);
    let clusters: &[(&str, &[_])] = &[("v1", &[v1.address]), ("v2", &[v2.address])];
    let mesh = Mesh::start(snapshot("outbound", routes, clusters));
    for _ in 0..300 {
        assert_eq!(mesh.get("/").await.status, 200);
    }
    let share = v2.seen().len();
    assert!((12..=50).contains(&share), "{share} of 300");
}

#[tokio::test]
async fn the_application_gets_the_normalised_path() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    for path in ["/a/../b?q=1", "/%61", "//x", "/a%2Fb"] {
        mesh.get(path).await;
    }
    let paths: Vec<_> = app.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/b?q=1", "/a", "//x", "/a%2Fb"]);
}

#[tokio::test]
async fn rewrites_say_what_they_changed() {
    let app = App::start("web").await;
    let rewritten = |path: &str, rewrite: serde_json::Value| {
        let mut route = forward("web", json!({ "rewrite": rewrite }));
        route["match"]["path"] = json!({ "prefix": path });
        route
    };
    let routes = json!([
        rewritten("/api/", json!({ "prefix": "/" })),
        rewritten("/double", json!({ "prefix": "/" })),
        rewritten(
            "/v",
            json!({ "regex": { "pattern": "^/v([0-9]+)/(.*)$", "substitution": "/\\2/\\1" } })
        ),
        rewritten("/host", json!({ "authority": "other" })),
    ]);
    let mesh = Mesh::start(snapshot("outbound", routes, &[("web", &[app.address])]));
    for path in ["/api/x?y=1", "/double/x", "/v2/a?b", "/host"] {
        assert_eq!(mesh.get(path).await.status, 200);
    }
    let seen = app.seen();
    let paths: Vec<_> = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert_eq!(paths, ["/x?y=1", "//x", "/a/2?b", "/host"]);
    assert_eq!(seen[0].header("x-envoy-original-path"), Some("/api/x?y=1"));
    assert!(mesh.line().contains("\"GET /api/x?y=1 HTTP/1.1\""));
    assert_eq!(seen[3].header("host"), Some("other"));
    assert_eq!(seen[3].header("x-envoy-original-host"), Some("web"));
}

#[tokio::test]
async fn redirects_and_direct_responses_need_no_upstream() {
    let on = |path: &str, action: serde_json::Value| json!({ "match": { "path": { "exact": path } }, "action": action });
    let routes = json!([
        on(
            "/old",
            json!({ "redirect": { "status": 301, "path": { "full": "/new" }, "authority": "n.test" } })
        ),
        on(
            "/x",
            json!({ "redirect": { "status": 308, "scheme": "https" } })
        ),
        on(
            "/tea",
            json!({ "directResponse": { "status": 418, "body": "hi" } })
        ),
    ]);
    let mesh = Mesh::start(snapshot("gateway", routes, &[]));
    let old = mesh.get("/old?q=1").await;
    assert_eq!((old.status, old.body.as_str()), (301, ""));
    assert_eq!(old.header("location"), Some("http://n.test/new?q=1"));
    let secure = mesh.get("/x").await;
    assert_eq!(
        (secure.status, secure.header("location")),
        (308, Some("https://web/x"))
    );
    let tea = mesh.get("/tea").await;
    assert_eq!((tea.status, tea.body.as_str()), (418, "hi"));
    assert_eq!(tea.header("content-type"), Some("text/plain"));
    assert_eq!(tea.header("x-envoy-upstream-service-time"), None);
    assert_eq!(tea.header("server"), Some("istio-envoy"));
}

#[tokio::test]
async fn header_operations_apply_both_ways() {
    let app = App::start("web").await;
    let mut route = forward("web", json!({}));
    route["requestHeaders"] = json!({ "set": [["x-a", "1"], ["x-id", "%REQ(x-b)%"]], "add": [["x-b", "2"]], "remove": ["x-c"] });
    route["responseHeaders"] = json!({ "set": [["x-r", "%UPSTREAM_HOST%"], ["x-p", "100%%"]] });
    let mesh = Mesh::start(snapshot(
        "outbound",
        json!([route]),
        &[("web", &[app.address])],
    ));
    let request = Request::get("/").header("host", "web");
    let request = request
        .header("x-a", "9")
        .header("x-b", "9")
        .header("x-c", "9");
    let answer = mesh.send(request).await;
    assert_eq!(answer.header("x-r"), Some(app.address.to_string().as_str()));
    assert_eq!(answer.header("x-p"), Some("100%"));
    let seen = &app.seen()[0];
    assert_eq!(seen.header("x-a"), Some("1"));
    assert_eq!(seen.header("x-id"), Some("9"));
    let all: Vec<_> = seen.headers.get_all("x-b").iter().collect();
    assert_eq!(all, ["9", "2"]);
    assert_eq!(seen.header("x-c"), None);
}

#[tokio::test]
async fn endpoints_known_by_name_are_resolved() {
    let app = App::start("web").await;
    let routes = json!([forward("web", json!({}))]);
    for discovery in ["strictDns", "logicalDns"] {
        let mut snapshot = snapshot("outbound", routes.clone(), &[]);
        let port = std::net::SocketAddr::from(([0, 0, 0, 0], app.address.port()));
        add_cluster(
            &mut snapshot,
            "web",
            &[port],
            json!({ "discovery": discovery }),
        );
        let mut assignment = (*snapshot.endpoints["web"]).clone();
        assignment.endpoints[0].hostname = Some("localhost".into());
        snapshot.endpoints.insert("web".into(), assignment.into());
        let mesh = Mesh::start(snapshot);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // Until the name is resolved there is nobody to ask.
        while mesh.get("/").await.status == 503 {
            assert!(std::time::Instant::now() < deadline);
        }
        assert_eq!(mesh.get("/").await.body, "web");
    }
}

#[tokio::test]
async fn copies_go_to_the_mirror_and_its_failures_do_not_show() {
    let (web, mirror) = (App::start("web").await, App::start("mirror").await);
    let mirrors = json!([
        { "cluster": "mirror", "percent": 1000000 },
        { "cluster": "down", "percent": 1000000 },
        { "cluster": "absent", "percent": 1000000 },
        { "cluster": "web", "percent": 0 },
    ]);
    let routes = json!([forward("web", json!({ "mirrors": mirrors }))]);
    let down = refusing().await;
    let clusters: &[(&str, &[_])] = &[
        ("web", &[web.address]),
        ("mirror", &[mirror.address]),
        ("down", &[down]),
    ];
    let mesh = Mesh::start(snapshot("outbound", routes, clusters));
    let body = http_body_util::Full::from("secret");
    let request = Request::post("/path?q=1")
        .header("host", "web")
        .body(body)
        .unwrap();
    let answer = send(mesh.address("http"), request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "web"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while mirror.seen().is_empty() {
        assert!(std::time::Instant::now() < deadline, "no copy");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (original, copy) = (&web.seen()[0], &mirror.seen()[0]);
    assert_eq!(
        (copy.path.as_str(), copy.body.as_str()),
        ("/path?q=1", "secret")
    );
    assert_eq!(copy.header("host"), Some("web"));
    assert_eq!(copy.header("x-envoy-internal"), Some("true"));
    assert_eq!(copy.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(copy.header("x-request-id"), original.header("x-request-id"));
    assert_eq!(web.seen().len(), 1);
    assert_eq!(mesh.line().matches("\"POST /path?q=1").count(), 1);
}

fn with_cors(cluster: &str, cors: serde_json::Value) -> serde_json::Value {
    let mut route = forward(cluster, json!({}));
    route["cors"] = cors;
    route
}

fn preflight(origin: &str) -> http::request::Builder {
    let request = Request::options("/").header("host", "web");
    request
        .header("origin", origin)
        .header("access-control-request-method", "GET")
}

#[tokio::test]
async fn preflight_requests_of_allowed_origins_are_answered() {
    let app = App::start("web").await;
    let cors = json!({
        "allowOrigins": [{ "exact": "http://a.test" }, { "regex": "https://.*[.]b[.]test" }],
        "allowMethods": "GET,POST", "allowHeaders": "x-a", "exposeHeaders": "x-b", "maxAge": "86400",
        "allowCredentials": true,
    });
    let routes = json!([with_cors("web", cors)]);
    let mesh = Mesh::start(snapshot("gateway", routes, &[("web", &[app.address])]));
    let answer = mesh.send(preflight("http://a.test")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    for (name, value) in [
        ("allow-origin", "http://a.test"),
        ("allow-methods", "GET,POST"),
        ("allow-headers", "x-a"),
        ("expose-headers", "x-b"),
        ("max-age", "86400"),
        ("allow-credentials", "true"),
    ] {
        assert_eq!(
            answer.header(&format!("access-control-{name}")),
            Some(value)
        );
    }
    assert_eq!(mesh.flags(), "- cors_response");
    assert!(app.seen().is_empty());

    // Of other origins they go on.
    let stranger = mesh.send(preflight("http://c.test")).await;
    assert_eq!((stranger.status, stranger.body.as_str()), (200, "web"));
    assert_eq!(stranger.header("access-control-allow-origin"), None);

    let request = Request::get("/").header("host", "web");
    let answer = mesh
        .send(request.header("origin", "https://x.b.test"))
        .await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://x.b.test")
    );
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-b"));
    assert_eq!(answer.header("access-control-allow-methods"), None);
}

#[tokio::test]
async fn unmatched_preflight_requests_can_be_answered_without_allowing_anything() {
    let app = App::start("web").await;
    let cors = json!({ "allowOrigins": [{ "exact": "http://a.test" }], "allowMethods": "GET",
        "answerUnmatchedPreflights": true });
    let routes = json!([with_cors("web", cors)]);
    let mesh = Mesh::start(snapshot("gateway", routes, &[("web", &[app.address])]));
    let answer = mesh.send(preflight("http://b.test")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET"));
    assert!(app.seen().is_empty());
}

#[tokio::test]
async fn header_operations_apply_to_the_proxys_own_answers() {
    let set = json!({ "set": [["x-who", "%RESPONSE_CODE% %UPSTREAM_HOST%"]] });
    let with = |mut route: serde_json::Value, path: &str| {
        route["match"]["path"] = json!({ "exact": path });
        route["responseHeaders"] = set.clone();
        route
    };
    let abort = json!({ "abort": { "status": { "http": 418 }, "percent": 1000000 } });
    let bytes = json!({ "match": {}, "action": { "directResponse": { "status": 200, "body": "aGk=", "base64": true } } });
    let routes = json!([
        with(forward("down", json!({})), "/down"),
        with(with_fault(forward("down", json!({})), abort), "/fault"),
        with(bytes, "/direct"),
    ]);
    let down = refusing().await;
    let mesh = Mesh::start(snapshot("outbound", routes, &[("down", &[down])]));
    for (path, status, who) in [
        ("/down", 503, format!("503 {down}")),
        ("/fault", 418, "418 -".into()),
        ("/direct", 200, "200 -".into()),
    ] {
        let answer = mesh.get(path).await;
        assert_eq!(
            (answer.status, answer.header("x-who")),
            (status, Some(who.as_str()))
        );
    }
    assert_eq!(mesh.get("/direct").await.body, "hi");
}
