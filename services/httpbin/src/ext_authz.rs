//! ext-authz: the outside judge of Istio's sample. A request with `x-ext-authz: allow` may pass, no other.
//!
//! A mesh asks it by sending the request's method, path and some of its headers, and takes the status
//! for the verdict.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, ServeArgs};

/// The sample's port for HTTP.
const PORT: u16 = 8000;

const ASKED: HeaderName = HeaderName::from_static("x-ext-authz");
const RESULT: HeaderName = HeaderName::from_static("x-ext-authz-check-result");
const RECEIVED: HeaderName = HeaderName::from_static("x-ext-authz-check-received");
const OVERRIDE: HeaderName = HeaderName::from_static("x-ext-authz-additional-header-override");

/// What a client reads that may not pass.
const DENIED: &str = "denied by ext_authz for not found header `x-ext-authz: allow` in the request";

/// The flags of ext-authz.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        let identity = Identity::new("ext-authz", "v1");
        let chaos = Settings::default();
        dojo_kit::run(identity, &self.serve, PORT, chaos, |_| router()).await?;
        Ok(())
    }
}

/// Judges requests for any path.
pub fn router() -> Router {
    Router::new().fallback(judge)
}

async fn judge(request: Request) -> Response {
    let allowed = request.headers().get(ASKED).is_some_and(|v| v == "allow");
    let host = request.headers().get("host").and_then(|v| v.to_str().ok());
    let received = format!(
        "{} {}{}",
        request.method(),
        host.unwrap_or_default(),
        request.uri()
    );
    let verdict = if allowed { "allowed" } else { "denied" };
    tracing::info!("[HTTP][{verdict}]: {received}");
    let mut response = if allowed {
        StatusCode::OK.into_response()
    } else {
        (StatusCode::FORBIDDEN, DENIED).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(RESULT, HeaderValue::from_static(verdict));
    if let Ok(received) = HeaderValue::from_str(&received) {
        headers.insert(RECEIVED, received);
    }
    if let Some(value) = request.headers().get(&OVERRIDE) {
        headers.insert(OVERRIDE, value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn only_who_says_allow_may_pass() {
        for (said, status, result) in [
            (Some("allow"), 200, "allowed"),
            (Some("deny"), 403, "denied"),
            (None, 403, "denied"),
        ] {
            let mut request = Request::post("/headers").header("host", "httpbin.foo:8000");
            if let Some(said) = said {
                request = request.header(ASKED, said);
            }
            let request = request.body(Body::empty()).expect("a request");
            let answer = router().oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), status, "{said:?}");
            assert_eq!(answer.headers()[RESULT], result);
            assert_eq!(answer.headers()[RECEIVED], "POST httpbin.foo:8000/headers");
            let body = to_bytes(answer.into_body(), 1024).await.expect("a body");
            assert_eq!(body.is_empty(), status == 200);
        }
    }
}
