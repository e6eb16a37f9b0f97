//! HTTPS at the gateway, with a certificate of `meshdojo certs`.

use std::path::Path;

use anyhow::ensure;
use dojo_tests::{
    dojo::{Dojo, eventually, meshdojo},
    kubectl,
};

use crate::{SOON, curl, page};

pub(crate) async fn https_at_the_gateway(dojo: &Dojo, file: &Path) -> anyhow::Result<()> {
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
