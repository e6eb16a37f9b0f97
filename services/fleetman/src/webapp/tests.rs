use super::*;
use crate::testing::{get, kit, nobody, send, upstream};
use axum::http::{HeaderMap, Method};

async fn webapp(edition: Edition, gateway: Router) -> Router {
    router(&kit("webapp"), edition, upstream(gateway).await)
}

async fn titles(edition: Edition, path: &str) -> Vec<String> {
    let answer = get(&webapp(edition, Router::new()).await, path).await;
    assert_eq!(answer.status, 200);
    assert!(answer.content_type.starts_with("text/html"));
    assert!(
        answer.headers["cache-control"]
            .to_str()
            .expect("text")
            .contains("no-store")
    );
    let lines = answer
        .body
        .lines()
        .filter(|line| line.to_lowercase().contains("title"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn one_line_of_the_page_is_its_title() {
    for path in [
        "/",
        "/vehicle/City%20Truck",
        "/experimental",
        "/canary",
        "/index.html",
    ] {
        assert_eq!(
            titles(Edition::Original, path).await,
            ["  <title>Fleet Management</title>"]
        );
        assert_eq!(
            titles(Edition::Experimental, path).await,
            ["  <title>Fleet Management Istio Premium Enterprise Edition</title>"]
        );
    }
}

#[tokio::test]
async fn the_page_is_whole_and_asks_nobody_else() {
    let page = page::render(Edition::Experimental);
    assert!(!page.contains("{{"), "something is left to fill in");
    assert!(page.contains("Fleet Manager Istio Premium Enterprise Edition"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.len() < 64 * 1024, "{} bytes", page.len());
}

#[tokio::test]
async fn pictures_are_files() {
    let webapp = webapp(Edition::Original, Router::new()).await;
    for name in ["1", "2", "3", "4", "5", "placeholder"] {
        let answer = get(&webapp, &format!("/photos/{name}.svg")).await;
        assert_eq!(answer.content_type, "image/svg+xml");
        assert!(answer.body.starts_with("<svg"), "{name}");
    }
    assert!(
        get(&webapp, "/photos/6.svg")
            .await
            .content_type
            .starts_with("text/html")
    );
    assert_eq!(get(&webapp, "/health").await.status, 200);
    assert_eq!(send(&webapp, Method::POST, "/", "", &[]).await.status, 405);
}

#[tokio::test]
async fn questions_go_to_the_gateway() {
    let gateway = Router::new().fallback(|request: Request| async move {
        let headers: &HeaderMap = request.headers();
        assert_eq!(headers["host"], "127.0.0.1");
        assert_eq!(headers["x-my-header"], "canary");
        assert_eq!(headers["x-forwarded-proto"], "http");
        let seen = format!("{} {}", request.method(), request.uri());
        (StatusCode::IM_A_TEAPOT, [("x-kept", "1")], seen)
    });
    let webapp = webapp(Edition::Original, gateway).await;
    let headers = [("x-my-header", "canary"), ("host", "somewhere")];
    let answer = send(
        &webapp,
        Method::GET,
        "/api/vehicles/driver/City%20Truck?a=b",
        "",
        &headers,
    )
    .await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (418, "GET //vehicles/driver/City%20Truck?a=b")
    );
    assert_eq!(answer.headers["x-kept"], "1");
}

#[tokio::test]
async fn who_asks_is_told_to_the_gateway() {
    let gateway = Router::new().fallback(|headers: HeaderMap| async move {
        format!(
            "{:?} {:?}",
            headers.get("x-real-ip"),
            headers.get("x-forwarded-for")
        )
    });
    let port = crate::testing::serve(webapp(Edition::Original, gateway).await).await;
    let asked = kit("test")
        .client
        .get(format!("http://127.0.0.1:{port}/api/"))
        .header("x-forwarded-for", "10.0.0.1");
    let text = asked
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert_eq!(text, r#"Some("127.0.0.1") Some("10.0.0.1, 127.0.0.1")"#);
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_a_502_and_a_huge_body_a_413() {
    let webapp = router(&kit("webapp"), Edition::Original, nobody().await);
    let answer = get(&webapp, "/api/vehicles/").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.body.contains("<h1>502 Bad Gateway</h1>"),
        "{}",
        answer.body
    );
    let answer = send(
        &webapp,
        Method::POST,
        "/api/vehicles/",
        &"x".repeat(1024 * 1024 + 1),
        &[],
    )
    .await;
    assert_eq!(answer.status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_hangs_is_a_504() {
    let gateway = format!("127.0.0.1:{}", crate::testing::silence().await)
        .parse()
        .expect("an address");
    let webapp = router(&kit("webapp"), Edition::Original, gateway);
    let started = tokio::time::Instant::now();
    assert_eq!(get(&webapp, "/api/vehicles/").await.status, 504);
    assert_eq!(started.elapsed().as_secs(), 90);
}
