//! The web pages of the samples in a real browser, as a student uses them.

use anyhow::ensure;
use axum::Router;
use clap::Parser;
use dojo_kit::{Identity, Kit};
use dojo_tests::browser::Browser;

fn kit(service: &'static str, version: &str) -> Kit {
    let mut identity = Identity::new(service, version);
    identity.pod = Some(format!("{service}-{version}-7d4bcbd5c6-x2x5l"));
    Kit::new(identity, None).expect("a client")
}

/// Serves a whole service; its address.
async fn serve(kit: &Kit, router: Router) -> String {
    serve_whole(dojo_kit::assemble(kit, router)).await
}

async fn serve_whole(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let forever = std::future::pending();
    tokio::spawn(dojo_kit::server::serve(listener, router, forever));
    address
}

mod bookstore {
    use super::*;
    use bookinfo::{details, productpage, ratings, reviews};

    #[derive(Parser)]
    struct Reviews {
        #[command(flatten)]
        args: reviews::Args,
    }

    #[derive(Parser)]
    struct Page {
        #[command(flatten)]
        args: productpage::Args,
    }

    async fn ratings() -> String {
        let kit = kit("ratings", "v1");
        serve(&kit, ratings::router(&kit)).await
    }

    async fn reviews(version: &str, ratings: &str) -> String {
        let port = ratings.rsplit(':').next().expect("a port");
        let line = [
            "reviews",
            "--version",
            version,
            "--ratings-hostname",
            "127.0.0.1",
        ];
        let line = line.into_iter().chain(["--ratings-port", port]);
        let config = Reviews::parse_from(line).args.config();
        let kit = kit("reviews", version);
        serve(&kit, reviews::router(&kit, config)).await
    }

    /// The address of a bookstore whose page asks this reviews.
    async fn shop(reviews: &str) -> String {
        let details_kit = kit("details", "v1");
        let router = details::router(&details_kit, details::Source::Own);
        let details = serve(&details_kit, router).await;
        let port = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
        let mut line = vec!["productpage".to_owned()];
        for (name, address) in [("details", details.as_str()), ("reviews", reviews)] {
            line.extend([format!("--{name}-hostname"), "127.0.0.1".into()]);
            line.extend([format!("--{name}-port"), port(address)]);
        }
        let config = Page::parse_from(line).args.config();
        let kit = kit("productpage", "v1");
        let page = serve(&kit, productpage::router(&kit, config)).await;
        format!("http://{page}/productpage")
    }

    const STARS: &str = "document.querySelectorAll('.glyphicon-star').length";
    /// The colour in which the first full star is seen, as rgb(...).
    const COLOUR: &str = "getComputedStyle(document.querySelector('.glyphicon-star')).color";

    #[tokio::test]
    async fn signing_in_and_out_and_stars_in_their_colours() -> anyhow::Result<()> {
        let Some(mut browser) = Browser::start().await? else {
            return Ok(());
        };
        let ratings = ratings().await;
        let black = shop(&reviews("v2", &ratings).await).await;
        browser.open(&black).await?;
        ensure!(browser.eval("document.title").await? == "Simple Bookstore App");
        ensure!(browser.eval(STARS).await? == 9, "5 and 4 stars");
        let colour = browser.eval(COLOUR).await?;
        browser.screenshot("bookinfo-black").await?;
        ensure!(is_grey(&colour), "black stars are {colour}");

        // Signing in happens in a dialog that is not there before its button is pressed.
        let shown = "document.querySelector('#sign-in').matches(':popover-open')";
        ensure!(browser.eval(shown).await? == false);
        browser
            .eval("document.querySelector('[popovertarget=sign-in]').click()")
            .await?;
        browser.until(shown).await?;
        browser.screenshot("bookinfo-sign-in").await?;
        browser
            .eval("document.querySelector('[name=username]').value = 'jason'; document.querySelector('#sign-in [type=submit]').click()")
            .await?;
        browser
            .until("document.body.innerText.includes('jason ( sign out )')")
            .await?;
        ensure!(browser.eval("location.pathname").await? == "/productpage");
        browser.screenshot("bookinfo-jason").await?;
        browser
            .eval("document.querySelector('a[href=logout]').click()")
            .await?;
        browser
            .until("document.querySelector('[popovertarget=sign-in]') !== null")
            .await?;
        ensure!(
            browser
                .eval("document.body.innerText.includes('jason')")
                .await?
                == false
        );

        let red = shop(&reviews("v3", &ratings).await).await;
        browser.open(&red).await?;
        let colour = browser.eval(COLOUR).await?;
        browser.screenshot("bookinfo-red").await?;
        ensure!(is_red(&colour), "red stars are {colour}");
        browser.emulate(420, 900, true).await?;
        browser.screenshot("bookinfo-red-small-dark").await?;

        let none = shop(&reviews("v1", &ratings).await).await;
        browser.open(&none).await?;
        ensure!(browser.eval(STARS).await? == 0, "v1 has no stars");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_missing_is_said_on_the_page() -> anyhow::Result<()> {
        let Some(mut browser) = Browser::start().await? else {
            return Ok(());
        };
        // Nobody listens on the discard port.
        browser.open(&shop("127.0.0.1:9").await).await?;
        browser
            .until("document.body.innerText.includes('Error fetching product reviews!')")
            .await?;
        browser.screenshot("bookinfo-no-reviews").await?;
        let reviews = reviews("v2", "127.0.0.1:9").await;
        browser.open(&shop(&reviews).await).await?;
        browser
            .until("document.body.innerText.includes('Ratings service is currently unavailable')")
            .await?;
        browser.screenshot("bookinfo-no-ratings").await?;
        browser.eval("location.href = '/'").await?;
        browser
            .until("document.body.innerText.includes('Hello! This is a simple bookstore')")
            .await?;
        browser.screenshot("bookinfo-landing").await?;
        Ok(())
    }

    fn parts(colour: &serde_json::Value) -> Vec<f64> {
        let text = colour.as_str().unwrap_or_default();
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        numbers.filter_map(|n| n.parse().ok()).collect()
    }

    fn is_red(colour: &serde_json::Value) -> bool {
        matches!(parts(colour)[..], [red, green, blue, ..] if red > 150.0 && green < 120.0 && blue < 120.0)
    }

    fn is_grey(colour: &serde_json::Value) -> bool {
        matches!(parts(colour)[..], [red, green, blue, ..] if (red - blue).abs() < 40.0 && (red - green).abs() < 40.0)
    }
}

mod fleet {
    use super::*;
    use dojo_kit::chaos::settings::Settings;
    use fleetman::propagation::PropagationArgs;
    use fleetman::staff_service::Config;
    use fleetman::webapp::Edition;
    use fleetman::{api_gateway, position_tracker, staff_service, vehicle_telemetry, webapp};
    use serde_json::json;
    use std::time::Duration;

    const PLACES: [(&str, f64, f64); 5] = [
        ("City Truck", 53.379_82, -1.466_23),
        ("Huddersfield Truck A", 53.630_01, -1.797_99),
        ("Huddersfield Truck B", 53.622_59, -1.806_52),
        ("London Riverside", 51.509_57, -0.079_61),
        ("Village Truck", 53.296_72, -1.634_84),
    ];

    /// The web page of a whole fleet, and its tracker.
    struct Fleet {
        page: String,
        tracker: String,
        client: reqwest::Client,
    }

    impl Fleet {
        async fn new(edition: Edition, staff: Config, chaos: Settings) -> anyhow::Result<Self> {
            let telemetry =
                serve(&kit("vehicle-telemetry", "v1"), vehicle_telemetry::router()).await;
            let own = kit("staff-service", "v1").with_chaos(chaos);
            let staff = serve_whole(staff_service::service(&own, staff)).await;
            let own = kit("position-tracker", "v1");
            let config = position_tracker::Config {
                vehicle_telemetry: upstream(&telemetry),
                staff_service: upstream(&staff),
                propagation: PropagationArgs::default(),
            };
            let tracker = serve(&own, position_tracker::router(&own, config)).await;
            let own = kit("api-gateway", "v1");
            let config = api_gateway::Config {
                position_tracker: upstream(&tracker),
                staff_service: upstream(&staff),
                propagation: PropagationArgs::default(),
            };
            let gateway = serve(&own, api_gateway::router(&own, config)).await;
            let own = kit("webapp", "v1");
            let page = serve(&own, webapp::router(&own, edition, upstream(&gateway))).await;
            let client = reqwest::Client::builder().no_proxy().build()?;
            Ok(Self {
                page: format!("http://{page}"),
                tracker: format!("http://{tracker}/vehicles/"),
                client,
            })
        }

        /// Every vehicle reports from a place so many steps further on.
        async fn report(&self, step: u32) -> anyhow::Result<()> {
            for (name, lat, lng) in PLACES {
                let far = f64::from(step) * 0.000_4;
                let time = format!("2023-11-13T05:31:{:02}.000+0000", step * 3 % 60);
                let report = json!({"name": name, "lat": lat - far, "lng": lng - far, "timestamp": time, "speed": null});
                let body = report.to_string();
                let request = self.client.post(&self.tracker).body(body);
                let request = request.header("content-type", "application/json");
                // A bad staff-service is a bad answer here, too, but the report is kept.
                request.send().await?;
            }
            Ok(())
        }
    }

    fn upstream(address: &str) -> fleetman::upstream::Upstream {
        address.parse().expect("an address")
    }

    /// The coordinates that the page gives of the chosen vehicle.
    const PLACE: &str = "document.getElementById('place').textContent";
    const TRAIL: &str = "document.getElementById('trail').getAttribute('d') ?? ''";

    #[tokio::test]
    async fn vehicles_move_and_the_driver_has_a_photo() -> anyhow::Result<()> {
        let Some(mut browser) = Browser::start().await? else {
            return Ok(());
        };
        let fleet = Fleet::new(Edition::Original, Config::Photos, Settings::default()).await?;
        for step in 0..6 {
            fleet.report(step).await?;
        }
        browser.open(&fleet.page).await?;
        ensure!(browser.eval("document.title").await? == "Fleet Management");
        browser
            .until("document.querySelectorAll('#rows tr').length === 5")
            .await?;
        browser
            .until("document.getElementById('live').textContent === 'Live'")
            .await?;
        browser
            .until("document.getElementById('driver').textContent === 'Driver: Pam Parry'")
            .await?;
        browser
            .until("(() => { const photo = document.getElementById('photo'); return photo.complete && photo.naturalWidth > 0 && photo.src.endsWith('/photos/1.svg'); })()")
            .await?;
        let speed = browser
            .eval("document.querySelector('#rows tr.picked').cells[2].textContent")
            .await?;
        let speed: f64 = speed.as_str().unwrap_or_default().parse()?;
        ensure!((5.0..110.0).contains(&speed), "{speed} mph");
        let (place, trail) = (browser.eval(PLACE).await?, browser.eval(TRAIL).await?);
        for step in 6..8 {
            fleet.report(step).await?;
        }
        browser.until(&format!("{PLACE} !== {place}")).await?;
        browser
            .until(&format!("({TRAIL}).length > {trail}.length"))
            .await?;
        browser.screenshot("fleetman").await?;

        // Another vehicle: its own driver, history and address.
        browser
            .eval("[...document.querySelectorAll('.pick')].find((b) => b.textContent === 'London Riverside').click()")
            .await?;
        browser
            .until("document.getElementById('driver').textContent === 'Driver: Herman Boyce'")
            .await?;
        ensure!(browser.eval("location.pathname").await? == "/vehicle/London%20Riverside");
        browser.screenshot("fleetman-london").await?;
        browser
            .eval("document.getElementById('whole').click()")
            .await?;
        browser.emulate(420, 900, true).await?;
        browser
            .until("innerWidth === 420 && matchMedia('(prefers-color-scheme: dark)').matches")
            .await?;
        browser.screenshot("fleetman-small-dark").await
    }

    #[tokio::test]
    async fn the_experimental_edition_says_so_and_stays_at_its_address() -> anyhow::Result<()> {
        let Some(mut browser) = Browser::start().await? else {
            return Ok(());
        };
        let fleet = Fleet::new(
            Edition::Experimental,
            Config::Placeholder,
            Settings::default(),
        )
        .await?;
        fleet.report(0).await?;
        browser
            .open(&format!("{}/experimental", fleet.page))
            .await?;
        let name = "Istio Premium Enterprise Edition";
        ensure!(browser.eval("document.title").await? == format!("Fleet Management {name}"));
        let heading = browser
            .eval("document.querySelector('h1').textContent")
            .await?;
        ensure!(heading == format!("Fleet Manager {name}"), "{heading}");
        browser
            .until("document.getElementById('driver').textContent === 'Driver: Pam Parry'")
            .await?;
        ensure!(
            browser
                .eval("document.getElementById('photo').src.endsWith('/photos/placeholder.svg')")
                .await?
                == true
        );
        ensure!(browser.eval("location.pathname").await? == "/experimental");
        browser.screenshot("fleetman-experimental").await
    }

    #[tokio::test]
    async fn an_error_is_shown_with_its_code() -> anyhow::Result<()> {
        let Some(mut browser) = Browser::start().await? else {
            return Ok(());
        };
        let bad = staff_service::bad::chaos(1.0, Duration::ZERO);
        let fleet = Fleet::new(Edition::Original, Config::Placeholder, bad).await?;
        fleet.report(0).await?;
        browser.open(&fleet.page).await?;
        browser
            .until("document.getElementById('toast').textContent === 'Error code 500 occured. status 502 reading RemoteStaffMicroserviceCalls#getDriverFor(String)'")
            .await?;
        ensure!(
            browser
                .eval("document.getElementById('driver').textContent")
                .await?
                == "Driver: unknown"
        );
        browser.screenshot("fleetman-error").await?;
        browser
            .until("document.querySelectorAll('#rows tr').length === 5")
            .await
    }
}
