//! CUSTOM policies: somebody outside of the proxy is asked over HTTP.

use std::path::Path;

use anyhow::ensure;
use dojo_tests::{dojo::eventually, kubectl};

use crate::{SOON, page, policy};

/// Asks until the answer has this status and says this.
async fn answers(what: &str, args: &[&str], status: &str, says: &str) -> anyhow::Result<()> {
    eventually(what, SOON, async || {
        let (seen, body) = page(args)?;
        ensure!(
            seen == status && body.contains(says),
            "{what}: {seen} {body}"
        );
        Ok(())
    })
    .await
}

/// httpbin as the judge: it knows one user and their password.
pub(crate) async fn are_asked(file: &Path, details: &str) -> anyhow::Result<()> {
    let kubectl = |args: &[&str]| kubectl::ok(file, args, "");
    let settings = ["configmap", "istio", "-n", "istio-system"];
    let get = ["get", "-o", "jsonpath={.data.mesh}"];
    let before = kubectl(&[&get[..], &settings].concat())?;
    let configure = |mesh: &str| {
        let patch = serde_json::json!({ "data": { "mesh": mesh } }).to_string();
        kubectl(&[&["patch", "-p", &patch], &settings[..]].concat())
    };
    let judge = |fields: &str| {
        configure(&format!(
            "{before}\nextensionProviders:\n- name: doorman\n  envoyExtAuthzHttp: \
             {{service: httpbin.default.svc.cluster.local, port: 8000, \
             pathPrefix: \"/basic-auth/me/secret?asked=\"{fields}}}\n"
        ))
    };
    let health = details.replace("/details/0", "/health");
    let known = ["-u", "me:secret", details];
    let custom = "{selector: {matchLabels: {app: details}}, action: CUSTOM, provider: {name: doorman}, \
                  rules: [{to: [{operation: {paths: [\"/details/*\"]}}]}]}";

    // A judge that nobody has heard of lets nobody in.
    kubectl::ok(file, &["apply", "-f", "-"], &policy("custom", custom))?;
    answers("an unknown judge", &known, "403", "").await?;
    judge("")?;
    answers("who is known", &known, "200", "").await?;
    // The judge's own words.
    answers("nobody", &[details], "401", "\"authenticated\"").await?;
    let other = ["-u", "me:guess", details];
    answers("a guess", &other, "401", "\"authenticated\"").await?;
    let asked_back = page(&["-D", "-", "-o", "/dev/null", details])?;
    ensure!(
        asked_back
            .1
            .to_lowercase()
            .contains("www-authenticate: basic"),
        "{asked_back:?}"
    );
    answers("what is not to be judged", &[&health], "200", "").await?;

    // Nobody is there to ask.
    kubectl(&["scale", "deployment", "httpbin", "--replicas=0"])?;
    answers("no judge", &known, "403", "").await?;
    answers("still not to be judged", &[&health], "200", "").await?;
    judge(", statusOnError: \"503\"")?;
    answers("its own status", &known, "503", "").await?;
    judge(", failOpen: true")?;
    answers("failing open", &known, "200", "").await?;
    kubectl(&["scale", "deployment", "httpbin", "--replicas=1"])?;
    answers("a judge again", &other, "401", "\"authenticated\"").await?;

    kubectl(&["delete", "authorizationpolicy", "custom"])?;
    answers("no policy", &[details], "200", "").await?;
    configure(&before)?;
    Ok(())
}
