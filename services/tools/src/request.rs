//! Puts requests together from what command lines say.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request};

use crate::route;

/// Why a request cannot be put together. The messages say what to write.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The address.
    #[error(transparent)]
    Address(#[from] route::RouteError),
    /// A header.
    #[error("header {0:?} cannot be sent; write it as `Name: value`")]
    Header(String),
    /// The method.
    #[error("{0:?} is not a method; write for example GET or POST")]
    Method(String),
}

/// A request as command lines describe it.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// The address, with or without a scheme.
    pub url: &'a str,
    /// The method; none: GET, or POST when there is a body.
    pub method: Option<&'a str>,
    /// `Name: value` lines; a later one replaces what the tool would send by itself.
    pub headers: &'a [String],
    /// What the tool calls itself.
    pub agent: &'a str,
    /// The body's type.
    pub content_type: Option<&'a str>,
    /// `user:password` for basic authentication.
    pub user: Option<&'a str>,
    /// The body; empty for none.
    pub body: Bytes,
}

/// Puts the request together.
///
/// # Errors
/// When one of its parts cannot be sent.
pub fn build(wanted: &Wanted<'_>) -> Result<Request<Bytes>, RequestError> {
    let uri = route::address(wanted.url)?;
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, text: String| {
        let value = HeaderValue::from_str(&text);
        let value = value.map_err(|_| RequestError::Header(format!("{name}: {text}")))?;
        headers.insert(name, value);
        Ok::<_, RequestError>(())
    };
    set(USER_AGENT, wanted.agent.to_owned())?;
    if let Some(content_type) = wanted.content_type {
        set(CONTENT_TYPE, content_type.to_owned())?;
    }
    if let Some(user) = wanted.user {
        set(AUTHORIZATION, basic(user))?;
    }
    for line in wanted.headers {
        let (name, value) = header(line)?;
        headers.insert(name, value);
    }
    let method = match wanted.method {
        Some(text) => method(text)?,
        None if wanted.body.is_empty() => Method::GET,
        None => Method::POST,
    };
    let mut request = Request::new(wanted.body.clone());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Reads a `Name: value` line.
///
/// # Errors
/// When it is none, or has characters that no header may have.
pub fn header(line: &str) -> Result<(HeaderName, HeaderValue), RequestError> {
    let wrong = || RequestError::Header(line.to_owned());
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
    Ok((name, value))
}

/// Reads a method.
///
/// # Errors
/// When it has other characters than letters.
pub fn method(text: &str) -> Result<Method, RequestError> {
    let wrong = || RequestError::Method(text.to_owned());
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong());
    }
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| wrong())
}

/// The value of an `authorization` header for `user:password`.
#[must_use]
pub fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_says_wins() {
        let headers = ["user-agent: me".to_owned(), "end-user:jason".to_owned()];
        let request = build(&Wanted {
            url: "reviews:9080/reviews/0",
            headers: &headers,
            agent: "tool",
            user: Some("a:b"),
            body: Bytes::from_static(b"x"),
            ..Wanted::default()
        })
        .expect("a request");
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()["user-agent"], "me");
        assert_eq!(request.headers()["end-user"], "jason");
        assert_eq!(request.headers()["authorization"], "Basic YTpi");
        assert!(header("no colon").is_err());
        assert!(method("G ET").is_err());
    }
}
