//! Strangers at the control plane's port 15010, who get neither configuration nor certificates, and other
//! users of the machine at a proxy's admin interface.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::{dojo::Dojo, kubectl};
use mesh_config::{Interception, ProxyId, Role, SignedCertificate};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;

use crate::{page, pod, pods};

/// Asks every door with every kind of token.
pub(crate) async fn are_told_nothing(dojo: &Dojo, file: &Path) -> anyhow::Result<()> {
    let (_, istiod) = pod(dojo, "istio-system", "app=istiod").await?;
    let at = format!("http://{istiod}:15010");
    let http = reqwest::Client::builder().no_proxy();
    let http = http.timeout(Duration::from_secs(60)).build()?;
    let reviews = pods(dojo, "default", "app=reviews").await?;
    let [(pod, address), (neighbour, _), ..] = &reviews[..] else {
        anyhow::bail!("{reviews:?}");
    };
    let proxy = ProxyId {
        role: Role::Sidecar,
        pod: pod.clone(),
        namespace: "default".into(),
        address: address.parse()?,
        interception: Interception::Redirect,
    };

    let create = |account: &str, more: &[&str]| -> anyhow::Result<String> {
        let command = [&["create", "token", account], more].concat();
        Ok(kubectl::ok(file, &command, "")?.trim().to_owned())
    };
    let istio = ["--audience", "istio-ca"];
    let bound = |pod: &str| {
        let to = ["--bound-object-kind", "Pod", "--bound-object-name", pod];
        create("bookinfo-reviews", &[&istio[..], &to].concat())
    };
    let own = bound(pod)?;
    // What another cluster signs: the same claims, another key.
    let (claims, signature) = own.rsplit_once('.').context("a token")?;
    let foreign = format!("{claims}.{}", signature.chars().rev().collect::<String>());
    // Who asks; what the doors to a pod's configuration say, and what the authority says.
    let callers = [
        ("nobody", None, 401, 401),
        ("no token at all", Some("guess".to_owned()), 401, 401),
        ("another cluster", Some(foreign), 401, 401),
        (
            "a token for somebody else to read",
            Some(create("bookinfo-reviews", &["--audience", "vault"])?),
            401,
            401,
        ),
        (
            "a token for the API server",
            Some(create("bookinfo-reviews", &[])?),
            401,
            401,
        ),
        // Another's configuration is not told; each gets a certificate of its own alone.
        (
            "another ServiceAccount",
            Some(create("bookinfo-details", &istio)?),
            403,
            400,
        ),
        (
            "a neighbour of the same ServiceAccount",
            Some(bound(neighbour)?),
            403,
            200,
        ),
        ("the pod itself", Some(own), 200, 200),
    ];

    let identity = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    let request = params.serialize_request(&key)?.pem()?;
    for (who, token, configuration, certificate) in callers {
        let ask = async |request: reqwest::RequestBuilder| {
            let request = match &token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            request.send().await.with_context(|| who)
        };
        let node = [("node", serde_json::to_string(&proxy)?)];
        let stream = ask(http.get(format!("{at}/v1/config")).query(&node)).await?;
        ensure!(stream.status() == configuration, "{who}: {stream:?}");
        let polled = json!({ "node": { "id": proxy.node_id() } }).to_string();
        let polling = http.post(format!("{at}/v3/discovery:clusters"));
        let polling = polling.header("content-type", "application/json");
        let polled = ask(polling.body(polled)).await?;
        ensure!(polled.status() == configuration, "{who}: {polled:?}");
        let signing = http.post(format!("{at}/v1/certificate"));
        let signed = ask(signing.body(request.clone())).await?;
        let status = signed.status();
        let text = signed.text().await?;
        ensure!(status == certificate, "{who}: {status} {text}");
        let chain = serde_json::from_str::<SignedCertificate>(&text);
        ensure!(chain.is_ok() == (certificate == 200), "{who}: {text}");
    }
    Ok(())
}

/// A proxy's admin interface answers processes of its own user and of root.
pub(crate) async fn are_refused_at_the_admin_interface(dojo: &Dojo) -> anyhow::Result<()> {
    let (_, details) = pod(dojo, "default", "app=details").await?;
    let [a, b, c, d] = details.parse::<Ipv4Addr>()?.octets();
    let url = format!(
        "http://{}:15000/server_info",
        Ipv4Addr::new(a, b, c + 192, d)
    );
    ensure!(page(&[&url])?.0 == "200");
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: who is not root cannot become another user of the machine");
        return Ok(());
    }
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl"])
        .args(["-sS", "--max-time", "10", "--noproxy", "*", &url])
        .stdin(Stdio::null())
        .output()
        .context("setpriv")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("answers its pod"), "{text} {output:?}");
    Ok(())
}
