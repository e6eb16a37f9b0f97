//! RequestAuthentication: tokens that are believed, and those that are not.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use base64::{
    Engine,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use dojo_tests::{dojo::eventually, kubectl};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};

use crate::{SOON, page, policy};

/// Asks with each token until the answer has this status and says this.
async fn answers(url: &str, rows: &[(&str, Option<&str>, &str, &str)]) -> anyhow::Result<()> {
    for (what, token, status, says) in rows {
        let header = token.map(|token| format!("Authorization: Bearer {token}"));
        let mut args = vec![url];
        if let Some(header) = &header {
            args.extend(["-H", header]);
        }
        eventually(what, SOON, async || {
            let (seen, body) = page(&args)?;
            ensure!(
                seen == *status && body.contains(says),
                "{what}: {seen} {body}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn rules(rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: tokens, namespace: default}}\nspec: {{jwtRules: [{rules}]}}\n"
    )
}

/// Keys in the rule, and keys that the control plane fetches.
pub(crate) async fn are_checked(file: &Path, details: &str) -> anyhow::Result<()> {
    let apply = |yaml: &str| kubectl::ok(file, &["apply", "-f", "-"], yaml);
    apply(&rules(r#"{issuer: me, jwks: '{"keys":[]}'}"#))?;
    answers(
        details,
        &[
            (
                "no token",
                Some("some.thing"),
                "401",
                "Jwt is not in the form",
            ),
            ("none at all", None, "200", ""),
        ],
    )
    .await?;

    let (me, other) = (Issuer::new()?, Issuer::new()?);
    // httpbin decodes what its address says, and so serves any document.
    let keys = URL_SAFE.encode(me.keys());
    let uri = format!("http://httpbin.default.svc.cluster.local:8000/base64/{keys}");
    apply(&rules(&format!(
        "{{issuer: me, audiences: [books], jwksUri: \"{uri}\"}}"
    )))?;
    let claims = |issuer: &str, audience: &str, seconds: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        json!({ "iss": issuer, "sub": "you", "aud": audience, "exp": now + seconds })
    };
    let good = me.sign(claims("me", "books", 3600))?;
    let expired = me.sign(claims("me", "books", -3600))?;
    let foreign = other.sign(claims("me", "books", 3600))?;
    let stranger = me.sign(claims("someone", "books", 3600))?;
    let elsewhere = me.sign(claims("me", "films", 3600))?;
    answers(
        details,
        &[
            ("a good token", Some(&good), "200", ""),
            ("an expired one", Some(&expired), "401", "Jwt is expired"),
            (
                "a foreign key",
                Some(&foreign),
                "401",
                "Jwt verification fails",
            ),
            (
                "an unknown issuer",
                Some(&stranger),
                "401",
                "Jwt issuer is not configured",
            ),
            (
                "another audience",
                Some(&elsewhere),
                "403",
                "Audiences in Jwt are not allowed",
            ),
            ("none", None, "200", ""),
        ],
    )
    .await?;
    // A policy can ask for one.
    let only = r#"{selector: {matchLabels: {app: details}}, rules: [{from: [{source: {requestPrincipals: ["me/you"]}}]}]}"#;
    apply(&policy("tokens", only))?;
    answers(
        details,
        &[
            ("a token is needed", None, "403", "RBAC: access denied"),
            ("and good enough", Some(&good), "200", ""),
        ],
    )
    .await?;
    kubectl::ok(file, &["delete", "authorizationpolicy", "tokens"], "")?;

    // Keys that cannot be had: no token is believed, others are served.
    apply(&rules(
        "{issuer: me, jwksUri: \"http://nobody.default.svc.cluster.local:8000/keys\"}",
    ))?;
    answers(
        details,
        &[
            ("no keys", Some(&good), "401", "Jwt"),
            ("no token", None, "200", ""),
        ],
    )
    .await?;
    kubectl::ok(file, &["delete", "requestauthentication", "tokens"], "")?;
    Ok(())
}

/// Signs tokens with a key of its own.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(KeyPair::generate_for(&PKCS_ED25519)?))
    }

    /// Its key set.
    fn keys(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.der_bytes());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] }).to_string()
    }

    fn sign(&self, claims: Value) -> anyhow::Result<String> {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": "EdDSA", "kid": "k" }));
        let signed = format!("{head}.{}", part(claims));
        let signature = SigningKey::sign(&self.0, signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
