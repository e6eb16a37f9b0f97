use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

/// A signer, and its key set.
struct Issuer {
    key: Ed25519KeyPair,
    jwks: String,
}

impl Issuer {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] });
        Self {
            key,
            jwks: jwks.to_string(),
        }
    }

    fn sign(&self, claims: Value) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({ "alg": "EdDSA", "kid": "k" })),
            part(claims)
        );
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn provider(&self, fields: Value) -> Provider {
        let mut config = json!({ "issuer": "me", "jwks": self.jwks,
            "fromHeaders": [["authorization", "Bearer "]], "fromParams": ["access_token"] });
        for (name, value) in fields.as_object().unwrap() {
            config[name] = value.clone();
        }
        Provider::compile(&serde_json::from_value(config).unwrap())
    }
}

fn checked(provider: Provider, token: &str) -> Result<Option<Value>, JwtError> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let now = Duration::from_secs(NOW as u64);
    check(&[provider], &mut headers, &mut String::new(), now)
}

#[test]
fn tokens_are_believed_or_refused_in_envoys_words() {
    let (me, other) = (Issuer::new(), Issuer::new());
    let refused = |token: &str| {
        checked(me.provider(json!({})), token)
            .unwrap_err()
            .to_string()
    };
    let good = json!({ "iss": "me", "sub": "you", "exp": NOW + 10 });
    assert_eq!(
        checked(me.provider(json!({})), &me.sign(good.clone())),
        Ok(Some(good.clone()))
    );
    let late = json!({ "iss": "me", "exp": NOW - 61 });
    assert_eq!(refused(&me.sign(late)), "Jwt is expired");
    let skewed = json!({ "iss": "me", "exp": NOW - 59, "nbf": NOW + 59 });
    assert!(checked(me.provider(json!({})), &me.sign(skewed)).is_ok());
    let early = json!({ "iss": "me", "nbf": NOW + 61 });
    assert_eq!(refused(&me.sign(early)), "Jwt not yet valid");
    let stranger = json!({ "iss": "someone" });
    assert_eq!(refused(&me.sign(stranger)), "Jwt issuer is not configured");
    assert_eq!(refused(&other.sign(good.clone())), "Jwt verification fails");
    assert!(refused("a.b").starts_with("Jwt is not in the form"));
    assert_eq!(
        refused("!!.e30.e30"),
        "Jwt header is an invalid Base64url encoded"
    );
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    assert_eq!(
        refused(&format!("{none}.e30.")),
        "Jwt header [alg] is not supported"
    );
}

#[test]
fn an_audience_must_meet() {
    let me = Issuer::new();
    let token = me.sign(json!({ "iss": "me", "aud": ["a", "b"] }));
    for (audiences, status) in [(json!(["b/"]), None), (json!(["c"]), Some(403))] {
        let provider = me.provider(json!({ "audiences": audiences }));
        let refused = checked(provider, &token).err();
        assert_eq!(refused.map(|error| error.status().as_u16()), status);
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic confusion: the public key as the key of an HMAC.
    let me = Issuer::new();
    let x: Value = serde_json::from_str(&me.jwks).unwrap();
    let key = URL_SAFE_NO_PAD
        .decode(x["keys"][0]["x"].as_str().unwrap())
        .unwrap();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","kid":"k"}"#),
        part(r#"{"iss":"me"}"#)
    );
    let tag = ring::hmac::sign(
        &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key),
        signed.as_bytes(),
    );
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(
        checked(me.provider(json!({})), &token),
        Err(JwtError::NoKey)
    );
}

#[test]
fn elliptic_curves() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    let point = &key.public_key().as_ref()[1..];
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwks = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": encode(&point[..32]), "y": encode(&point[32..]) }] });
    let signed = format!(
        "{}.{}",
        encode(br#"{"alg":"ES256"}"#),
        encode(br#"{"iss":"me"}"#)
    );
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", encode(signature.as_ref()));
    let provider = Issuer::new().provider(json!({ "jwks": jwks.to_string() }));
    assert!(checked(provider, &token).is_ok());
}

#[test]
fn the_token_is_taken_off_and_claims_are_put_on() {
    let me = Issuer::new();
    let token = me.sign(json!({ "iss": "me", "sub": "you", "level": 3, "nested": { "a": true } }));
    let now = Duration::from_secs(NOW as u64);
    let output = json!({ "payloadHeader": "x-payload",
        "claimHeaders": [["x-level", "level"], ["x-a", "nested.a"], ["x-none", "none"]] });
    let mut headers = HeaderMap::new();
    headers.insert("x-none", "forged".parse().unwrap());
    let mut query = format!("a=1&access_token={token}&b=2");
    check(&[me.provider(output)], &mut headers, &mut query, now)
        .unwrap()
        .unwrap();
    assert_eq!(query, "a=1&b=2");
    assert_eq!(headers["x-level"], "3");
    assert_eq!(headers["x-a"], "true");
    assert!(!headers.contains_key("x-none"));
    assert_eq!(headers["x-payload"], *token.split('.').nth(1).unwrap());

    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    check(
        &[me.provider(json!({ "forward": true }))],
        &mut headers,
        &mut query,
        now,
    )
    .unwrap();
    assert!(headers.contains_key("authorization"));
    check(&[me.provider(json!({}))], &mut headers, &mut query, now).unwrap();
    assert!(!headers.contains_key("authorization"));
}
