//! Which pages of other sites may read answers (`ALLOWED_ORIGINS` and its kin).

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method};

/// What is allowed to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins; `*` for all.
    pub origins: Vec<String>,
    /// The headers that their requests may have.
    pub headers: String,
    /// Whether they may send cookies.
    pub credentials: bool,
}

impl Cors {
    /// Whether a request only asks what is allowed.
    #[must_use]
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The headers of the answer to a request with these headers; none where it is of no other
    /// site, or of one that may not.
    #[must_use]
    pub fn answer(&self, request: &HeaderMap, preflight: bool) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let Some(origin) = request.get(ORIGIN) else {
            return answer;
        };
        let all = self.origins.iter().any(|allowed| allowed == "*");
        let named = self
            .origins
            .iter()
            .any(|one| one.as_bytes() == origin.as_bytes());
        if !all && !named {
            return answer;
        }
        if all && !self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if preflight {
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            if let Ok(headers) = HeaderValue::from_str(&self.headers) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[&str], credentials: bool, origin: &'static str) -> Option<String> {
        let cors = Cors {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            headers: "Accept".into(),
            credentials,
        };
        let request = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        let answer = cors.answer(&request, true);
        let origin = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN)?.to_str().ok()?;
        let with = answer.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        assert_eq!(with, credentials);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "Accept");
        Some(origin.to_owned())
    }

    #[test]
    fn those_who_are_named_may_read() {
        assert_eq!(allowed(&["*"], false, "http://a").as_deref(), Some("*"));
        // With cookies a browser wants the very name.
        assert_eq!(
            allowed(&["*"], true, "http://a").as_deref(),
            Some("http://a")
        );
        let two = ["http://a", "http://b"];
        assert_eq!(
            allowed(&two, false, "http://b").as_deref(),
            Some("http://b")
        );
        assert_eq!(allowed(&two, false, "http://c"), None);
        let cors = Cors {
            origins: vec!["*".into()],
            headers: String::new(),
            credentials: false,
        };
        assert!(cors.answer(&HeaderMap::new(), false).is_empty());
    }
}
