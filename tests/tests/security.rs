//! Identity, mutual TLS and authorization on a whole cluster, with the clients that a student has:
//! kubectl, curl, openssl and a browser's worth of pages.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::{
    bookstore::{Reader, Stars},
    dojo::{Dojo, eventually, meshdojo},
    kubectl,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};

/// A change may take this long to be seen on a busy machine; it takes some milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// Clients of the mesh change between TLS and plain text so much later than servers.
const CLIENTS_FOLLOW: Duration = Duration::from_secs(3);

fn curl(args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "10", "--noproxy", "*"])
        .args(args);
    command.env_remove("http_proxy").output().context("curl")
}

/// Status and body of a page.
fn page(args: &[&str]) -> anyhow::Result<(String, String)> {
    let output = curl(&[&["-w", "\n%{http_code}"], args].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').context("a status")?;
    Ok((status.to_owned(), body.to_owned()))
}

async fn address(dojo: &Dojo, labels: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(dojo.client().await?, "default");
    let pods = pods.list(&ListParams::default().labels(labels)).await?;
    let pod = pods.items.first().context("a pod")?;
    pod.status
        .as_ref()
        .and_then(|status| status.pod_ip.clone())
        .context("an address")
}

fn peer_authentication(namespace: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

/// Pages for as long as it is not told to stop; every one must be right. On a thread of its own,
/// because what the test does meanwhile blocks.
fn keep_reading(port: u16, stop: &Arc<AtomicBool>) -> JoinHandle<anyhow::Result<usize>> {
    let stop = stop.clone();
    let reading = async move {
        let reader = Reader::new(port)?;
        let mut pages = 0;
        while !stop.load(Relaxed) {
            let stars = reader.stars().await?;
            let right = matches!(stars, Stars::None | Stars::Black | Stars::Red);
            ensure!(right, "{stars:?} after {pages} pages");
            pages += 1;
        }
        Ok(pages)
    };
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build()?.block_on(reading)
    })
}

#[tokio::test]
async fn who_may_call_whom() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["bookinfo"])?;
    let file = dojo.kubeconfig();
    let apply = |yaml: &str| kubectl::ok(&file, &["apply", "-f", "-"], yaml);
    let delete = |kind: &str, name: &str| kubectl::ok(&file, &["delete", kind, name], "");
    let details = format!(
        "http://{}:9080/details/0",
        address(&dojo, "app=details").await?
    );

    // Permissive: anybody is served, and the mesh speaks mutual TLS within.
    ensure!(page(&[&details])?.0 == "200");
    an_identity_can_be_read(&details)?;
    metrics_prove_it(&dojo).await?;
    secrets_can_be_listed(&dojo)?;
    a_tap_shows_the_wire(&dojo).await?;

    // Strict, under traffic: the mesh goes on, strangers are reset.
    let stop = Arc::new(AtomicBool::new(false));
    let reading = keep_reading(dojo.port, &stop);
    for mode in ["STRICT", "DISABLE", "STRICT", "PERMISSIVE", "STRICT"] {
        apply(&peer_authentication("istio-system", mode))?;
        eventually(mode, SOON, async || {
            let code = curl(&[&details])?.status.code();
            ensure!(
                (code == Some(56)) == (mode == "STRICT"),
                "curl ends with {code:?}"
            );
            Ok(())
        })
        .await?;
        // Until the mesh's clients speak as the mode says.
        tokio::time::sleep(CLIENTS_FOLLOW).await;
    }
    stop.store(true, Relaxed);
    let pages = reading
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(pages > 0);
    // The namespace outranks the mesh.
    apply(&peer_authentication("default", "PERMISSIVE"))?;
    eventually("the namespace's mode", SOON, async || {
        ensure!(page(&[&details])?.0 == "200");
        Ok(())
    })
    .await?;

    the_nearest_mode_holds(&file, &details).await?;
    denial_goes_before_permission(&file, &details).await?;

    // Policies: nothing, then productpage alone.
    apply(&policy("nothing", "{}"))?;
    eventually("nothing is allowed", SOON, async || {
        let (status, body) = page(&[&details])?;
        ensure!(
            status == "403" && body == "RBAC: access denied",
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    delete("authorizationpolicy", "nothing")?;
    let only = r#"{selector: {matchLabels: {app: details}}, rules: [{from: [{source: {principals: ["cluster.local/ns/default/sa/bookinfo-productpage"]}}], to: [{operation: {methods: [GET]}}]}]}"#;
    apply(&policy("details", only))?;
    eventually("productpage alone", SOON, async || {
        let (status, _) = page(&[&details])?;
        ensure!(status == "403", "{status}");
        let (status, body) = page(&[&format!("http://127.0.0.1:{}/api/v1/products/0", dojo.port)])?;
        ensure!(status == "200", "{status} {body}");
        Ok(())
    })
    .await?;
    delete("authorizationpolicy", "details")?;

    tokens_are_checked(&file, &details).await?;
    https_at_the_gateway(&dojo, &file).await
}

/// A port's mode outranks its workload's, that the namespace's, that the mesh's; UNSET asks the next.
async fn the_nearest_mode_holds(file: &Path, details: &str) -> anyhow::Result<()> {
    // Modes of the mesh, the namespace, the workload and its port ("" for no such rule), and
    // whether a caller without a certificate is served.
    // In turns, so that each row shows what it changes.
    const MODES: [([&str; 4], bool); 11] = [
        (["", "", "", ""], true),
        (["STRICT", "", "", ""], false),
        (["STRICT", "PERMISSIVE", "", ""], true),
        (["STRICT", "UNSET", "", ""], false),
        (["PERMISSIVE", "STRICT", "PERMISSIVE", ""], true),
        (["PERMISSIVE", "STRICT", "", ""], false),
        (["STRICT", "STRICT", "DISABLE", ""], true),
        (["UNSET", "STRICT", "UNSET", ""], false),
        (["PERMISSIVE", "PERMISSIVE", "STRICT", "PERMISSIVE"], true),
        (["PERMISSIVE", "PERMISSIVE", "PERMISSIVE", "STRICT"], false),
        (["STRICT", "", "DISABLE", "UNSET"], true),
    ];
    const RULES: [(&str, &str); 3] = [
        ("istio-system", "default"),
        ("default", "default"),
        ("default", "details"),
    ];
    let forget = |namespace: &str, name: &str| {
        let which = ["peerauthentication", name, "-n", namespace];
        let command = [&["delete", "--ignore-not-found"], &which[..]].concat();
        kubectl::ok(file, &command, "")
    };
    for (modes, served) in MODES {
        for ((namespace, name), mode) in RULES.into_iter().zip(modes) {
            if mode.is_empty() {
                forget(namespace, name)?;
                continue;
            }
            let port = match modes[3] {
                "" => String::new(),
                mode => format!(", portLevelMtls: {{\"9080\": {{mode: {mode}}}}}"),
            };
            let spec = match name {
                "details" => format!(
                    "{{selector: {{matchLabels: {{app: details}}}}, mtls: {{mode: {mode}}}{port}}}"
                ),
                _ => format!("{{mtls: {{mode: {mode}}}}}"),
            };
            let rule = format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
            );
            kubectl::ok(file, &["apply", "-f", "-"], &rule)?;
        }
        eventually(&format!("{modes:?}"), SOON, async || {
            let code = curl(&[details])?.status.code();
            let expected = if served { 0 } else { 56 };
            ensure!(code == Some(expected), "{modes:?}: curl ends with {code:?}");
            Ok(())
        })
        .await?;
    }
    for (namespace, name) in RULES {
        forget(namespace, name)?;
    }
    Ok(())
}

/// What a DENY names is refused, whatever ALLOW says; where there is an ALLOW, what none names is, too.
async fn denial_goes_before_permission(file: &Path, details: &str) -> anyhow::Result<()> {
    const THIS: &str = "rules: [{to: [{operation: {paths: [\"/details/*\"]}}]}]";
    const OTHER: &str = "rules: [{to: [{operation: {paths: [\"/other\"]}}]}]";
    // Rules of a DENY and of an ALLOW ("" for no such policy), and the status.
    // In turns, so that each row shows what it changes.
    for (deny, allow, status) in [
        ("", "", "200"),
        (THIS, "", "403"),
        (OTHER, "", "200"),
        ("", OTHER, "403"),
        ("", THIS, "200"),
        (THIS, THIS, "403"),
        (OTHER, THIS, "200"),
        ("rules: [{}]", THIS, "403"),
        ("", "rules: [{}]", "200"),
    ] {
        for (action, rules) in [("DENY", deny), ("ALLOW", allow)] {
            let name = action.to_lowercase();
            if rules.is_empty() {
                kubectl::ok(
                    file,
                    &["delete", "--ignore-not-found", "authorizationpolicy", &name],
                    "",
                )?;
            } else {
                let spec = format!("{{action: {action}, {rules}}}");
                kubectl::ok(file, &["apply", "-f", "-"], &policy(&name, &spec))?;
            }
        }
        eventually(
            &format!("{status} by {deny:?} and {allow:?}"),
            SOON,
            async || {
                let (seen, _) = page(&[details])?;
                ensure!(
                    seen == status,
                    "{seen}, not {status}, by DENY {deny:?} and ALLOW {allow:?}"
                );
                Ok(())
            },
        )
        .await?;
    }
    kubectl::ok(file, &["delete", "authorizationpolicy", "--all"], "")?;
    Ok(())
}

/// `openssl` reads the identity of a workload from its certificate.
fn an_identity_can_be_read(url: &str) -> anyhow::Result<()> {
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
async fn metrics_prove_it(dojo: &Dojo) -> anyhow::Result<()> {
    let metrics = format!(
        "http://{}:15020/stats/prometheus",
        address(dojo, "app=details").await?
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
fn secrets_can_be_listed(dojo: &Dojo) -> anyhow::Result<()> {
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
async fn a_tap_shows_the_wire(dojo: &Dojo) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let reading = keep_reading(dojo.port, &stop);
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
    stop.store(true, Relaxed);
    reading
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
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

async fn tokens_are_checked(file: &Path, details: &str) -> anyhow::Result<()> {
    let rules = r#"{jwtRules: [{issuer: me, jwks: '{"keys":[]}'}]}"#;
    let object = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: tokens, namespace: default}}\nspec: {rules}\n"
    );
    kubectl::ok(file, &["apply", "-f", "-"], &object)?;
    eventually("a bad token", SOON, async || {
        let (status, body) = page(&["-H", "Authorization: Bearer some.thing", details])?;
        ensure!(
            status == "401" && body.starts_with("Jwt is not in the form"),
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    // Without one the request passes.
    ensure!(page(&[details])?.0 == "200");
    kubectl::ok(file, &["delete", "requestauthentication", "tokens"], "")?;
    Ok(())
}

async fn https_at_the_gateway(dojo: &Dojo, file: &Path) -> anyhow::Result<()> {
    let folder = dojo.folder().join("lab-certificates");
    let out = folder.display().to_string();
    let made = meshdojo(
        &dojo.folder(),
        &["certs", "books.example", "--out", &out, "--secret", "books"],
    )?;
    ensure!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    kubectl::ok(
        file,
        &["apply", "-f", "-"],
        &String::from_utf8(made.stdout)?,
    )?;
    let gateway = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: books, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [books.example]
      tls: {mode: SIMPLE, credentialName: books}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: books, namespace: default}
spec:
  hosts: [books.example]
  gateways: [books]
  http: [{route: [{destination: {host: productpage, port: {number: 9080}}}]}]
";
    kubectl::ok(file, &["apply", "-f", "-"], gateway)?;
    let port = dojo.port + 363;
    let resolve = format!("books.example:{port}:127.0.0.1");
    let url = format!("https://books.example:{port}/api/v1/products");
    let authority = folder.join("ca.crt").display().to_string();
    eventually("HTTPS", SOON, async || {
        let known = page(&["--cacert", &authority, "--resolve", &resolve, &url])?;
        ensure!(known.0 == "200", "{known:?}");
        Ok(())
    })
    .await?;
    // An authority that nobody told us of, a name that nobody serves.
    let unknown = curl(&["--resolve", &resolve, &url])?;
    ensure!(unknown.status.code() == Some(60), "{unknown:?}");
    let other = format!("https://other.example:{port}/");
    let resolve = format!("other.example:{port}:127.0.0.1");
    let other = curl(&["-k", "--resolve", &resolve, &other])?;
    ensure!(other.status.code() == Some(35), "{other:?}");
    Ok(())
}
