//! Who speaks with whom, as a student sees it: certificates, metrics, secrets, a tap.

use std::process::Command;

use anyhow::ensure;
use dojo_tests::{
    bookstore::{Reader, Reading},
    dojo::{Dojo, eventually},
};

use crate::{SOON, page, pod};

/// `openssl` reads the identity of a workload from its certificate.
pub(crate) fn an_identity_can_be_read(url: &str) -> anyhow::Result<()> {
    let host = url
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or_default();
    let script = format!(
        "openssl s_client -connect {host} -alpn istio </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
    );
    let output = Command::new("sh").args(["-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains("critical")
            && text.contains("URI:spiffe://cluster.local/ns/default/sa/bookinfo-details"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Prometheus, which has no certificate, reads who called whom.
pub(crate) async fn metrics_prove_it(dojo: &Dojo) -> anyhow::Result<()> {
    let metrics = format!(
        "http://{}:15020/stats/prometheus",
        pod(dojo, "default", "app=details").await?.1
    );
    let reader = Reader::new(dojo.port)?;
    eventually("mutual_tls in metrics", SOON, async || {
        reader.stars().await?;
        let (_, text) = page(&[&metrics])?;
        let proven = text.lines().any(|line| {
            line.starts_with("istio_requests_total")
                && line.contains("connection_security_policy=\"mutual_tls\"")
                && line.contains("source_principal=\"spiffe://cluster.local/ns/default/sa/bookinfo-productpage\"")
        });
        ensure!(proven, "{text}");
        Ok(())
    })
    .await
}

/// `meshdojo proxy-config secret` in istioctl's columns.
pub(crate) fn secrets_can_be_listed(dojo: &Dojo) -> anyhow::Result<()> {
    let printed = dojo.meshdojo(&["proxy-config", "secret", "deploy/details-v1"])?;
    let text = String::from_utf8_lossy(&printed.stdout);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect()
        })
        .collect();
    let heads = "RESOURCE NAME|TYPE|STATUS|VALID CERT|SERIAL NUMBER|NOT AFTER|NOT BEFORE";
    ensure!(
        rows.len() == 3
            && rows[0].join("|") == heads
            && rows[1][..4] == ["default", "Cert Chain", "ACTIVE", "true"]
            && rows[2][..4] == ["ROOTCA", "CA", "ACTIVE", "true"],
        "{text}{}",
        String::from_utf8_lossy(&printed.stderr)
    );
    // The key itself is not for anyone to see.
    let json = dojo.meshdojo(&["proxy-config", "secret", "deploy/details-v1", "-o", "json"])?;
    let secrets: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    let hidden = "W3JlZGFjdGVkXQ==";
    ensure!(secrets.to_string().contains(hidden), "{secrets}");
    Ok(())
}

/// `meshdojo tap --raw`: in the clear at the application, a TLS record between the pods.
pub(crate) async fn a_tap_shows_the_wire(dojo: &Dojo) -> anyhow::Result<()> {
    let reading = Reading::start(dojo.port);
    // Every page asks details once.
    let shown = dojo.meshdojo(&[
        "tap",
        "deploy/details-v1",
        "--raw",
        "--count",
        "3",
        "--for",
        "60",
    ]);
    reading.no_page_was_wrong()?;
    let shown = shown?;
    let text = String::from_utf8_lossy(&shown.stdout);
    for expected in [
        "TLS application data record",
        "HTTP request in the clear",
        "|GET /details/0 H|",
        "inbound  200 -",
        "route=default",
        "spiffe://cluster.local/ns/default/sa/bookinfo-productpage -> spiffe://cluster.local/ns/default/sa/bookinfo-details",
    ] {
        ensure!(
            text.contains(expected),
            "no {expected:?} in {text}{}",
            String::from_utf8_lossy(&shown.stderr)
        );
    }
    Ok(())
}
