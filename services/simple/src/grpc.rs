//! The fake service over gRPC, on the same port: `FakeService/Handle` does what a request over HTTP
//! does, and answers with the same JSON as a text.
//!
//! ```text
//! service FakeService { rpc Handle(Request) returns (Response); }
//! message Request { bytes data = 1; }
//! message Response { string Message = 1; }
//! ```

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TE};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use dojo_kit::grpc::standard::{self, Described};
use dojo_kit::grpc::{self, Code, Status};
use dojo_kit::tunnel;
use prost::Message;
use prost_types::field_descriptor_proto::Type;
use serde_json::Value;
use tower::ServiceExt as _;

/// The largest answer that is passed on, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

const FAKE_SERVICE: Described = Described {
    file: "api.proto",
    package: "",
    service: "FakeService",
    method: "Handle",
    asked: ("Request", &[("data", Type::Bytes)]),
    answered: ("Response", &[("Message", Type::String)]),
};

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(string, tag = "1")]
    message: String,
}

/// The gRPC side of a service whose HTTP side this is.
pub(crate) fn routes(http: Router) -> Router {
    let handle = move |request: Request| {
        let (http, headers) = (http.clone(), request.headers().clone());
        let answer = move |asked| pass_on(http.clone(), headers.clone(), asked);
        std::future::ready(grpc::serve(request, answer))
    };
    standard::routes(FAKE_SERVICE).route(&FAKE_SERVICE.path(), post(handle))
}

/// Whether a request is a gRPC call.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

async fn pass_on(http: Router, mut headers: HeaderMap, asked: Asked) -> Result<Answered, Status> {
    for name in [CONTENT_TYPE, CONTENT_LENGTH, TE] {
        headers.remove(name);
    }
    let mut request = Request::new(Body::from(asked.data));
    *request.headers_mut() = headers;
    let response = match http.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let body = to_bytes(response.into_body(), MAX_ANSWER).await;
    let body = body.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(mut tree) => {
            tree["type"] = "gRPC".into();
            serde_json::to_string_pretty(&tree).unwrap_or_default()
        }
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    match status {
        StatusCode::OK => Ok(Answered { message }),
        StatusCode::SERVICE_UNAVAILABLE => Err(Status::new(Code::Unavailable, message)),
        _ => Err(Status::new(Code::Internal, message)),
    }
}

/// Calls the fake service at `grpc://HOST:PORT`; its JSON, and the headers that came with it.
pub(crate) async fn call(
    uri: &str,
    headers: HeaderMap,
    body: String,
    limit: Duration,
    source: Option<IpAddr>,
) -> Result<(String, HeaderMap), Status> {
    let to = uri.trim_start_matches("grpc://").trim_end_matches('/');
    let unreachable = |error: std::io::Error| Status::new(Code::Unavailable, error.to_string());
    let stream = tunnel::connect(to, tunnel::door().as_deref(), source)
        .await
        .map_err(unreachable)?;
    let asked = Asked {
        data: body.into_bytes(),
    };
    let (answered, headers) =
        grpc::call::<Answered>(stream, to, &FAKE_SERVICE.path(), headers, &asked, limit).await?;
    Ok((answered.message, headers))
}
