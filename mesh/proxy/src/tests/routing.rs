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
