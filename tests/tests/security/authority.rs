//! The certificate authority: an operator's intermediate takes over while the mesh runs.

use std::path::Path;

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use dojo_tests::{
    dojo::{Dojo, eventually},
    kubectl,
};
use mesh_config::SignedCertificate;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::{SOON, pod};

/// Secret `cacerts` with a certificate and a key under a root.
fn cacerts(certificate: &str, key: &str, root: &str) -> String {
    let data = json!({ "ca-cert.pem": certificate, "ca-key.pem": key, "root-cert.pem": root,
        "cert-chain.pem": certificate });
    let metadata = json!({ "name": "cacerts", "namespace": "istio-system" });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data })
        .to_string()
}

/// Without a restart, as long as the root stays; what is of no use changes nothing.
pub(crate) async fn an_intermediate_takes_over(dojo: &Dojo, file: &Path) -> anyhow::Result<()> {
    let get = ["get", "secret", "istio-ca-secret", "-n", "istio-system"];
    let own = kubectl::ok(file, &[&get[..], &["-o", "json"]].concat(), "")?;
    let own: Value = serde_json::from_str(&own)?;
    let field = |name: &str| -> anyhow::Result<String> {
        let text = own["data"][name].as_str().context("a field")?;
        Ok(String::from_utf8(STANDARD.decode(text)?)?)
    };
    let root = field("ca-cert.pem")?;
    let issuer = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&field("ca-key.pem")?)?)?;
    let intermediate = || -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    };

    let (_, istiod) = pod(dojo, "istio-system", "app=istiod").await?;
    let create = [
        "create",
        "token",
        "bookinfo-details",
        "--audience",
        "istio-ca",
    ];
    let token = kubectl::ok(file, &create, "")?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(SOON)
        .build()?;
    let chain = async || -> anyhow::Result<String> {
        let asking = http.post(format!("http://{istiod}:15010/v1/certificate"));
        let asking = asking.bearer_auth(token.trim()).body(request.clone());
        let signed: SignedCertificate = asking.send().await?.error_for_status()?.json().await?;
        ensure!(signed.trust_bundle == root, "{}", signed.trust_bundle);
        Ok(signed.certificate_chain)
    };
    let apply = |secret: &str| kubectl::ok(file, &["apply", "-f", "-"], secret);

    let (first, key_of_first) = intermediate()?;
    apply(&cacerts(&first, &key_of_first, &root))?;
    eventually("the intermediate", SOON, async || {
        ensure!(chain().await?.ends_with(&first));
        Ok(())
    })
    .await?;
    // A key of another certificate, then one that belongs.
    let (second, key_of_second) = intermediate()?;
    apply(&cacerts(&second, &key_of_first, &root))?;
    ensure!(chain().await?.ends_with(&first));
    apply(&cacerts(&second, &key_of_second, &root))?;
    eventually("the next intermediate", SOON, async || {
        ensure!(chain().await?.ends_with(&second));
        Ok(())
    })
    .await?;
    let delete = ["delete", "secret", "cacerts", "-n", "istio-system"];
    kubectl::ok(file, &delete, "")?;
    Ok(())
}
