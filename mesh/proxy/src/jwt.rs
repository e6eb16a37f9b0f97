//! Tokens: JSON Web Tokens (RFC 7519) and the keys that they are checked with (RFC 7517).

mod keys;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use mesh_config as model;
use serde_json::Value;

use keys::Keys;

/// Clocks differ.
const CLOCK_SKEW: i64 = 60;
/// Longest token that is looked at.
const LONGEST: usize = 32 * 1024;

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct Provider {
    config: model::JwtProvider,
    keys: Keys,
    headers: Vec<(HeaderName, Box<str>)>,
    payload_header: Option<HeaderName>,
    claim_headers: Vec<(HeaderName, Box<str>)>,
}

/// Why a token is refused, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderEncoding,
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    #[error("Jwt header [alg] field is required and must be a string")]
    NoAlgorithm,
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadEncoding,
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureEncoding,
    #[error("Jwt issuer is not configured")]
    Issuer,
    #[error("Jwt not yet valid")]
    NotYetValid,
    #[error("Jwt is expired")]
    Expired,
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    #[error("Jwt verification fails")]
    Signature,
}

impl JwtError {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Audience => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// Where a token was found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Header(HeaderName),
    Parameter(String),
    Cookie,
}

impl Provider {
    pub(crate) fn compile(config: &model::JwtProvider) -> Self {
        // Names that cannot be headers are never there.
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
        let named = |pairs: &[(String, String)]| -> Vec<(HeaderName, Box<str>)> {
            pairs
                .iter()
                .filter_map(|(header, text)| Some((name(header)?, text.as_str().into())))
                .collect()
        };
        Self {
            keys: Keys::parse(&config.jwks),
            headers: named(&config.from_headers),
            payload_header: name(&config.payload_header),
            claim_headers: named(&config.claim_headers),
            config: config.clone(),
        }
    }

    /// The token for this issuer, if the request has one.
    fn find(&self, headers: &HeaderMap, query: &str) -> Option<(Place, String)> {
        for (name, prefix) in &self.headers {
            for value in headers.get_all(name) {
                let value = value.to_str().unwrap_or_default();
                if let Some((_, rest)) = value.split_once(&**prefix) {
                    let token = rest.split([' ', ',']).next().unwrap_or_default();
                    return Some((Place::Header(name.clone()), token.to_owned()));
                }
            }
        }
        for name in &self.config.from_params {
            if let Some(token) = parameters(query).find(|(key, _)| key == name) {
                return Some((Place::Parameter(name.clone()), token.1.to_owned()));
            }
        }
        for value in headers.get_all(header::COOKIE) {
            let cookies = value.to_str().unwrap_or_default().split(';');
            let mut pairs = cookies.filter_map(|cookie| cookie.trim().split_once('='));
            let wanted = |name: &str| self.config.from_cookies.iter().any(|own| own == name);
            if let Some((_, token)) = pairs.find(|(name, _)| wanted(name)) {
                return Some((Place::Cookie, token.trim_matches('"').to_owned()));
            }
        }
        None
    }

    fn verify(&self, token: &Token<'_>, now: i64) -> Result<(), JwtError> {
        let time = |claim: &str| token.claims[claim].as_f64().map(|seconds| seconds as i64);
        if time("nbf").is_some_and(|from| from > now + CLOCK_SKEW) {
            return Err(JwtError::NotYetValid);
        }
        if time("exp").is_some_and(|until| until + CLOCK_SKEW < now) {
            return Err(JwtError::Expired);
        }
        let wanted = &self.config.audiences;
        if !wanted.is_empty() {
            let audience = &token.claims["aud"];
            let own = audience
                .as_array()
                .map_or_else(|| vec![audience], |all| all.iter().collect());
            // Trailing slashes do not count.
            let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
            let mut own = own.into_iter().filter_map(Value::as_str);
            if !own.any(|own| wanted.iter().any(|wanted| same(wanted, own))) {
                return Err(JwtError::Audience);
            }
        }
        self.keys.verify(
            token.algorithm,
            token.key.as_deref(),
            token.signed,
            &token.signature,
        )
    }
}

/// Checks the token of a request against the issuers; the payload of a valid one. Takes off what the
/// workload must not see and puts on what it shall.
pub(crate) fn check(
    providers: &[Provider],
    headers: &mut HeaderMap,
    query: &mut String,
    now: Duration,
) -> Result<Option<Value>, JwtError> {
    // What says who the client is comes from us alone.
    for provider in providers {
        let own = provider.claim_headers.iter().map(|(name, _)| name);
        for name in own.chain(&provider.payload_header) {
            headers.remove(name);
        }
    }
    let mut refused = None;
    for provider in providers {
        let Some((place, text)) = provider.find(headers, query) else {
            continue;
        };
        let outcome = Token::parse(&text).and_then(|token| {
            let issuer = &provider.config.issuer;
            if !issuer.is_empty() && token.claims["iss"] != **issuer {
                return Err(JwtError::Issuer);
            }
            provider.verify(&token, now.as_secs() as i64)?;
            Ok(token.claims)
        });
        match outcome {
            Ok(claims) => {
                if !provider.config.forward {
                    take_off(&place, headers, query);
                }
                put_on(provider, &claims, &text, headers);
                return Ok(Some(claims));
            }
            // Another issuer may know it; what a known issuer refuses weighs more.
            Err(JwtError::Issuer) => refused = refused.or(Some(JwtError::Issuer)),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn take_off(place: &Place, headers: &mut HeaderMap, query: &mut String) {
    match place {
        Place::Header(name) => _ = headers.remove(name),
        Place::Parameter(name) => {
            let rest = query
                .split('&')
                .filter(|pair| pair.split('=').next() != Some(name));
            *query = rest.collect::<Vec<_>>().join("&");
        }
        // Envoy leaves cookies as they are.
        Place::Cookie => {}
    }
}

fn put_on(provider: &Provider, claims: &Value, token: &str, headers: &mut HeaderMap) {
    let payload = token.split('.').nth(1).unwrap_or_default();
    if let (Some(name), Ok(value)) = (&provider.payload_header, HeaderValue::from_str(payload)) {
        headers.insert(name.clone(), value);
    }
    for (name, path) in &provider.claim_headers {
        let path: Vec<Box<str>> = path.split('.').map(Into::into).collect();
        let text = match claim(claims, &path) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name.clone(), value);
        }
    }
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// A token taken apart, not yet believed.
struct Token<'a> {
    algorithm: keys::Algorithm,
    key: Option<String>,
    claims: Value,
    /// What the signature is of.
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    fn parse(text: &'a str) -> Result<Self, JwtError> {
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(JwtError::Form);
        };
        if text.len() > LONGEST {
            return Err(JwtError::Form);
        }
        let decode = |part: &str, error| URL_SAFE_NO_PAD.decode(part).map_err(|_| error);
        let header = decode(header, JwtError::HeaderEncoding)?;
        let header: Value = serde_json::from_slice(&header).map_err(|_| JwtError::HeaderJson)?;
        let algorithm = header["alg"].as_str().ok_or(JwtError::NoAlgorithm)?;
        let algorithm = keys::Algorithm::parse(algorithm).ok_or(JwtError::Algorithm)?;
        let claims = decode(payload, JwtError::PayloadEncoding)?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|_| JwtError::PayloadJson)?;
        if !claims.is_object() {
            return Err(JwtError::PayloadJson);
        }
        Ok(Self {
            algorithm,
            key: header["kid"].as_str().map(str::to_owned),
            claims,
            signed: &text.as_bytes()[..text.len() - signature.len() - 1],
            signature: decode(signature, JwtError::SignatureEncoding)?,
        })
    }
}

/// The claim at a path.
pub(crate) fn claim<'a>(claims: &'a Value, path: &[Box<str>]) -> Option<&'a Value> {
    path.iter().try_fold(claims, |value, key| value.get(&**key))
}

#[cfg(test)]
mod tests;
