use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::routing::any;
use clap::Parser;

use super::*;
use crate::testing::{get, kit, send, serve, silence};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(flags: &str) -> Args {
    Cli::parse_from(std::iter::once("reviews").chain(flags.split_whitespace())).args
}

fn service(flags: &str) -> Router {
    router(&kit("reviews", Some("reviews-pod")), args(flags).config())
}

#[tokio::test]
async fn v1_has_no_ratings() {
    let answer = get(service("--version v1"), "/reviews/0").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type, "application/json");
    assert_eq!(
        answer.body,
        concat!(
            r#"{"id":"0","podname":"reviews-pod","clustername":"null","reviews":["#,
            r#"{"reviewer":"Reviewer1","text":"An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},"#,
            r#"{"reviewer":"Reviewer2","text":"Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."}]}"#,
        )
    );
}

#[tokio::test]
async fn pod_and_cluster_are_the_string_null_when_unknown() {
    let router = router(&kit("reviews", None), args("").config());
    let answer = get(router, "/reviews/3").await;
    assert!(
        answer
            .body
            .starts_with(r#"{"id":"3","podname":"null","clustername":"null""#)
    );
    let answer = get(service("--cluster-name east"), "/reviews/0").await;
    assert!(answer.body.contains(r#""clustername":"east""#));
}

#[tokio::test]
async fn the_id_must_be_an_integer() {
    assert_eq!(get(service(""), "/reviews/abc").await.status, 404);
    assert_eq!(
        get(service(""), "/health").await.body,
        r#"{"status": "Reviews is healthy"}"#
    );
}

#[tokio::test]
async fn v2_and_v3_show_the_stars_of_ratings_in_their_colour() {
    let port = serve(crate::ratings::router(&kit("ratings", Some("ratings-pod")))).await;
    for (version, color) in [("v2", "black"), ("v3", "red")] {
        let flags =
            format!("--version {version} --ratings-hostname 127.0.0.1 --ratings-port {port}");
        let answer = get(service(&flags), "/reviews/0").await;
        for stars in [5, 4] {
            let rating = format!(r#""rating":{{"stars":{stars},"color":"{color}"}}"#);
            assert!(answer.body.contains(&rating), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn variables_of_the_images_override_the_version() {
    let config = args("--version v1 --enable-ratings TRUE --star-color blue").config();
    let stars = config.stars.expect("stars");
    assert_eq!(
        (stars.color.as_str(), stars.timeout().as_millis()),
        ("blue", 2500)
    );
    assert!(
        args("--version v3 --enable-ratings no")
            .config()
            .stars
            .is_none()
    );
    let stars = args("--version v2").config().stars.expect("stars");
    assert_eq!(stars.timeout(), Duration::from_secs(10));
    assert_eq!(stars.ratings.base(), "http://ratings:9080");
}

#[tokio::test(start_paused = true)]
async fn v2_waits_ten_seconds_for_ratings_and_v3_two_and_a_half() {
    let port = silence().await;
    for (version, limit) in [("v2", 10_000), ("v3", 2500)] {
        let flags =
            format!("--version {version} --ratings-hostname 127.0.0.1 --ratings-port {port}");
        let started = tokio::time::Instant::now();
        let answer = get(service(&flags), "/reviews/0").await;
        assert_eq!(started.elapsed().as_millis(), limit);
        assert_eq!(answer.status, 200);
        let error = r#""rating":{"error":"Ratings service is currently unavailable"}"#;
        assert_eq!(answer.body.matches(error).count(), 2, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_failing_garbled_or_partial_answer_becomes_an_error_per_reviewer() {
    let answers = [
        (500, r#"{"ratings":{"Reviewer1":5}}"#, 2),
        (200, "garbage", 2),
        (200, r#"{"id":0}"#, 2),
        (200, r#"{"id":0,"ratings":{"Reviewer2":3}}"#, 1),
    ];
    for (status, body, errors) in answers {
        let ratings =
            move || async move { (StatusCode::from_u16(status).expect("a status"), body) };
        let port = serve(Router::new().fallback(any(ratings))).await;
        let flags = format!("--version v2 --ratings-hostname 127.0.0.1 --ratings-port {port}");
        let answer = get(service(&flags), "/reviews/0").await;
        assert_eq!(answer.status, 200);
        let error = r#"{"error":"Ratings service is currently unavailable"}"#;
        assert_eq!(
            answer.body.matches(error).count(),
            errors,
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn headers_of_the_user_and_the_trace_reach_ratings_and_no_others() {
    let echo = |headers: HeaderMap| async move {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        axum::Json(json!({"ratings": {"Reviewer1": names.join(" "), "Reviewer2": 1}}))
    };
    let port = serve(Router::new().route("/ratings/0", get_route(echo))).await;
    let flags = format!("--version v2 --ratings-hostname 127.0.0.1 --ratings-port {port}");
    let request = Request::get("/reviews/0")
        .header("end-user", "jason")
        .header("cookie", "session=x")
        .header("user-agent", "test")
        .header("authorization", "Bearer t")
        .header("jwt", "t")
        .header("x-request-id", "1")
        .header("traceparent", "t")
        .header("x-b3-traceid", "t")
        .header("sw8", "t")
        .header("x-my-header", "no")
        .body(Body::empty())
        .expect("a request");
    let answer = send(service(&flags), request).await;
    let names = "accept authorization cookie end-user host jwt sw8 traceparent user-agent x-b3-traceid x-request-id";
    assert!(answer.body.contains(names), "{}", answer.body);
}

#[tokio::test]
async fn the_pod_of_ratings_is_named_in_a_header() {
    let ratings = dojo_kit::assemble(
        &kit("ratings", Some("ratings-pod")),
        crate::ratings::router(&kit("ratings", Some("ratings-pod"))),
    );
    let port = serve(ratings).await;
    let flags = format!("--version v2 --ratings-hostname 127.0.0.1 --ratings-port {port}");
    let answer = get(service(&flags), "/reviews/0").await;
    assert_eq!(answer.headers[RATINGS_SERVED_BY], "ratings-pod");
}

use axum::routing::get as get_route;
