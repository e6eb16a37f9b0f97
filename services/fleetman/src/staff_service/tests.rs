use super::*;
use crate::testing::{get, kit, nobody, send, upstream};

fn service(config: Config) -> Router {
    router(&kit("staff-service"), config)
}

async fn post(router: &Router, path: &str) -> crate::testing::Answer {
    send(router, Method::POST, path, "", &[("x-my-header", "canary")]).await
}

#[tokio::test]
async fn drivers_and_their_photos() {
    let router = service(Config::Photos);
    for (vehicle, name, photo) in [
        ("City%20Truck", "Pam Parry", "1.jpg"),
        ("Huddersfield%20Truck%20A", "Duke T. Dog", "2.jpg"),
        ("Huddersfield%20Truck%20B", "Denzil Tulser", "3.jpg"),
        ("London%20Riverside", "Herman Boyce", "4.jpg"),
        ("Village%20Truck", "June Snell", "5.jpg"),
    ] {
        let answer = get(&router, &format!("/driver/{vehicle}")).await;
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (200, "application/json;charset=UTF-8")
        );
        assert_eq!(
            answer.body,
            format!(
                r#"{{"name":"{name}","photo":"https://rac-istio-course-images.s3.amazonaws.com/{photo}"}}"#
            )
        );
    }
    assert_eq!(
        get(&router, "/driver/Unknown").await.body,
        r#"{"name":null,"photo":null}"#
    );
    let answer = post(&router, "/driver/City%20Truck/24.75").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn the_placeholder_is_everybodys_photo() {
    let router = service(Config::Placeholder);
    for (vehicle, name) in [
        ("City%20Truck", "Pam Parry"),
        ("Village%20Truck", "June Snell"),
    ] {
        assert_eq!(
            get(&router, &format!("/driver/{vehicle}")).await.body,
            format!(
                r#"{{"name":"{name}","photo":"https://rac-istio-course-images.s3.amazonaws.com/placeholder.png"}}"#
            )
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_bad_variant_is_slow_and_fails() {
    let kit = kit("staff-service").with_chaos(Settings {
        seed: Some(7),
        ..bad::chaos(bad::RATE, Duration::from_secs(5))
    });
    let router = super::service(&kit, Config::Placeholder);
    let chaos = get(&router, "/chaos").await.body;
    assert!(chaos.contains("\"error_rate\":0.7"), "{chaos}");
    let started = tokio::time::Instant::now();
    let (mut failed, mut well) = (0, 0);
    for _ in 0..100 {
        let answer = get(&router, "/driver/City%20Truck").await;
        match answer.status {
            502 => {
                assert_eq!(answer.body, "");
                failed += 1;
            }
            200 => {
                assert!(answer.body.contains("placeholder.png"), "{}", answer.body);
                well += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert!(failed > 50 && well > 15, "{failed} failed");
    assert!(started.elapsed() > Duration::from_secs(150));
    let mut statuses: Vec<_> = Vec::new();
    for _ in 0..50 {
        statuses.push(post(&router, "/driver/City%20Truck/0").await.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 500]);
    let before = tokio::time::Instant::now();
    assert_eq!(get(&router, "/health").await.status, 200);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn the_legacy_variant_asks_and_tells_others() {
    let monitoring = Router::new().fallback(|request: Request| async move {
        let headers = request.headers();
        assert_eq!(headers["x-my-header"], "canary");
        assert_eq!(request.uri().path(), "/driver/City%20Truck/7");
    });
    let router = service(Config::Legacy {
        photo_service: upstream(crate::photo_service::router()).await,
        driver_monitoring: upstream(monitoring).await,
        propagation: PropagationArgs::default(),
    });
    let body = get(&router, "/driver/City%20Truck").await.body;
    assert!(body.ends_with(r#"amazonaws.com/1.jpg"}"#), "{body}");
    assert_eq!(post(&router, "/driver/City%20Truck/7").await.status, 200);
    let router = service(Config::Legacy {
        photo_service: nobody().await,
        driver_monitoring: nobody().await,
        propagation: PropagationArgs::default(),
    });
    let body = get(&router, "/driver/City%20Truck").await.body;
    assert!(body.ends_with(r#"placeholder.png"}"#), "{body}");
    assert_eq!(post(&router, "/driver/City%20Truck/7").await.status, 200);
}

#[tokio::test]
async fn other_paths_and_methods() {
    let router = service(Config::Photos);
    get(&router, "/")
        .await
        .is_error(404, "Not Found", "No message available", "/");
    post(&router, "/driver/x").await.is_error(
        405,
        "Method Not Allowed",
        "Request method 'POST' not supported",
        "/driver/x",
    );
    assert_eq!(get(&router, "/driver/x/1").await.status, 405);
    assert_eq!(get(&router, "/driver/%zz").await.status, 400);
}
