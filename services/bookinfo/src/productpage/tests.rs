use axum::body::Body;
use axum::http::Request;
use axum::routing::any;
use clap::Parser;

use super::*;
use crate::testing::{self, Answer, get, kit, send, serve, silence};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn service(flags: &str) -> Router {
    let args = Cli::parse_from(std::iter::once("productpage").chain(flags.split_whitespace())).args;
    router(&kit("productpage", Some("productpage-pod")), args.config())
}

/// A productpage whose details, reviews and ratings are at these ports of loopback.
fn shop(details: u16, reviews: u16, ratings: u16) -> Router {
    service(&format!(
        "--details-hostname 127.0.0.1 --details-port {details} \
         --reviews-hostname 127.0.0.1 --reviews-port {reviews} \
         --ratings-hostname 127.0.0.1 --ratings-port {ratings}"
    ))
}

async fn details() -> u16 {
    serve(dojo_kit::assemble(
        &kit("details", Some("details-pod")),
        crate::details::router(&kit("details", None), crate::details::Source::Own),
    ))
    .await
}

/// Serves an answer that is always the same.
async fn constant(status: u16, body: &'static str) -> u16 {
    let status = StatusCode::from_u16(status).expect("a status");
    serve(Router::new().fallback(any(move || async move { (status, body) }))).await
}

const REVIEWS: &str = r#"{"id":"0","podname":"reviews-pod","clustername":"null","reviews":[
    {"reviewer":"Reviewer1","text":"A <b> & so on","rating":{"stars":5,"color":"black"}},
    {"reviewer":"Reviewer2","text":"B","rating":{"stars":2,"color":"red"}},
    {"reviewer":"Reviewer3","text":"C","rating":{"error":"Ratings service is currently unavailable"}},
    {"reviewer":"Reviewer4","text":"D"}]}"#;

async fn with_cookie(router: Router, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path)
        .header("cookie", cookie)
        .body(Body::empty());
    send(router, request.expect("a request")).await
}

#[tokio::test]
async fn the_page_of_a_healthy_shop() {
    let page = get(
        shop(details().await, constant(200, REVIEWS).await, 1),
        "/productpage?u=normal",
    )
    .await;
    assert_eq!(page.status, 200);
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    assert!(page.body.starts_with("<!DOCTYPE html>\n"));
    for text in [
        "\n<title>Simple Bookstore App</title>\n",
        "BookInfo Sample",
        "Please sign in",
        "<form method=\"post\" action=\"login\">",
        "placeholder=\"User Name\"",
        "<h1>The Comedy of Errors</h1>",
        "Summary: <a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: ",
        "<b>William Shakespeare's</b>",
        "<h2>Book Details</h2>",
        "<dt>Type:</dt><dd>paperback</dd>",
        "<dt>Pages:</dt><dd>200</dd>",
        "<dt>ISBN-13:</dt><dd>123-1234567890</dd>",
        "<h2>Book Reviews</h2>",
        "<p>A &lt;b&gt; &amp; so on</p>\n<small>Reviewer1</small>",
        "<font color=\"black\">",
        "<font color=\"red\">",
        "<i>Ratings service is currently unavailable</i>",
        "Reviews served by:\n<u>reviews-pod</u>",
        "<code>productpage-pod</code>",
        "<code>details-pod</code>",
    ] {
        assert!(page.body.contains(text), "{text} is not in {}", page.body);
    }
    let count = |class: &str| page.body.matches(class).count();
    assert_eq!(count("<span class=\"glyphicon glyphicon-star\"></span>"), 7);
    assert_eq!(
        count("<span class=\"glyphicon glyphicon-star-empty\"></span>"),
        3
    );
    assert!(!page.body.contains("on cluster"));
    assert!(!page.body.contains("Error fetching"));
    let metas: Vec<_> = page
        .body
        .lines()
        .filter(|line| line.starts_with("<meta"))
        .collect();
    assert!(metas[0].contains("utf-8") && metas[1].contains("IE=edge"));
    assert!(metas[2].contains("width=device-width, initial-scale=1.0"));
}

#[tokio::test]
async fn failing_services_become_sections_of_a_page_that_is_200() {
    let page = get(
        shop(constant(503, "").await, constant(200, "garbage").await, 1),
        "/productpage",
    )
    .await;
    assert_eq!(page.status, 200);
    for text in [
        "<h2>Error fetching product details!</h2>\n<p>Sorry, product details are currently unavailable for this book.</p>",
        "<h2>Error fetching product reviews!</h2>\n<p>Sorry, product reviews are currently unavailable for this book.</p>",
    ] {
        assert!(page.body.contains(text), "{text} is not in {}", page.body);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_reviews_cost_two_attempts_of_three_seconds() {
    let shop = shop(details().await, silence().await, 1);
    let started = tokio::time::Instant::now();
    let page = get(shop, "/productpage").await;
    assert_eq!(started.elapsed().as_millis(), 6000);
    assert!(page.body.contains("Error fetching product reviews!"));
    assert!(
        page.body.contains("500 in 6000 ms, 2 attempts"),
        "{}",
        page.body
    );
}

#[tokio::test(start_paused = true)]
async fn slow_details_cost_one_attempt_of_three_seconds() {
    let shop = shop(silence().await, constant(200, REVIEWS).await, 1);
    let started = tokio::time::Instant::now();
    let page = get(shop, "/productpage").await;
    assert_eq!(started.elapsed().as_millis(), 3000);
    assert!(page.body.contains("Error fetching product details!"));
    assert!(page.body.contains("Book Reviews"));
}

#[tokio::test]
async fn a_user_logs_in_is_named_to_the_services_and_logs_out() {
    let echo = Router::new().fallback(any(|headers: HeaderMap| async move {
        let user = headers.get("end-user").map_or("nobody", |value| value.to_str().expect("text"));
        axum::Json(serde_json::json!({"podname": user, "reviews": [{"text": headers.contains_key("x-my-header"), "reviewer": headers.get("x-request-id").map(|id| id.to_str().expect("text"))}]}))
    }));
    let shop = shop(details().await, serve(echo).await, 1);

    let login = Request::post("/login")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("referer", "http://127.0.0.1:8080/productpage?u=test")
        .body(Body::from("username=jason&passwd="))
        .expect("a request");
    let login = send(shop.clone(), login).await;
    assert_eq!(login.status, 302);
    assert_eq!(
        login.headers["location"],
        "http://127.0.0.1:8080/productpage?u=test"
    );
    let cookie = login.headers["set-cookie"].to_str().expect("text");
    assert!(
        cookie.starts_with("session=") && cookie.contains("HttpOnly") && cookie.contains("Path=/")
    );
    let cookie = cookie.split(';').next().expect("a pair");

    let page = with_cookie(shop.clone(), "/productpage", cookie).await;
    assert!(
        page.body
            .contains("jason ( <a href=\"logout\">sign out</a> )"),
        "{}",
        page.body
    );
    assert!(page.body.contains("<u>jason</u>"));

    // The header of a client is not passed on: only a login names a user.
    let request = Request::get("/productpage")
        .header("end-user", "jason")
        .header("x-my-header", "1")
        .header("x-request-id", "the-id")
        .body(Body::empty());
    let page = send(shop.clone(), request.expect("a request")).await;
    assert!(page.body.contains("<u>nobody</u>"), "{}", page.body);
    assert!(
        page.body.contains("<p>false</p>\n<small>the-id</small>"),
        "{}",
        page.body
    );

    let logout = with_cookie(shop, "/logout", cookie).await;
    assert_eq!(logout.status, 302);
    assert_eq!(logout.headers["location"], "/productpage");
    assert!(
        logout.headers["set-cookie"]
            .to_str()
            .expect("text")
            .contains("Max-Age=0")
    );
}

#[tokio::test]
async fn the_json_api_passes_answers_and_statuses_on() {
    let shop = shop(
        details().await,
        constant(503, "").await,
        serve(crate::ratings::router(&kit("ratings", Some("ratings-pod")))).await,
    );
    let products = get(shop.clone(), "/api/v1/products").await;
    assert_eq!(products.content_type, "application/json");
    assert!(
        products.body.starts_with(
            r#"[{"id": 0, "title": "The Comedy of Errors", "descriptionHtml": "<a href"#
        )
    );
    let product = get(shop.clone(), "/api/v1/products/7").await;
    assert!(
        product
            .body
            .starts_with(r#"{"id": 7, "author": "William Shakespeare", "#),
        "{}",
        product.body
    );
    let ratings = get(shop.clone(), "/api/v1/products/0/ratings").await;
    assert_eq!(
        ratings.body,
        r#"{"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}"#
    );
    let reviews = get(shop.clone(), "/api/v1/products/0/reviews").await;
    assert_eq!(reviews.status, 503);
    assert_eq!(
        reviews.body,
        r#"{"error": "Sorry, product reviews are currently unavailable for this book."}"#
    );
    let bad = get(shop, "/api/v1/products/abc").await;
    assert_eq!(bad.status, 400);
    assert_eq!(
        bad.body,
        r#"{"error": "Sorry, product details are currently unavailable for this book."}"#
    );
}

#[tokio::test]
async fn a_refused_connection_is_500() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let answer = get(shop(closed, closed, closed), "/api/v1/products/0/ratings").await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.body,
        r#"{"error": "Sorry, product ratings are currently unavailable for this book."}"#
    );
}

#[tokio::test]
async fn landing_page_assets_health_and_unknown_paths() {
    let landing = get(service(""), "/").await;
    for text in [
        "<title>Simple Bookstore App</title>",
        "Hello! This is a simple bookstore application consisting of three services as shown below",
        "http://details:9080",
        "http://ratings:9080",
        "href=\"/productpage?u=normal\">Normal user</a>",
        "href=\"/productpage?u=test\">Test user</a>",
    ] {
        assert!(landing.body.contains(text), "{text}");
    }
    assert_eq!(get(service(""), "/index.html").await.body, landing.body);
    assert_eq!(
        get(service(""), "/health").await.body,
        "Product page is healthy"
    );
    assert_eq!(
        get(service(""), "/static/bookinfo.css").await.content_type,
        "text/css; charset=utf-8"
    );
    assert_eq!(
        get(service(""), "/static/bookinfo.svg").await.content_type,
        "image/svg+xml"
    );
    let missing = get(service(""), "/nothing").await;
    assert_eq!(
        (missing.status, missing.content_type.as_str()),
        (404, "text/html; charset=utf-8")
    );
    assert_eq!(
        testing::post(service(""), "/productpage", "").await.status,
        405
    );
    assert_eq!(get(service(""), "/login").await.status, 405);
}

#[tokio::test]
async fn a_flood_asks_reviews_so_many_times_more() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    let reviews = serve(Router::new().fallback(any(move || async move {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        "{}"
    })))
    .await;
    let shop = service(&format!(
        "--flood-factor 100 --details-hostname 127.0.0.1 --details-port {} \
         --reviews-hostname 127.0.0.1 --reviews-port {reviews}",
        details().await
    ));
    assert_eq!(get(shop, "/productpage").await.status, 200);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 101);
}

#[tokio::test]
async fn results_of_calls_are_counted() {
    let kit = kit("productpage", None);
    let config = Cli::parse_from([
        "productpage",
        "--details-hostname",
        "127.0.0.1",
        "--details-port",
        &details().await.to_string(),
    ])
    .args
    .config();
    let router = dojo_kit::assemble(&kit, router(&kit, config));
    get(router.clone(), "/api/v1/products/0").await;
    let metrics = get(router, "/metrics").await;
    let line = r#"request_result_total{destination_app="details",response_code="200"} 1"#;
    assert!(metrics.body.contains(line), "{}", metrics.body);
}
