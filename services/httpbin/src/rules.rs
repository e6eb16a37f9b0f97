//! What the one who runs httpbin may set beside limits: a prefix of all paths, headers that are not
//! shown, hosts that may be redirected to.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;

/// What was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Before all paths, such as `/bin`; empty for none.
    pub prefix: String,
    /// Headers of requests that answers do not show; `*` at the end of one for any text.
    pub excluded_headers: Vec<String>,
    /// The hosts that `/redirect-to` may lead to; empty for all.
    pub redirect_domains: Vec<String>,
}

impl Rules {
    /// Reads the three as users write them: a path, and lists separated by commas.
    ///
    /// # Errors
    /// When the prefix is no path.
    pub fn parse(prefix: &str, headers: &str, domains: &str) -> Result<Self, String> {
        let list = |text: &str| {
            let words = text.split(',').map(|word| word.trim().to_ascii_lowercase());
            words.filter(|word| !word.is_empty()).collect()
        };
        let valid = prefix.is_empty()
            || (prefix.starts_with('/')
                && !prefix.ends_with('/')
                && !prefix.contains(['{', '}', '*', '?', '#']));
        if !valid {
            return Err(format!(
                "PREFIX: `{prefix}` is not a path like /bin, without a slash at its end"
            ));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            excluded_headers: list(headers),
            redirect_domains: list(domains),
        })
    }

    fn excludes(&self, name: &HeaderName) -> bool {
        self.excluded_headers
            .iter()
            .any(|excluded| match excluded.strip_suffix('*') {
                Some(front) => name.as_str().starts_with(front),
                None => name.as_str() == excluded,
            })
    }

    /// The routes under these rules.
    pub(crate) fn around(self, routes: Router) -> Router {
        let prefix = self.prefix.clone();
        let ruled = routes.layer(middleware::from_fn_with_state(Arc::new(self), keep));
        if prefix.is_empty() {
            ruled
        } else {
            Router::new().nest(&prefix, ruled)
        }
    }
}

async fn keep(State(rules): State<Arc<Rules>>, mut request: Request, next: Next) -> Response {
    let hidden: Vec<_> = request
        .headers()
        .keys()
        .filter(|name| rules.excludes(name))
        .cloned()
        .collect();
    for name in hidden {
        request.headers_mut().remove(name);
    }
    let anywhere = request.uri().path() == "/redirect-to";
    let mut response = next.run(request).await;
    let Some(location) = response.headers().get(header::LOCATION) else {
        return response;
    };
    let location = location.to_str().unwrap_or_default().to_owned();
    if anywhere {
        let host = location.parse::<Uri>().ok();
        let host = host.and_then(|uri| uri.host().map(str::to_ascii_lowercase));
        let allowed = rules.redirect_domains.is_empty()
            || host.is_none_or(|host| rules.redirect_domains.contains(&host));
        if !allowed {
            let detail = format!(
                "redirects are allowed to these hosts alone: {}",
                rules.redirect_domains.join(", ")
            );
            return crate::problem(StatusCode::FORBIDDEN, &detail);
        }
    } else if location.starts_with('/')
        && let Ok(own) = HeaderValue::from_str(&format!("{}{location}", rules.prefix))
    {
        response.headers_mut().insert(header::LOCATION, own);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{go, send};

    #[tokio::test]
    async fn a_prefix_is_before_every_path() {
        let router = Rules::parse("/bin", "", "").expect("a path").around(go());
        let answer = send(&router, "GET", "/bin/get?a=b", &[], "").await;
        assert_eq!(answer.json()["url"], "http://bin:8000/bin/get?a=b");
        let answer = send(&router, "GET", "/bin/redirect/1", &[], "").await;
        assert_eq!(answer.header("location"), "/bin/get");
        assert_eq!(send(&router, "GET", "/get", &[], "").await.status, 404);
        for wrong in ["bin", "/bin/", "/{x}"] {
            assert!(Rules::parse(wrong, "", "").is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn excluded_headers_are_not_shown() {
        let rules = Rules::parse("", "X-Secret, x-envoy-*", "").expect("rules");
        let headers = [("x-secret", "1"), ("x-envoy-peer", "2"), ("x-shown", "3")];
        let answer = send(&rules.around(go()), "GET", "/headers", &headers, "").await;
        let shown = answer.json()["headers"].clone();
        assert_eq!(shown["X-Shown"][0], "3");
        assert!(shown["X-Secret"].is_null() && shown["X-Envoy-Peer"].is_null());
    }

    #[tokio::test]
    async fn redirects_lead_to_the_hosts_that_are_allowed() {
        let router = Rules::parse("", "", "a.example")
            .expect("rules")
            .around(go());
        let to = async |url: &str| {
            let path = format!("/redirect-to?url={url}");
            send(&router, "GET", &path, &[], "").await.status
        };
        assert_eq!(to("http://a.example/x").await, 302);
        assert_eq!(to("/own").await, 302);
        assert_eq!(to("http://b.example/x").await, 403);
    }
}
