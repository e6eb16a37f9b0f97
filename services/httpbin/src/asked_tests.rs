use crate::testing::{ask, go, python, send};
use serde_json::{Value, json};

#[tokio::test]
async fn get_in_the_go_style_has_lists() {
    let answer = send(
        &go(),
        "GET",
        "/get?a=1&a=2&b=x%20y",
        &[("x-my-header", "v")],
        "",
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    let json = answer.json();
    let names: Vec<_> = json.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["args", "headers", "method", "origin", "url"]);
    assert_eq!(json["args"], json!({"a": ["1", "2"], "b": ["x y"]}));
    assert_eq!(json["headers"]["X-My-Header"], json!(["v"]));
    assert_eq!(json["headers"]["Host"], json!(["bin:8000"]));
    assert_eq!(json["method"], "GET");
    assert_eq!(json["url"], "http://bin:8000/get?a=1&a=2&b=x%20y");
    assert!(answer.body.starts_with("{\n  \"args\"") && answer.body.ends_with("}\n"));
}

#[tokio::test]
async fn get_in_the_python_style_has_texts() {
    let answer = send(
        &python(),
        "GET",
        "/get?a=1&a=2&b=x",
        &[("x-forwarded-for", "10.0.0.1, 10.0.0.2")],
        "",
    )
    .await;
    assert_eq!(answer.header("content-type"), "application/json");
    let json = answer.json();
    let names: Vec<_> = json.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["args", "headers", "origin", "url"]);
    assert_eq!(json["args"], json!({"a": ["1", "2"], "b": "x"}));
    assert_eq!(json["headers"]["Host"], "bin:8000");
    assert_eq!(json["origin"], "10.0.0.1");
}

#[tokio::test]
async fn bodies_are_told_by_their_content_type() {
    for router in [go(), python()] {
        let json_kind = [("content-type", "application/json")];
        let json = send(&router, "POST", "/post", &json_kind, r#"{"a":[1]}"#)
            .await
            .json();
        assert_eq!(json["json"], json!({"a": [1]}));
        assert_eq!(json["data"], r#"{"a":[1]}"#);
        let text = [("content-type", "text/plain")];
        let json = send(&router, "PUT", "/put", &text, "hello").await.json();
        assert_eq!(
            (&json["data"], &json["json"]),
            (&json!("hello"), &Value::Null)
        );
        let octets = [("content-type", "application/octet-stream")];
        let json = ask(&router, "PATCH", "/patch", &octets, vec![0xff])
            .await
            .json();
        assert_eq!(json["data"], "data:application/octet-stream;base64,/w==");
        assert_eq!(
            send(&router, "DELETE", "/delete", &[], "").await.status,
            200
        );
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = send(&go(), "POST", "/post", &form, "a=1&b=2").await.json();
    assert_eq!(json["form"], json!({"a": ["1"], "b": ["2"]}));
    let kind = [("content-type", "multipart/form-data; boundary=X")];
    let body = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
                --X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\"\r\n\r\nfile\r\n--X--\r\n";
    let json = send(&python(), "POST", "/post", &kind, body).await.json();
    assert_eq!(json["form"], json!({"a": "1"}));
    assert_eq!(json["files"], json!({"f": "file"}));
}

#[tokio::test]
async fn broken_bodies_are_refused() {
    let json_kind = [("content-type", "application/json")];
    let answer = send(&go(), "POST", "/post", &json_kind, "{").await;
    assert_eq!(
        (answer.status, answer.json()["status_code"].clone()),
        (400, json!(400))
    );
    assert!(
        answer.json()["detail"]
            .as_str()
            .expect("text")
            .contains("not JSON")
    );
    let answer = send(&python(), "POST", "/post", &json_kind, "{").await;
    assert_eq!((answer.status, &answer.json()["json"]), (200, &Value::Null));
    let kind = [("content-type", "multipart/form-data")];
    assert_eq!(send(&go(), "POST", "/post", &kind, "x").await.status, 400);
    let large = "x".repeat(1024 * 1024 + 1);
    let answer = send(&go(), "POST", "/anything", &[], &large).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("1048576"), "{}", answer.body);
}

#[tokio::test]
async fn anything_takes_every_method_and_path() {
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
        let answer = send(&go(), method, "/anything/a/b?c=d", &[], "").await;
        assert_eq!(
            (answer.status, &answer.json()["method"]),
            (200, &json!(method))
        );
    }
    assert_eq!(send(&go(), "GET", "/post", &[], "").await.status, 405);
    assert_eq!(send(&go(), "HEAD", "/get", &[], "").await.status, 200);
    assert_eq!(
        send(&go(), "GET", "/nothing", &[], "").await.json()["error"],
        "Not Found"
    );
    let preflight = send(&go(), "OPTIONS", "/get", &[("origin", "http://a")], "").await;
    assert_eq!(preflight.header("access-control-allow-origin"), "http://a");
    assert!(
        preflight
            .header("access-control-allow-methods")
            .contains("PATCH")
    );
}

#[tokio::test]
async fn parts_of_the_request() {
    let headers = [("user-agent", "curl/8")];
    let json = send(&go(), "GET", "/user-agent", &headers, "").await.json();
    assert_eq!(json, json!({"user-agent": "curl/8"}));
    let json = send(&python(), "GET", "/headers", &headers, "")
        .await
        .json();
    assert_eq!(json["headers"]["User-Agent"], "curl/8");
}

#[tokio::test]
async fn without_a_proxy_the_origin_is_the_client() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(dojo_kit::server::serve(
        listener,
        go(),
        std::future::pending(),
    ));
    let source = Some("127.0.0.77".parse().expect("an address"));
    let client = dojo_kit::client::client(source).expect("a client");
    let url = format!("http://{address}/ip");
    let limit = std::time::Duration::from_secs(20);
    let answer = dojo_kit::client::get(&client, &url, axum::http::HeaderMap::new(), limit)
        .await
        .expect("an answer");
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(json, json!({"origin": "127.0.0.77"}));
}
