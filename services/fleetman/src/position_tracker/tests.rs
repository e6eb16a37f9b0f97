use super::*;
use crate::testing::{get, kit, nobody, send, upstream};

const BODY: &str = r#"{"name":"City Truck","lat":53.37262733839452266693115234375,"lng":-1.4846390,"timestamp":"2023-11-13T05:31:22.565+0000","speed":null}"#;

/// What another service was asked, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    /// A service that answers everything with this.
    fn service(&self, name: &'static str, status: u16, body: &'static str) -> Router {
        let calls = self.clone();
        Router::new().fallback(move |request: Request| async move {
            let asked = Asked::read(request).await.expect("a request");
            let header = asked
                .headers
                .get("x-my-header")
                .map_or("-", |value| value.to_str().expect("text"));
            calls.0.lock().expect("calls").push(format!(
                "{name} {} {} {header} {}",
                asked.method,
                asked.path,
                String::from_utf8_lossy(&asked.body)
            ));
            (StatusCode::from_u16(status).expect("a status"), body)
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("calls"))
    }
}

async fn tracker(calls: &Calls, speed: &'static str, staff: u16) -> Router {
    router(
        &kit("position-tracker"),
        Config {
            vehicle_telemetry: upstream(calls.service("telemetry", 200, speed)).await,
            staff_service: upstream(calls.service("staff", staff, "")).await,
            propagation: PropagationArgs::default(),
        },
    )
}

async fn post(router: &Router, body: &str) -> crate::testing::Answer {
    send(
        router,
        Method::POST,
        "/vehicles/",
        body,
        &[
            ("x-my-header", "canary"),
            ("content-type", "application/json"),
        ],
    )
    .await
}

#[tokio::test]
async fn a_report_is_kept_with_its_speed_and_our_own_time() {
    let calls = Calls::default();
    let router = tracker(&calls, "24.7517309806046603544", 200).await;
    assert_eq!(get(&router, "/vehicles/").await.body, "[]");
    let answer = post(&router, BODY).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(
        calls.take(),
        [
            "telemetry GET /vehicles/City%20Truck canary ".to_owned(),
            format!("telemetry POST /vehicles/ canary {BODY}"),
            "staff POST /driver/City%20Truck/24.7517309806046603544 canary ".to_owned(),
        ]
    );
    let answer = get(&router, "/vehicles/").await;
    assert_eq!(answer.content_type, "application/json;charset=UTF-8");
    let (before, after) = answer.body.split_once(r#""timestamp":""#).expect("a time");
    assert_eq!(
        before,
        r#"[{"name":"City Truck","lat":53.37262733839452266693115234375,"lng":-1.4846390,"#
    );
    assert!(!after.starts_with("2023-11-13"), "{after}");
    assert!(
        after.ends_with(r#"+0000","speed":24.7517309806046603544}]"#),
        "{after}"
    );
    let one = get(&router, "/vehicles/City%20Truck").await.body;
    assert_eq!(format!("[{one}]"), answer.body);
}

#[tokio::test]
async fn without_a_speed_staff_is_told_zero() {
    let calls = Calls::default();
    let router = tracker(&calls, "", 200).await;
    assert_eq!(post(&router, BODY).await.status, 200);
    assert!(calls.take()[2].starts_with("staff POST /driver/City%20Truck/0 "));
    assert!(
        get(&router, "/vehicles/")
            .await
            .body
            .ends_with(r#""speed":null}]"#)
    );
}

#[tokio::test]
async fn telemetry_may_fail_or_send_garbage() {
    let calls = Calls::default();
    let staff_service = upstream(calls.service("staff", 200, "")).await;
    for vehicle_telemetry in [
        nobody().await,
        upstream(calls.service("telemetry", 500, "7")).await,
        upstream(calls.service("telemetry", 200, "<html>")).await,
    ] {
        let config = Config {
            vehicle_telemetry,
            staff_service: staff_service.clone(),
            propagation: PropagationArgs::default(),
        };
        let router = router(&kit("position-tracker"), config);
        assert_eq!(post(&router, BODY).await.status, 200);
        assert!(
            get(&router, "/vehicles/")
                .await
                .body
                .ends_with(r#""speed":null}]"#)
        );
    }
}

#[tokio::test]
async fn staff_may_not_fail_but_the_report_is_kept() {
    let calls = Calls::default();
    let router = tracker(&calls, "7", 502).await;
    post(&router, BODY).await.is_error(
        500,
        "Internal Server Error",
        "status 502 reading RemoteStaffMicroserviceCalls#updateSpeedLog(String,String)",
        "/vehicles/",
    );
    assert!(get(&router, "/vehicles/").await.body.contains("City Truck"));
}

#[tokio::test]
async fn history_is_newest_first_and_bounded() {
    let tracker = Tracker {
        client: kit("position-tracker").client,
        config: Config {
            vehicle_telemetry: nobody().await,
            staff_service: nobody().await,
            propagation: PropagationArgs::default(),
        },
        reports: Mutex::default(),
    };
    let report = Report::parse(BODY.as_bytes()).expect("a report");
    for number in 0..=HISTORY {
        let lat = number.to_string().parse().expect("a number");
        tracker
            .keep(Report {
                lat,
                ..report.clone()
            })
            .expect("room");
    }
    let router = Router::new().fallback(answer).with_state(Arc::new(tracker));
    let history = get(&router, "/history/City%20Truck").await.json();
    let history = history.as_array().expect("an array");
    assert_eq!(history.len(), HISTORY);
    assert_eq!(
        (&history[0]["lat"], &history[HISTORY - 1]["lat"]),
        (&2000.into(), &1.into())
    );
    assert_eq!(get(&router, "/history/Unknown").await.body, "[]");
    let answer = send(&router, Method::DELETE, "/vehicles/", "", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(get(&router, "/vehicles/").await.body, "[]");
    assert_eq!(get(&router, "/history/City%20Truck").await.body, "[]");
}

#[tokio::test]
async fn too_many_vehicles_are_refused() {
    let calls = Calls::default();
    let router = tracker(&calls, "", 200).await;
    for vehicle in 0..MAX_VEHICLES {
        assert_eq!(
            post(
                &router,
                &format!(r#"{{"name":"{vehicle}","lat":1,"lng":1}}"#)
            )
            .await
            .status,
            200
        );
    }
    assert_eq!(post(&router, BODY).await.status, 507);
    assert_eq!(
        post(&router, r#"{"name":"0","lat":1,"lng":1}"#)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let calls = Calls::default();
    let router = tracker(&calls, "", 200).await;
    assert_eq!(post(&router, "{").await.status, 400);
    assert!(calls.take().is_empty());
    get(&router, "/vehicles/Unknown").await.is_error(
        500,
        "Internal Server Error",
        "no report of a vehicle called Unknown",
        "/vehicles/Unknown",
    );
    get(&router, "/")
        .await
        .is_error(404, "Not Found", "No message available", "/");
    let answer = send(&router, Method::PUT, "/vehicles/", "", &[]).await;
    answer.is_error(
        405,
        "Method Not Allowed",
        "Request method 'PUT' not supported",
        "/vehicles/",
    );
    assert_eq!(answer.headers["allow"], "GET, POST, DELETE");
    assert_eq!(get(&router, "/health").await.status, 200);
}
