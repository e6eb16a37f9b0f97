//! Answers that are not about objects: discovery, version, health.

use super::answer::{json, text};
use super::{ApiError, ApiServer, Inner};
use crate::discovery::documents;
use crate::openapi;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

/// The version that this API server stands in for.
pub(super) const GIT_VERSION: &str = "v1.36.2";

/// The version of aggregated discovery that a client wants most, if any: `v2` or `v2beta1`.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    accept
        .split(',')
        .map(|part| match part {
            part if part.contains("g=apidiscovery.k8s.io") && part.contains("v=v2beta1") => {
                Some("v2beta1")
            }
            part if part.contains("g=apidiscovery.k8s.io") && part.contains("v=v2") => Some("v2"),
            _ => None,
        })
        .next()?
}

fn discovery(server: &ApiServer, request: &Request, core: bool) -> Response {
    if request.method() != Method::GET {
        return ApiError::method_not_allowed().into_response();
    }
    let resources = server.0.registry.all();
    let Some(version) = aggregated_version(request.headers()) else {
        let document = match core {
            true => documents::api_versions("127.0.0.1"),
            false => documents::api_group_list(&resources),
        };
        return json(StatusCode::OK, &document);
    };
    let mut response = json(
        StatusCode::OK,
        &documents::aggregated(&resources, core, version),
    );
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(&content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

pub(super) async fn api(State(server): State<ApiServer>, request: Request) -> Response {
    discovery(&server, &request, true)
}

pub(super) async fn apis(State(server): State<ApiServer>, request: Request) -> Response {
    discovery(&server, &request, false)
}

pub(super) async fn group(State(server): State<ApiServer>, Path(group): Path<String>) -> Response {
    match documents::api_group_document(&server.0.registry.all(), &group) {
        Some(document) => json(StatusCode::OK, &document),
        None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` when the path is another.
pub(super) fn resource_list(
    api: &Inner,
    path: &str,
    method: &Method,
) -> Option<Result<Response, ApiError>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version) = match segments.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    if method != Method::GET {
        return Some(Err(ApiError::method_not_allowed()));
    }
    let list = documents::api_resource_list(&api.registry.all(), group, version)?;
    Some(Ok(json(StatusCode::OK, &list)))
}

pub(super) async fn version() -> Response {
    let version: Value = serde_json::json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    });
    json(StatusCode::OK, &version)
}

pub(super) async fn health(request: Request) -> Response {
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("verbose"));
    let name = request.uri().path().trim_start_matches('/').to_owned();
    match verbose {
        true => text(
            StatusCode::OK,
            format!("[+]ping ok\n[+]store ok\n{name} check passed\n"),
        ),
        false => text(StatusCode::OK, "ok"),
    }
}

/// `/openapi/v2` without a definition. kubectl looks here, and only takes protobuf, for a kind that
/// no version 3 document has; that it is not here either is what makes it say
/// `no matches for kind`.
pub(super) async fn openapi_v2() -> Response {
    // Document { swagger: "2.0", info: { title, version }, paths: {}, definitions: {} }
    const DOCUMENT: &[u8] =
        b"\x0a\x032.0\x12\x19\x0a\x0aKubernetes\x12\x0bunversioned\x42\x00\x4a\x00";
    let kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    ([(header::CONTENT_TYPE, kind)], DOCUMENT).into_response()
}

pub(super) async fn openapi_index(State(server): State<ApiServer>) -> Response {
    json(StatusCode::OK, &openapi::index(&server.0.registry.all()))
}

pub(super) async fn openapi(State(server): State<ApiServer>, Path(path): Path<String>) -> Response {
    match openapi::document(&server.0.registry.all(), &path) {
        Some(document) => {
            let mut response = json(StatusCode::OK, &document);
            // the URL carries a hash of the contents
            response.headers_mut().insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, immutable"),
            );
            response
        }
        None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}
