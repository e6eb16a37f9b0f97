//! Changes of the configuration while traffic runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::harness::*;

#[tokio::test]
async fn a_thousand_changes_fail_no_request() {
    let (v1, v2) = (App::start("v1").await, App::start("v2").await);
    let version = |number: u64| {
        // Each one moves the split, the timeout and the endpoints of one of the clusters.
        let weight = 1 + number % 9;
        let split =
            json!([{ "name": "v1", "weight": weight }, { "name": "v2", "weight": 10 - weight }]);
        let timeout = format!("{}s", 5 + number % 5);
        let routes = json!([forward(
            "v1",
            json!({ "clusters": split, "timeout": timeout })
        )]);
        let second: &[_] = match number % 3 {
            0 => &[v1.address, v2.address],
            _ => &[v2.address],
        };
        let mut next = snapshot("outbound", routes, &[("v1", &[v1.address]), ("v2", second)]);
        next.version = number;
        next
    };
    let mut mesh = Mesh::start(version(0));
    let to = mesh.address("http");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while !stop.load(Relaxed) {
                    let request = Request::get("/").header("host", "web");
                    let answer = send(to, request.body(Full::default()).unwrap()).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for number in 1..=1000 {
        assert_eq!(mesh.proxy.apply(version(number)), Vec::<String>::new());
        // The application and the clients are on this thread; the proxy's worker is not.
        if number % 4 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Relaxed);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(answered > 20, "{answered} requests");
    let counted = mesh.stat("http.test.downstream_rq_total");
    assert_eq!(counted, u64::from(answered), "statistics survive");
}

#[tokio::test]
async fn a_bad_table_is_refused_and_the_last_good_one_serves() {
    let app = App::start("web").await;
    let good = json!([forward("web", json!({}))]);
    let clusters: &[(&str, &[_])] = &[("web", &[app.address])];
    let mut mesh = Mesh::start(snapshot("outbound", good.clone(), clusters));
    let mut bad = forward("web", json!({}));
    bad["match"]["path"] = json!({ "regex": "(" });
    let refused = mesh
        .proxy
        .apply(snapshot("outbound", json!([bad]), clusters));
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(mesh.get("/").await.body, "web");
    assert!(
        mesh.proxy
            .apply(snapshot("outbound", good, clusters))
            .is_empty()
    );
    assert_eq!(mesh.get("/").await.body, "web");
}
