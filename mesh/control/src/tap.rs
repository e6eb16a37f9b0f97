//! `meshdojo tap`: what passes through a pod's proxy, live.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::pod_admin::{PodAdmin, PodArgs, client};

/// The longest line that a proxy sends.
const LINE_BYTES: usize = 256 * 1024;

/// `meshdojo tap`.
#[derive(clap::Args, Clone, Debug)]
pub struct TapArgs {
    #[command(flatten)]
    pod: PodArgs,
    /// Show the first bytes on each hop too, as the wire shows them: of HTTP the first line alone
    #[arg(long)]
    raw: bool,
    /// Show so many of them, headers and the secrets in them included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    bytes: Option<u16>,
    /// Stop after so many requests and connections
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Print text or json
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// Runs the verb until it is told to stop. `kubeconfig` leads to the cluster of this machine, used
/// unless KUBECONFIG is set.
///
/// # Errors
/// The pod's proxy cannot be watched.
pub async fn run(args: TapArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    let watching = watch(&args, kubeconfig);
    match args.seconds {
        None => watching.await,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), watching)
            .await
            .unwrap_or(Ok(())),
    }
}

async fn watch(args: &TapArgs, kubeconfig: &Path) -> anyhow::Result<()> {
    let mut admin = PodAdmin::connect(client(kubeconfig).await?, &args.pod).await?;
    let path = match (args.bytes, args.raw) {
        (Some(count), _) => format!("/tap?raw={count}"),
        (None, true) => "/tap?raw".to_owned(),
        (None, false) => "/tap".to_owned(),
    };
    let mut body = admin.get(&path).await?.into_body();
    eprintln!("watching {}; Ctrl-C ends it", args.pod.pod);
    let (mut pending, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the proxy broke off")?.into_data() else {
            continue;
        };
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            anyhow::ensure!(pending.len() <= LINE_BYTES, "the proxy's line is too long");
            if part.last() != Some(&b'\n') {
                continue;
            }
            let line = std::mem::take(&mut pending);
            let event: Value = serde_json::from_slice(&line)?;
            let text = match args.output.as_str() {
                "json" => String::from_utf8(line)?,
                _ => text(&event),
            };
            let mut out = io::stdout().lock();
            if out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                // Whoever read it has read enough.
                return Ok(());
            }
            seen += usize::from(event["event"] == "request" || event["event"] == "connection");
            if args.count.is_some_and(|count| seen >= count) {
                return Ok(());
            }
        }
    }
    anyhow::bail!("the proxy has ended")
}

/// An event as people read it.
fn text(event: &Value) -> String {
    let of = |name: &str| event[name].as_str().unwrap_or("-");
    // The date is today's.
    let time = of("time").get(11..23).unwrap_or_default();
    match event["event"].as_str() {
        Some("request") => format!(
            "{time} {:<8} {} {} {} ms  {} {}{}  route={} {}{}",
            of("direction"),
            event["response_code"],
            of("response_flags"),
            event["duration_ms"],
            of("method"),
            of("authority"),
            of("path"),
            of("route_name"),
            ends(event),
            why(of("response_code_details")),
        ),
        Some("connection") => format!(
            "{time} {:<8} TCP {} {} ms  {} bytes in, {} out  {}{}",
            of("direction"),
            of("response_flags"),
            event["duration_ms"],
            event["bytes_received"],
            event["bytes_sent"],
            ends(event),
            why(of("details")),
        ),
        Some("bytes") => {
            let bytes = STANDARD.decode(of("bytes")).unwrap_or_default();
            let dump = dump(&bytes);
            let hidden = match event["hidden"].as_u64() {
                Some(0) | None => String::new(),
                Some(more) => format!("             ({more} more bytes)\n"),
            };
            format!(
                "{time} {:<10} {} -> {}  {}\n{dump}{hidden}",
                of("hop"),
                of("from"),
                of("to"),
                of("kind"),
            )
        }
        Some("lost") => format!(
            "             {} lines were lost: too many at once\n",
            event["lines"]
        ),
        _ => format!("{event}\n"),
    }
}

/// What is worth saying of how it ended.
fn why(details: &str) -> String {
    match details {
        "" | "-" | "via_upstream" => String::new(),
        details => format!("             {details}\n"),
    }
}

fn ends(event: &Value) -> String {
    let of = |name: &str| event[name].as_str().unwrap_or("-");
    let principal = |name: &str| event[name].as_str().unwrap_or("?");
    let proven = ["source_principal", "destination_principal"].map(|name| event[name].is_string());
    let identities = match proven {
        [false, false] => "no mutual TLS".to_owned(),
        _ => format!(
            "{} -> {}",
            principal("source_principal"),
            principal("destination_principal")
        ),
    };
    format!(
        "{} -> {} {}\n             {identities}\n",
        of("downstream_remote_address"),
        of("upstream_cluster"),
        of("upstream_host")
    )
}

/// Sixteen bytes a line, in hexadecimal and as text.
fn dump(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let visible = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let text: String = chunk.iter().map(visible).collect();
        format!("             {:<47}  |{text}|\n", hex.join(" "))
    };
    bytes.chunks(16).map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_bytes_read_well() {
        let request = json!({
            "event": "request", "time": "2026-01-02T03:04:05.678Z", "direction": "inbound", "method": "GET",
            "authority": "details:9080", "path": "/details/0", "response_code": 403, "response_flags": "-",
            "response_code_details": "rbac_access_denied_matched_policy[none]", "route_name": "default",
            "duration_ms": 3, "downstream_remote_address": "127.16.0.5:4000",
            "upstream_cluster": "inbound|9080||", "upstream_host": null,
            "source_principal": "spiffe://a", "destination_principal": "spiffe://b",
        });
        let expected = "\
03:04:05.678 inbound  403 - 3 ms  GET details:9080/details/0  route=default 127.16.0.5:4000 -> inbound|9080|| -
             spiffe://a -> spiffe://b
             rbac_access_denied_matched_policy[none]
";
        assert_eq!(text(&request), expected);
        let bytes = json!({
            "event": "bytes", "time": "2026-01-02T03:04:05.678Z", "hop": "upstream", "from": "127.0.0.1:1",
            "to": "127.0.0.1:2", "kind": "HTTP request in the clear", "hidden": 40,
            "bytes": STANDARD.encode("GET /vehicles/ HTTP/1.1"),
        });
        let expected = "\
03:04:05.678 upstream   127.0.0.1:1 -> 127.0.0.1:2  HTTP request in the clear
             47 45 54 20 2f 76 65 68 69 63 6c 65 73 2f 20 48  |GET /vehicles/ H|
             54 54 50 2f 31 2e 31                             |TTP/1.1|
             (40 more bytes)
";
        assert_eq!(text(&bytes), expected);
    }
}
