//! Cross-origin requests of browsers, as Envoy's filter treats them: preflight requests of allowed
//! origins are answered here, everything else goes on, and answers say what the page may read.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request};
use mesh_config as model;

use crate::{
    config::{error::CompileError, matching::StringMatcher},
    flags::Flags,
    reply::LocalReply,
};

/// A compiled [`model::Cors`].
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<StringMatcher>,
    /// Sent with the answer to a preflight request.
    preflight: Vec<(HeaderName, HeaderValue)>,
    expose_headers: Option<HeaderValue>,
    credentials: bool,
    answer_unmatched: bool,
}

/// The origin of a request, when it is allowed.
pub(crate) struct Allowed(HeaderValue);

impl Cors {
    pub(crate) fn compile(policy: &model::Cors) -> Result<Self, CompileError> {
        let value = |text: &str| {
            let value = HeaderValue::from_str(text);
            value.map_err(|_| CompileError::HeaderValue(text.into()))
        };
        let mut preflight = Vec::new();
        for (name, text) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &policy.allow_methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers),
            (header::ACCESS_CONTROL_MAX_AGE, &policy.max_age),
        ] {
            if !text.is_empty() {
                preflight.push((name, value(text)?));
            }
        }
        let expose = Some(&policy.expose_headers).filter(|text| !text.is_empty());
        let origins = policy.allow_origins.iter().map(StringMatcher::compile);
        Ok(Self {
            origins: origins.collect::<Result<_, _>>()?,
            preflight,
            expose_headers: expose.map(|text| value(text)).transpose()?,
            credentials: policy.allow_credentials,
            answer_unmatched: policy.answer_unmatched_preflights,
        })
    }

    /// The origin, if it is allowed; or the answer to a preflight request.
    pub(crate) fn check(&self, parts: &request::Parts) -> Result<Option<Allowed>, LocalReply> {
        let Some(origin) = parts.headers.get(header::ORIGIN) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(origin.as_bytes());
        if text.is_empty() {
            return Ok(None);
        }
        let allows = |pattern: &StringMatcher| pattern.matches("*") || pattern.matches(&text);
        let allowed = self.origins.iter().any(allows);
        let allowed = allowed.then(|| Allowed(origin.clone()));
        let asks = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let preflight =
            parts.method == Method::OPTIONS && asks.is_some_and(|method| !method.is_empty());
        if preflight && (allowed.is_some() || self.answer_unmatched) {
            let mut reply = LocalReply::new(StatusCode::OK, "", Flags::default(), "cors_response");
            reply.headers.extend(self.preflight.iter().cloned());
            // Everything is allowed: say what was asked for, which also holds with credentials.
            for (says, asks) in [
                (
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    header::ACCESS_CONTROL_REQUEST_METHOD,
                ),
                (
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    header::ACCESS_CONTROL_REQUEST_HEADERS,
                ),
            ] {
                if reply.headers.get(&says).is_some_and(|value| value == "*") {
                    let asked = parts.headers.get(asks).cloned();
                    reply
                        .headers
                        .insert(says, asked.unwrap_or(HeaderValue::from_static("")));
                }
            }
            if let Some(origin) = &allowed {
                self.allow(origin, &mut reply.headers);
            }
            return Err(reply);
        }
        Ok(allowed)
    }

    /// Tells the browser that the page may read the answer.
    pub(crate) fn allow(&self, origin: &Allowed, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.0.clone());
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(names) = &self.expose_headers {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }
}
