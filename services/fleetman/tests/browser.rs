//! The page in a real browser: headless Chromium, where the machine has one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::Request;
use dojo_kit::{Identity, Kit};
use fleetman::propagation::PropagationArgs;
use fleetman::upstream::Upstream;
use fleetman::webapp::Edition;
use fleetman::{api_gateway, staff_service, webapp};

fn kit(service: &'static str) -> Kit {
    Kit::new(Identity::new(service, "v1"), None).expect("a client")
}

async fn serve(router: Router) -> Upstream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(dojo_kit::server::serve(
        listener,
        router,
        std::future::pending(),
    ));
    address.to_string().parse().expect("an address")
}

/// A tracker with one truck, which moves on whenever it is asked.
fn tracker() -> Router {
    let asked = Arc::new(AtomicU32::new(0));
    Router::new().fallback(move |request: Request| async move {
        let report = |second: u32| {
            format!(r#"{{"name":"City Truck","lat":53.378{second:03},"lng":-1.4622,"timestamp":"2023-11-13T05:31:22.000+0000","speed":24.75}}"#)
        };
        if request.uri().path() == "/vehicles/" {
            format!("[{}]", report(asked.fetch_add(1, Ordering::Relaxed) + 2))
        } else {
            format!("[{},{}]", report(1), report(0))
        }
    })
}

/// The page's document after some seconds, as the browser sees it then. None: no browser here.
async fn document(edition: Edition, path: &str, staff: staff_service::Config) -> Option<String> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(browser) = browser else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs a browser: install Debian's package chromium"
        );
        eprintln!("SKIPPED: no Chromium on this machine (Debian: apt-get install chromium)");
        return None;
    };
    let config = api_gateway::Config {
        position_tracker: serve(tracker()).await,
        staff_service: serve(staff_service::router(&kit("staff-service"), staff)).await,
        propagation: PropagationArgs::default(),
    };
    let gateway = serve(api_gateway::router(&kit("api-gateway"), config)).await;
    let page = serve(webapp::router(&kit("webapp"), edition, gateway)).await;
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = tokio::process::Command::new(browser);
    command
        .args("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run".split(' '))
        .args(
            "--disable-background-networking --disable-component-update --disable-sync".split(' '),
        )
        .args(["--virtual-time-budget=8000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("{page}{path}"))
        .env_remove("http_proxy")
        .kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(90), command.output())
        .await
        .expect("the browser ends")
        .expect("the browser starts");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[tokio::test]
async fn the_truck_moves_and_its_driver_has_a_photo() {
    let Some(document) = document(Edition::Original, "/", staff_service::Config::Photos).await
    else {
        return;
    };
    assert!(document.contains("<title>Fleet Management</title>"));
    for part in [
        ">Live</p>",
        "<h2 id=\"vehicle\">City Truck</h2>",
        "Driver: Pam Parry",
        "src=\"/photos/1.svg\"",
        "alt=\"Photo of Pam Parry\"",
        "<td>25</td>",
    ] {
        assert!(document.contains(part), "{part} is missing in {document}");
    }
    let trail = document
        .split_once("<path id=\"trail\"")
        .expect("a trail")
        .1;
    let trail = trail.split_once(" d=\"").expect("a line").1;
    let trail = trail.split_once('"').expect("an end").0;
    // Two places of the history, and those that the page has seen.
    assert!(trail.matches('L').count() >= 3, "{trail}");
}

#[tokio::test]
async fn the_experimental_edition_says_so_and_stays_at_its_address() {
    let Some(document) = document(
        Edition::Experimental,
        "/experimental",
        staff_service::Config::Placeholder,
    )
    .await
    else {
        return;
    };
    assert!(document.contains("<title>Fleet Management Istio Premium Enterprise Edition</title>"));
    assert!(document.contains("<h1>Fleet Manager Istio Premium Enterprise Edition</h1>"));
    assert!(document.contains("src=\"/photos/placeholder.svg\""));
    assert!(document.contains("Driver: Pam Parry"));
}

#[tokio::test]
async fn an_error_is_shown_with_its_code() {
    let bad = staff_service::bad::Badness::new(1.0, std::time::Duration::ZERO, Some(1));
    let Some(document) = document(Edition::Original, "/", staff_service::Config::Bad(bad)).await
    else {
        return;
    };
    for part in [
        "Error code 500 occured. status 502 reading RemoteStaffMicroserviceCalls#getDriverFor(String)",
        "Driver: unknown",
    ] {
        assert!(document.contains(part), "{part} is missing in {document}");
    }
}
