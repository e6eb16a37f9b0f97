use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

const UTF8_JSON: &str = "application/json;charset=UTF-8";

fn service() -> Router {
    let identity = Identity {
        service: "delivery",
        version: "v1".into(),
        pod: Some("delivery-67ff6476bb-b26jk".into()),
    };
    let kit = Kit::new(identity, None).expect("a client");
    dojo_kit::assemble(&kit, router(&kit, Ipv4Addr::new(127, 20, 0, 9).into()))
}

async fn ask(router: &Router, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "delivery:8080")
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let status = response.status().as_u16();
    let kind = response
        .headers()
        .get("content-type")
        .map_or("", |value| value.to_str().expect("text"))
        .to_owned();
    let body = to_bytes(response.into_body(), 1 << 20)
        .await
        .expect("a body");
    (
        status,
        kind,
        String::from_utf8(body.to_vec()).expect("text"),
    )
}

#[tokio::test]
async fn the_echo_names_the_pod_and_its_address() {
    let (status, kind, body) = ask(&service(), "GET", "/actuator/echo", "").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain;charset=UTF-8"));
    assert_eq!(body, "delivery-67ff6476bb-b26jk/127.20.0.9");
}

#[tokio::test]
async fn a_copy_that_was_put_down_fails_its_health_and_still_echoes() {
    let router = service();
    let health = |status: u16, text: &str| {
        let text = format!(r#"{{"status":"{text}"}}"#);
        (status, UTF8_JSON.to_owned(), text)
    };
    assert_eq!(
        ask(&router, "GET", "/actuator/health", "").await,
        health(200, "UP")
    );
    assert_eq!(
        ask(&router, "PUT", "/actuator/down", "").await,
        health(200, "DOWN")
    );
    for _ in 0..3 {
        assert_eq!(
            ask(&router, "GET", "/actuator/health", "").await,
            health(503, "DOWN")
        );
    }
    assert_eq!(ask(&router, "GET", "/actuator/echo", "").await.0, 200);
    assert_eq!(ask(&router, "GET", "/deliveries", "").await.0, 200);
    let other_copy = service();
    assert_eq!(ask(&other_copy, "GET", "/actuator/health", "").await.0, 200);
    assert_eq!(
        ask(&router, "PUT", "/actuator/up", "").await,
        health(200, "UP")
    );
    assert_eq!(
        ask(&router, "GET", "/actuator/health", "").await,
        health(200, "UP")
    );
}

#[tokio::test]
async fn down_is_a_put_only() {
    let router = service();
    for method in ["GET", "POST", "DELETE"] {
        let (status, kind, body) = ask(&router, method, "/actuator/down", "").await;
        assert_eq!((status, kind.as_str()), (405, UTF8_JSON));
        assert!(body.contains("not supported"), "{body}");
    }
    assert_eq!(ask(&router, "GET", "/actuator/health", "").await.0, 200);
}

#[tokio::test]
async fn deliveries_are_a_resource() {
    let router = service();
    let sent = r#"{"orderId":1,"qty":2,"productId":3,"status":"DeliveryStarted","customerId":"c"}"#;
    let (status, kind, body) = ask(&router, "POST", "/deliveries", sent).await;
    assert_eq!(
        (status, kind.as_str()),
        (201, "application/hal+json;charset=UTF-8")
    );
    let mut object: Value = serde_json::from_str(&body).expect("JSON");
    let links = object
        .as_object_mut()
        .and_then(|o| o.remove("_links"))
        .expect("links");
    assert_eq!(object.to_string(), sent);
    assert_eq!(
        links["delivery"]["href"],
        "http://delivery:8080/deliveries/1"
    );
    assert_eq!(ask(&router, "POST", "/deliveries", "{}").await.0, 201);
    let (_, _, body) = ask(&router, "GET", "/deliveries", "").await;
    let list: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        list["_embedded"]["deliveries"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(list["page"]["totalElements"], 2);
    assert_eq!(
        ask(&router, "PATCH", "/deliveries/1", r#"{"qty":9}"#)
            .await
            .0,
        200
    );
    assert_eq!(ask(&router, "DELETE", "/deliveries/1", "").await.0, 204);
    assert_eq!(ask(&router, "GET", "/deliveries/1", "").await.0, 404);
    assert_eq!(ask(&router, "POST", "/deliveries", "nonsense").await.0, 400);
}

#[test]
fn the_machine_has_an_address() {
    assert!(own_address().is_ipv4());
}
