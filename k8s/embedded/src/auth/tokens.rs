//! ServiceAccount tokens: JWTs signed with ES256.

use super::User;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};

/// Audience of a token that is used at this API server.
pub(super) const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// The key that signs ServiceAccount tokens.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    pem: String,
    random: SystemRandom,
}

/// A key file that holds no usable key.
#[derive(Debug, thiserror::Error)]
#[error("the ServiceAccount key cannot be used: {0}")]
pub struct KeyError(String);

/// The object to which a token is bound: it dies with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// For whom the token is.
    pub audiences: Vec<String>,
    /// Unix time, seconds.
    pub issued: i64,
    /// Unix time, seconds.
    pub expires: i64,
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub account: String,
    /// Uid of the ServiceAccount.
    pub account_uid: String,
    /// What the token is bound to.
    pub binding: Option<Binding>,
    /// The token's own id.
    pub id: String,
}

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

impl TokenKey {
    /// A new key.
    pub fn generate() -> Self {
        let random = SystemRandom::new();
        // fails only when the system has no randomness: nothing could run then
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("the system gives random bytes");
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64_STANDARD.encode(document));
        // the document was made a line above
        TokenKey::from_pem(&pem).expect("a generated key can be read")
    }

    /// The key in a PKCS #8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let base64: String = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let document = BASE64_STANDARD
            .decode(base64)
            .map_err(|error| KeyError(error.to_string()))?;
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random)
            .map_err(|error| KeyError(error.to_string()))?;
        Ok(TokenKey {
            pair,
            pem: pem.to_owned(),
            random,
        })
    }

    /// The key as PKCS #8 PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a token.
    pub fn sign(&self, claims: &Claims) -> String {
        let header = json!({"alg": "ES256", "kid": "embedded"});
        let payload = claims.to_json();
        let signed = format!(
            "{}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
            BASE64_URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        // fails only when the system has no randomness
        let signature = self
            .pair
            .sign(&self.random, signed.as_bytes())
            .expect("the system gives random bytes");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token of ours that has not expired at `now` (Unix seconds).
    pub fn verify(&self, token: &str, now: i64) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let (_, payload) = signed.split_once('.')?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims = Claims::from_json(&serde_json::from_slice(&payload).ok()?)?;
        (now < claims.expires).then_some(claims)
    }
}

impl Claims {
    /// The caller that a token stands for.
    pub fn user(&self) -> User {
        let mut user = User::service_account(&self.namespace, &self.account, &self.account_uid);
        let mut extra = |key: &str, value: &str| {
            user.extra.push((
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            ));
        };
        extra("credential-id", &format!("JTI={}", self.id));
        if let Some(binding) = &self.binding
            && binding.kind == "Pod"
        {
            extra("pod-name", &binding.name);
            extra("pod-uid", &binding.uid);
        }
        user
    }

    fn to_json(&self) -> Value {
        let mut of_kubernetes = json!({
            "namespace": self.namespace,
            "serviceaccount": {"name": self.account, "uid": self.account_uid},
        });
        if let Some(binding) = &self.binding {
            of_kubernetes[binding.kind.to_lowercase()] =
                json!({"name": binding.name, "uid": binding.uid});
        }
        json!({
            "aud": self.audiences,
            "exp": self.expires,
            "iat": self.issued,
            "iss": AUDIENCE,
            "jti": self.id,
            "kubernetes.io": of_kubernetes,
            "nbf": self.issued,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account),
        })
    }

    fn from_json(payload: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of_kubernetes = &payload["kubernetes.io"];
        let binding = ["Pod", "Secret", "Node"].into_iter().find_map(|kind| {
            let bound = &of_kubernetes[kind.to_lowercase()];
            Some(Binding {
                kind: kind.to_owned(),
                name: text(&bound["name"])?,
                uid: text(&bound["uid"])?,
            })
        });
        let audiences = payload["aud"].as_array()?;
        Some(Claims {
            audiences: audiences.iter().filter_map(text).collect(),
            issued: payload["iat"].as_i64()?,
            expires: payload["exp"].as_i64()?,
            namespace: text(&of_kubernetes["namespace"])?,
            account: text(&of_kubernetes["serviceaccount"]["name"])?,
            account_uid: text(&of_kubernetes["serviceaccount"]["uid"])?,
            binding,
            id: text(&payload["jti"])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_verified_and_expire() {
        let key = TokenKey::generate();
        let claims = Claims {
            audiences: vec![AUDIENCE.into()],
            issued: 100,
            expires: 700,
            namespace: "default".into(),
            account: "web".into(),
            account_uid: "u".into(),
            binding: Some(Binding {
                kind: "Pod".into(),
                name: "web-1".into(),
                uid: "p".into(),
            }),
            id: "i".into(),
        };
        let token = TokenKey::from_pem(key.pem()).unwrap().sign(&claims);
        assert_eq!(key.verify(&token, 699), Some(claims));
        assert_eq!(key.verify(&token, 700), None);
        assert_eq!(TokenKey::generate().verify(&token, 200), None);
        assert_eq!(key.verify("a.b.c", 200), None);
        assert_eq!(key.verify("", 200), None);
    }
}
