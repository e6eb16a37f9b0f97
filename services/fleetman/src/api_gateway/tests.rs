use super::*;
use crate::testing::{get, kit, nobody, send, upstream};

const OLD: &str = r#"{"name":"City Truck","lat":53.37262733839452266693115234375,"lng":-1.4846390,"timestamp":"2023-11-13T05:31:22.565+0000","speed":null}"#;
const NEW: &str = r#"{"name":"City Truck","lat":53.6099460,"lng":-1.8139280,"timestamp":"2023-11-13T05:31:27.139+0000","speed":24.7517309806046603544}"#;
const PAM: &str =
    r#"{"name":"Pam Parry","photo":"https://rac-istio-course-images.s3.amazonaws.com/1.jpg"}"#;

/// A service that answers one path with this, and 404 otherwise.
fn only(path: &'static str, status: u16, body: impl Into<String>) -> Router {
    let body = body.into();
    Router::new().fallback(move |request: Request| async move {
        let status = if request.uri().path() == path {
            status
        } else {
            404
        };
        (StatusCode::from_u16(status).expect("a status"), body)
    })
}

async fn tracker(path: &'static str, status: u16, body: impl Into<String>) -> Router {
    let config = Config {
        position_tracker: upstream(only(path, status, body)).await,
        staff_service: nobody().await,
        propagation: PropagationArgs::default(),
    };
    router(&kit("api-gateway"), config)
}

async fn staff(service: Router) -> Router {
    let config = Config {
        position_tracker: nobody().await,
        staff_service: upstream(service).await,
        propagation: PropagationArgs::default(),
    };
    router(&kit("api-gateway"), config)
}

#[tokio::test]
async fn all_positions_pass_through_digit_by_digit() {
    let gateway = tracker("/vehicles/", 200, format!("[{OLD},{NEW}]")).await;
    for path in ["/vehicles/", "//vehicles/", "/vehicles"] {
        let answer = get(&gateway, path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, format!("[{OLD},{NEW}]"));
        assert_eq!(answer.content_type, "application/json;charset=UTF-8");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn a_tracker_that_is_not_there_has_no_vehicles() {
    let config = Config {
        position_tracker: nobody().await,
        staff_service: nobody().await,
        propagation: PropagationArgs::default(),
    };
    let gateway = router(&kit("api-gateway"), config.clone());
    let answer = get(&gateway, "/vehicles/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    let message = format!(
        "Connection refused executing GET {}/driver/City%20Truck",
        config.staff_service
    );
    get(&gateway, "/vehicles/driver/City%20Truck")
        .await
        .is_error(
            500,
            "Internal Server Error",
            &message,
            "/vehicles/driver/City%20Truck",
        );
}

#[tokio::test]
async fn one_report_and_the_history_oldest_first() {
    let gateway = tracker("/vehicles/City%20Truck", 200, NEW).await;
    assert_eq!(get(&gateway, "/vehicles/City%20Truck").await.body, NEW);
    let gateway = tracker("/history/City%20Truck", 200, format!("[{NEW},{OLD}]")).await;
    assert_eq!(
        get(&gateway, "/history/City%20Truck").await.body,
        r#"[{"lat":53.37262733839452266693115234375,"lng":-1.4846390},{"lat":53.6099460,"lng":-1.8139280}]"#
    );
    for nothing in ["null", "", "[]"] {
        let gateway = tracker("/history/City%20Truck", 200, nothing).await;
        assert_eq!(get(&gateway, "/history/City%20Truck").await.body, "[]");
    }
}

#[tokio::test]
async fn drivers_are_passed_on_as_text() {
    let gateway = staff(only("/driver/City%20Truck", 200, PAM)).await;
    let answer = get(&gateway, "//vehicles/driver/City%20Truck").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, PAM));
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn an_error_names_the_status_and_the_call() {
    let gateway = staff(only("/driver/City%20Truck", 502, "")).await;
    let path = "//vehicles/driver/City%20Truck";
    let answer = get(&gateway, path).await;
    answer.is_error(
        500,
        "Internal Server Error",
        "status 502 reading RemoteStaffMicroserviceCalls#getDriverFor(String)",
        path,
    );
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    for (path, upstream_path, call) in [
        ("/vehicles/", "/vehicles/", "getAllLatestPositions()"),
        ("/history/x", "/history/x", "getHistoryFor(String)"),
        ("/vehicles/x", "/vehicles/x", "getLastReportFor(String)"),
    ] {
        let gateway = tracker(upstream_path, 503, "no healthy upstream").await;
        let message = format!("status 503 reading RemotePositionMicroserviceCalls#{call}");
        get(&gateway, path)
            .await
            .is_error(500, "Internal Server Error", &message, path);
    }
}

#[tokio::test]
async fn garbage_is_an_error_not_an_answer() {
    for garbage in ["<html>", "[{}]", "{}", "[1", ""] {
        let gateway = tracker("/vehicles/", 200, garbage).await;
        let answer = get(&gateway, "/vehicles/").await;
        assert_eq!(answer.status, 500, "{garbage}");
        let message = answer.json()["message"].as_str().expect("text").to_owned();
        assert!(
            message.contains("getAllLatestPositions() makes no sense"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn headers_are_passed_on_unless_told_otherwise() {
    let echo = Router::new().fallback(|headers: HeaderMap| async move {
        headers
            .get("x-my-header")
            .map_or("none", |value| value.to_str().expect("text"))
            .to_owned()
    });
    let staff_service = upstream(echo).await;
    for (no_header_propagation, seen) in [(false, "canary"), (true, "none")] {
        let config = Config {
            position_tracker: nobody().await,
            staff_service: staff_service.clone(),
            propagation: PropagationArgs {
                no_header_propagation,
            },
        };
        let gateway = router(&kit("api-gateway"), config);
        let headers = [("x-my-header", "canary")];
        let answer = send(&gateway, Method::GET, "/vehicles/driver/x", "", &headers).await;
        assert_eq!(answer.body, seen);
    }
}

#[tokio::test]
async fn the_landing_page_and_what_is_not_there() {
    let gateway = tracker("/", 200, "").await;
    let answer = get(&gateway, "/").await;
    assert!(answer.content_type.starts_with("text/html"));
    assert!(
        answer.body.starts_with("<p>Fleetman API Gateway at "),
        "{}",
        answer.body
    );
    assert_eq!(get(&gateway, "/health").await.status, 200);
    get(&gateway, "/updates")
        .await
        .is_error(404, "Not Found", "No message available", "/updates");
    let answer = send(&gateway, Method::POST, "/vehicles/", "", &[]).await;
    answer.is_error(
        405,
        "Method Not Allowed",
        "Request method 'POST' not supported",
        "/vehicles/",
    );
}
