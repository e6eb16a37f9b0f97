//! The tools as whole programs against a real server: command line in, output and exit status out.

mod server;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// What a program left behind.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

/// Runs a tool in a process of its own, with these variables and no others that matter.
async fn tool(words: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(program());
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "no_proxy",
        "NO_PROXY",
        "DOJO_LISTEN_IP",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("the tool ends").expect("the tool starts");
    Ran {
        status: output.status.code().expect("an exit status"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// The example `tool`, which cargo builds beside the tests.
fn program() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("this test");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("a folder");
    let program = folder.join("examples/tool");
    assert!(
        program.exists(),
        "build it first: cargo build -p dojo-tools --example tool"
    );
    program
}

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

#[tokio::test]
async fn fortio_curl_shows_headers_on_errors_stream_and_the_body_on_output() {
    let address = server::start().await;
    let ran = tool(&["fortio", "curl", &url(address, "/get")], &[]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.err.starts_with("HTTP/1.1 200 OK\r\n"), "{}", ran.err);
    assert!(ran.out.contains("\"uri\":\"/get\""), "{}", ran.out);
    let ran = tool(&["/usr/bin/fortio", "curl", &url(address, "/fail")], &[]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err
            .starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn fortio_load_counts_codes_and_sockets() {
    let address = server::start().await;
    let words = [
        "fortio",
        "load",
        "-c",
        "2",
        "-qps",
        "0",
        "-n",
        "20",
        "-loglevel",
        "Warning",
    ];
    let ran = tool(&[&words[..], &[&url(address, "/odd")]].concat(), &[]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert_eq!(ran.out, "");
    for line in [
        "Starting at max qps with 2 thread(s)",
        "\nCode 200 : 10 (50.0 %)\nCode 503 : 10 (50.0 %)\n",
        "\nAll done 20 calls (plus 0 warmup) ",
        "[WRN] Non ok http code 503\n",
        "\n# target 50% ",
    ] {
        assert!(ran.err.contains(line), "{line:?} in {}", ran.err);
    }
    // Each refusal closes its connection; the last ones need no other.
    let sockets = ran.err.split("Sockets used: ").nth(1).expect("the line");
    let sockets: u32 = sockets
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!((10..=12).contains(&sockets), "{sockets}");
}

#[tokio::test]
async fn fortio_load_gives_up_when_the_warm_up_fails() {
    let address = server::start().await;
    let url = url(address, "/fail");
    let ran = tool(
        &["fortio", "load", "-c", "1", "-t", "1s", "-quiet", &url],
        &[],
    )
    .await;
    assert_eq!(ran.status, 1);
    let line = format!("Aborting because of error 500 for {url} (");
    assert!(ran.err.contains(&line), "{}", ran.err);
    let words = [
        "fortio", "load", "-c", "2", "-qps", "8", "-t", "1s", "-quiet",
    ];
    let ran = tool(
        &[&words[..], &["--allow-initial-errors", &url]].concat(),
        &[],
    )
    .await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(
        ran.err
            .contains("\nCode 500 : 8 (100.0 %)\nAll done 8 calls (plus 2 warmup) "),
        "{}",
        ran.err
    );
    assert!(
        ran.err
            .contains("Sockets used: 10 (for perfect keepalive, would be 2)"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn an_answer_that_takes_too_long_has_code_minus_one() {
    let address = server::start().await;
    let words = [
        "fortio", "load", "-c", "1", "-n", "2", "-qps", "0", "-timeout", "50ms", "-quiet",
    ];
    let ran = tool(&[&words[..], &[&url(address, "/slow")]].concat(), &[]).await;
    assert!(
        ran.err.contains("\nCode  -1 : 2 (100.0 %)\n"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn siege_reports_availability() {
    let address = server::start().await;
    let url = format!(
        "{} POST {{\"vaccineId\":1, \"userId\":5}}",
        url(address, "/odd")
    );
    let words = [
        "siege",
        "-c2",
        "-r10",
        "-b",
        "-v",
        "--content-type",
        "application/json",
        &url,
    ];
    let ran = tool(&words, &[]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.err.starts_with("** SIEGE 4.0.4\n** Preparing 2 concurrent users for battle.\nThe server is now under siege...\n"));
    assert!(ran.err.contains("Lifting the server siege...\nTransactions:\t\t          10 hits\nAvailability:\t\t       50.00 %\n"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 20, "{}", ran.out);
    let tail = format!(" bytes ==> POST http://{address}/odd");
    assert!(
        ran.out
            .lines()
            .all(|line| line.starts_with("HTTP/1.1 ") && line.ends_with(&tail)),
        "{}",
        ran.out
    );
}

#[tokio::test]
async fn siege_ends_in_time_whatever_the_server_does() {
    let address = server::start().await;
    let started = std::time::Instant::now();
    let ran = tool(&["siege", "-c5", "-t1S", &url(address, "/slow")], &[]).await;
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(
        ran.err.contains("Elapsed time:\t\t        1.0"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn http_shows_the_body_when_piped_and_more_when_asked() {
    let address = server::start().await;
    let ran = tool(&["http", "PUT", &url(address, "/down")], &[]).await;
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.starts_with("{\"method\":\"PUT\",\"uri\":\"/down\""),
        "{}",
        ran.out
    );
    let address_ = url(address, "/b");
    let words = [
        "http",
        "--print=hb",
        "--pretty=format",
        &address_,
        "userId:=5",
        "name=x",
        "q==1",
    ];
    let ran = tool(&words, &[]).await;
    assert!(ran.out.starts_with("HTTP/1.1 200 OK\n"), "{}", ran.out);
    for part in [
        "\"method\": \"POST\"",
        "\"uri\": \"/b?q=1\"",
        "\"userId\": 5",
        "\nContent-Type: application/json\n",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
}

#[tokio::test]
async fn http_has_httpie_s_exit_statuses() {
    let address = server::start().await;
    let (fail, slow, moved) = (
        url(address, "/fail"),
        url(address, "/slow"),
        url(address, "/moved"),
    );
    assert_eq!(tool(&["http", &fail], &[]).await.status, 0);
    assert_eq!(
        tool(&["http", "--check-status", &fail], &[]).await.status,
        5
    );
    let ran = tool(&["http", "--timeout=0.1", &slow], &[]).await;
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (2, "http: error: Request timed out (0.1s).\n")
    );
    let ran = tool(&["http", "-F", &moved], &[]).await;
    assert!(ran.out.contains("\"uri\":\"/?moved\""), "{}", ran.out);
    assert_eq!(
        tool(&["http", "-F", "--max-redirects=0", &moved], &[])
            .await
            .status,
        6
    );
    assert_eq!(
        tool(&["http", "--check-status", &moved], &[]).await.status,
        3
    );
    let ran = tool(&["http", "http://127.0.0.1:1/"], &[]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err
            .contains("connection to 127.0.0.1:1: Connection refused"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn load_reports_in_json_and_text() {
    let address = server::start().await;
    let url = url(address, "/odd");
    let ran = tool(&["load", "-n", "100", "-c", "5", "-o", "json", &url], &[]).await;
    assert_eq!(ran.status, 0, "{}", ran.err);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["requests"], 100);
    assert_eq!(
        report["statuses"],
        serde_json::json!({"200": 50, "503": 50})
    );
    assert_eq!(report["sockets"], 5);
    let words = [
        "load",
        "-r",
        "50",
        "-d",
        "1100ms",
        "-c",
        "2",
        "--progress",
        "always",
        &url,
    ];
    let ran = tool(&words, &[]).await;
    assert!(ran.err.starts_with("1 s of 1.1 s  "), "{}", ran.err);
    assert!(
        ran.out.contains("(50 wanted)") && ran.out.contains('█'),
        "{}",
        ran.out
    );
    let ran = tool(&["load", "-n", "2", "http://127.0.0.1:1/"], &[]).await;
    assert_eq!(ran.status, 1);
    assert!(
        ran.err
            .contains("no request could be sent: connection to 127.0.0.1:1"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn tools_go_by_the_door_and_leave_from_the_container_s_address() {
    let door = server::start().await;
    let proxy = format!("http://{door}");
    let pod = [
        ("http_proxy", proxy.as_str()),
        ("DOJO_LISTEN_IP", "127.0.0.77"),
    ];
    for words in [
        vec!["fortio", "curl", "http://reviews:9080/reviews/0"],
        vec!["http", "reviews:9080/reviews/0"],
    ] {
        let ran = tool(&words, &pod).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        for part in [
            "\"uri\":\"http://reviews:9080/reviews/0\"",
            "\"host\":\"reviews:9080\"",
            "\"peer\":\"127.0.0.77\"",
        ] {
            assert!(ran.out.contains(part), "{part} in {}", ran.out);
        }
    }
    let ran = tool(&["load", "-n", "10", "-o", "json", "reviews:9080"], &pod).await;
    assert!(
        ran.out.contains("\"statuses\":{\"200\":10}"),
        "{}{}",
        ran.out,
        ran.err
    );
    let ran = tool(&["siege", "-c1", "-r2", "-b", "reviews:9080"], &pod).await;
    assert!(
        ran.err.contains("Availability:\t\t      100.00 %"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn mistakes_have_the_exit_statuses_of_the_tools() {
    for (words, status, message) in [
        (
            vec!["fortio", "load", "-nope", "x"],
            2,
            "flag provided but not defined: -nope",
        ),
        (vec!["fortio", "load"], 1, "need a url"),
        (vec!["fortio", "fly"], 1, "unknown command \"fly\""),
        (vec!["fortio", "curl", "ftp://x"], 1, "use http or https"),
        (vec!["siege"], 1, "no address to besiege"),
        (vec!["http"], 1, "the following arguments are required: URL"),
        (vec!["load", "-c", "0", "x"], 2, "1..=10000"),
    ] {
        let ran = tool(&words, &[]).await;
        assert_eq!(ran.status, status, "{words:?} {}", ran.err);
        assert!(ran.err.contains(message), "{words:?} {}", ran.err);
    }
}
