//! The `meshdojo` command: exit codes, messages, two clusters side by side.

use std::{net::TcpListener, process::Output, time::Duration};

use anyhow::ensure;
use dojo_tests::{
    bookstore::Reader,
    dojo::{self, Dojo, eventually, free_port, meshdojo},
};

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_is_2_and_names_the_argument() {
    let home = tempfile::tempdir().unwrap();
    let long = "x".repeat(64);
    for (args, named) in [
        (&["sideways"][..], "sideways"),
        (&["up", "bookstore"], "bookstore"),
        (&["up", "--name", &long], "1 to 63 characters"),
        (&["up", "--name", "../x"], "lower-case letters"),
        (&["up", "--gateway-port", "0"], "--gateway-port"),
        (&["up", "--gateway-port", "70000"], "--gateway-port"),
        (&["status", "-o", "xml"], "xml"),
    ] {
        let output = meshdojo(home.path(), args).unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", err(&output));
        assert!(err(&output).contains(named), "{args:?}: {}", err(&output));
    }
}

#[test]
fn without_a_cluster_the_remedy_is_told() {
    let home = tempfile::tempdir().unwrap();
    for verb in ["kubeconfig", "env"] {
        let output = meshdojo(home.path(), &[verb]).unwrap();
        assert_eq!(code(&output), 4);
        assert!(
            err(&output).contains("start it with `meshdojo up`"),
            "{}",
            err(&output)
        );
        assert!(out(&output).is_empty());
    }
    let down = meshdojo(home.path(), &["down"]).unwrap();
    assert_eq!(
        (code(&down), err(&down).trim()),
        (0, r#"cluster "meshdojo" is not running"#)
    );
    let status = meshdojo(home.path(), &["status", "-o", "json"]).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["running"], false);
}

#[test]
fn a_port_in_use_is_4_and_starts_nothing() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().min(65_000);
    let output = meshdojo(home.path(), &["up", "--gateway-port", &port.to_string()]).unwrap();
    assert_eq!(code(&output), 4, "{}", err(&output));
    let message = err(&output);
    assert!(
        message.contains(&format!("127.0.0.1:{port}")) && message.contains("--gateway-port"),
        "{message}"
    );
    let status = meshdojo(home.path(), &["status"]).unwrap();
    assert!(out(&status).contains("not running"), "{}", out(&status));
}

#[test]
fn an_unwritable_home_is_4_and_named() {
    let output = meshdojo(
        "/proc/no-such-home".as_ref(),
        &["up", "--gateway-port", &free_port().to_string()],
    )
    .unwrap();
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(
        err(&output).contains("/proc/no-such-home") && err(&output).contains("MESHDOJO_HOME"),
        "{}",
        err(&output)
    );
}

#[test]
fn version_and_completion_print_data_only() {
    let home = tempfile::tempdir().unwrap();
    let version = meshdojo(home.path(), &["version"]).unwrap();
    assert_eq!(
        out(&version),
        format!("meshdojo {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish"] {
        let completion = meshdojo(home.path(), &["completion", shell]).unwrap();
        assert!(out(&completion).contains("meshdojo") && err(&completion).is_empty());
    }
}

#[tokio::test]
async fn two_clusters_stand_side_by_side_and_up_can_be_repeated() {
    let one = Dojo::up(&["bookinfo"]).unwrap();
    let two = Dojo::up(&["bookinfo"]).unwrap();
    for dojo in [&one, &two] {
        assert!(
            Reader::new(dojo.port)
                .unwrap()
                .page()
                .await
                .unwrap()
                .0
                .contains("<title>")
        );
    }
    let before = one.process().unwrap();
    let again = one.up_again(&["bookinfo"]).unwrap();
    assert!(
        err(&again).contains("is running already"),
        "{}",
        err(&again)
    );
    assert!(
        !err(&again).contains('\x1b'),
        "no control sequences in a pipe: {:?}",
        err(&again)
    );
    assert!(
        out(&again).contains(&format!("http://127.0.0.1:{}/productpage", one.port)),
        "{}",
        out(&again)
    );
    assert_eq!(one.process().unwrap(), before);

    assert!(one.meshdojo(&["down"]).unwrap().status.success());
    assert!(
        Reader::new(two.port).unwrap().page().await.is_ok(),
        "the other goes on"
    );

    // Its objects were kept; the application comes back without being applied.
    one.up_again(&["none"]).unwrap();
    eventually(
        "the page of the restarted cluster",
        Duration::from_secs(30),
        async || Reader::new(one.port)?.page().await.map(drop),
    )
    .await
    .unwrap();
}

/// `proxy-config`, `proxy-status` and `explain`, as somebody uses them who looks for a mistake.
#[tokio::test]
async fn proxies_tell_what_they_were_told_and_how_they_route() {
    let dojo = Dojo::up(&["bookinfo"]).unwrap();
    let jason = dojo::root().join("labs/book/02-request-routing/reviews-jason-v2.yaml");
    let typed = |args: &[&str]| -> anyhow::Result<String> {
        let output = dojo.meshdojo(args)?;
        ensure!(code(&output) == 0, "{args:?}: {}", err(&output));
        Ok(out(&output))
    };
    // A change takes a moment to come to a proxy: what is said in the end counts.
    let shows = async |args: &[&str], lines: &[&str]| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        eventually(&args.join(" "), Duration::from_secs(30), async || {
            let text = typed(args)?;
            for wanted in lines {
                let said = text.lines().any(|line| words(line).contains(wanted));
                ensure!(said, "no line {wanted:?} in\n{text}");
            }
            Ok(text)
        })
        .await
        .unwrap()
    };
    typed(&["kubectl", "apply", "-f", jason.to_str().unwrap()]).unwrap();

    const PAGE: &str = "deploy/productpage-v1";
    const REVIEWS: &str = "reviews.default.svc.cluster.local";
    let cluster = format!("{REVIEWS} 9080 v2 outbound EDS reviews.default");
    shows(
        &["proxy-config", "cluster", PAGE, "--fqdn", REVIEWS],
        &[
            "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE",
            &cluster,
        ],
    )
    .await;
    let route =
        format!("9080 {REVIEWS}:9080 reviews, reviews.default + 1 more... /* reviews.default");
    shows(&["pc", "routes", PAGE, "--name", "9080"], &[&route]).await;
    shows(
        &["pc", "l", PAGE, "--port", "9080"],
        &["0.0.0.0 9080 ALL Route: 9080"],
    )
    .await;
    let cluster = format!("outbound|9080|v2|{REVIEWS}");
    let healthy = format!("HEALTHY OK {cluster}");
    shows(&["pc", "ep", PAGE, "--cluster", &cluster], &[&healthy]).await;
    // As courses type it.
    let line = "kubectl exec deploy/productpage-v1 -c istio-proxy -- pilot-agent request GET ready";
    let words: Vec<&str> = line.split(' ').collect();
    shows(&words, &["LIVE"]).await;
    let json = typed(&["pc", "c", PAGE, "--subset", "v2", "-o", "json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        json.as_array()
            .unwrap()
            .iter()
            .any(|it| it["name"] == *cluster),
        "{json}"
    );

    let ask = [
        "explain",
        "GET",
        "http://reviews:9080/reviews/0",
        "--from",
        "productpage",
    ];
    let rule = "path /*, header end-user is \"jason\" [VirtualService reviews.default]";
    let v1 = format!("100% outbound|9080|v1|{REVIEWS}");
    shows(
        &ask,
        &[
            &format!("1 no {rule}"),
            "header end-user is \"jason\": the request has none",
            "2 matches path /* [VirtualService reviews.default]",
            &v1,
            "ROUND_ROBIN, subset v1, DestinationRule reviews.default",
            "reviews-v1 healthy",
        ],
    )
    .await;
    let as_jason = [&ask[..], &["-H", "end-user: jason"]].concat();
    let v2 = format!("100% {cluster}");
    let matches = format!("1 matches {rule}");
    shows(&as_jason, &[&matches, "2 not reached path /*", &v2]).await;
    let elsewhere = ["explain", "GET", "http://example.com/", "--from", PAGE];
    shows(
        &elsewhere,
        &["Virtual host allow_any (*)", "100% PassthroughCluster"],
    )
    .await;
    let gateway = [
        "explain",
        "GET",
        "http://localhost.test/productpage",
        "-n",
        "istio-system",
        "--from",
        "istio-ingressgateway",
    ];
    let to = "100% outbound|9080||productpage.default.svc.cluster.local";
    shows(&gateway, &["VirtualService bookinfo.default", to]).await;

    // All six pods and the gateway.
    let heads = "NAME CLUSTER CDS LDS EDS RDS ISTIOD VERSION";
    eventually(
        "all proxies are in step",
        Duration::from_secs(30),
        async || {
            let text = typed(&["proxy-status"])?;
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            ensure!(
                text.lines().next().map(words).as_deref() == Some(heads),
                "{text}"
            );
            let synced = |line: &&str| {
                words(line).contains("Kubernetes SYNCED SYNCED SYNCED SYNCED istiod-")
            };
            ensure!(text.lines().filter(synced).count() == 7, "{text}");
            Ok(())
        },
    )
    .await
    .unwrap();
    shows(
        &["ps", PAGE],
        &[
            "Clusters Match",
            "Endpoints Match",
            "Listeners Match",
            "Routes Match",
        ],
    )
    .await;

    let nobody = dojo.meshdojo(&["explain", "GET", "http://reviews:9080/", "--from", "nobody"]);
    let nobody = nobody.unwrap();
    assert_ne!(code(&nobody), 0);
    assert!(err(&nobody).contains("nobody"), "{}", err(&nobody));
}
