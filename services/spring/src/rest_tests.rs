use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;
use crate::entity::Field;
use crate::repository::{Resource, WhenFull};

static THINGS: Resource = Resource {
    collection: "things",
    item: "thing",
    fields: &[Field::number("qty"), Field::text("status")],
    capacity: 100,
    when_full: WhenFull::ForgetOldest,
};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

async fn send(router: &Router, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "things:8080")
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

fn router() -> Router {
    routes(&Repository::new(&THINGS)).layer(axum::middleware::from_fn(crate::problem::dress))
}

#[tokio::test]
async fn a_created_object_has_links_and_a_location() {
    let router = router();
    let answer = send(&router, "POST", "/things", r#"{"qty":1,"status":"new"}"#).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers["location"], "http://things:8080/things/1");
    assert_eq!(answer.headers["content-type"], HAL);
    let expected = r#"{
  "qty" : 1,
  "status" : "new",
  "_links" : {
    "self" : {
      "href" : "http://things:8080/things/1"
    },
    "thing" : {
      "href" : "http://things:8080/things/1"
    }
  }
}"#;
    assert_eq!(answer.body, expected);
    assert_eq!(send(&router, "GET", "/things/1", "").await.body, expected);
}

#[tokio::test]
async fn objects_are_replaced_amended_and_deleted() {
    let router = router();
    send(&router, "POST", "/things", r#"{"qty":1,"status":"new"}"#).await;
    let answer = send(&router, "PATCH", "/things/1", r#"{"status":"old"}"#).await;
    assert_eq!((answer.status, &answer.json()["qty"]), (200, &json!(1)));
    assert_eq!(answer.json()["status"], "old");
    let answer = send(&router, "PUT", "/things/1", r#"{"status":"put"}"#).await;
    assert_eq!((answer.status, &answer.json()["qty"]), (200, &Value::Null));
    let answer = send(&router, "PATCH", "/things/1", "{").await;
    assert_eq!(answer.status, 400);
    assert_eq!(send(&router, "DELETE", "/things/1", "").await.status, 204);
    for method in ["GET", "DELETE"] {
        let answer = send(&router, method, "/things/1", "").await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (404, &json!(404))
        );
    }
    assert_eq!(send(&router, "PUT", "/things/1", "{}").await.status, 404);
}

#[tokio::test]
async fn the_collection_is_paged() {
    let router = router();
    let empty = send(&router, "GET", "/things", "").await.json();
    assert_eq!(empty["_embedded"]["things"], json!([]));
    assert_eq!(
        empty["page"],
        json!({"size": 20, "totalElements": 0, "totalPages": 0, "number": 0})
    );
    for _ in 0..25 {
        send(&router, "POST", "/things", "{}").await;
    }
    let first = send(&router, "GET", "/things", "").await.json();
    assert_eq!(
        first["_embedded"]["things"].as_array().map(Vec::len),
        Some(20)
    );
    assert_eq!(
        first["_links"]["next"]["href"],
        "http://things:8080/things?page=1&size=20"
    );
    let second = send(&router, "GET", "/things?page=1", "").await.json();
    assert_eq!(
        second["_embedded"]["things"].as_array().map(Vec::len),
        Some(5)
    );
    assert_eq!(second["_links"]["next"], Value::Null);
    assert_eq!(second["page"]["totalPages"], 2);
    let odd = send(&router, "GET", "/things?page=x&size=0", "").await;
    assert_eq!(odd.status, 200);
    let far = send(&router, "GET", &format!("/things?page={}", u32::MAX), "").await;
    assert_eq!(far.status, 200);
}

#[tokio::test]
async fn errors_have_springs_shape() {
    let router = router();
    for (method, path, body, status, error, message) in [
        ("GET", "/else", "", 404, "Not Found", "No message available"),
        (
            "GET",
            "/things/x",
            "",
            400,
            "Bad Request",
            "the id `x` is not a number",
        ),
        (
            "DELETE",
            "/things",
            "",
            405,
            "Method Not Allowed",
            "Request method 'DELETE' not supported",
        ),
        (
            "POST",
            "/things",
            "{",
            400,
            "Bad Request",
            "JSON parse error",
        ),
        (
            "POST",
            "/things",
            &"x".repeat(MAX_BODY + 1),
            413,
            "Payload Too Large",
            "The body is too large",
        ),
    ] {
        let answer = send(&router, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers["content-type"], crate::JSON);
        let json = answer.json();
        let names: Vec<_> = json.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["timestamp", "status", "error", "message", "path"]);
        assert_eq!(json["error"], error);
        assert_eq!(json["path"], path);
        assert!(json["message"].as_str().expect("text").starts_with(message));
    }
}
