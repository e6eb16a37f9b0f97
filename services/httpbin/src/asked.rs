//! What was asked, in JSON.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest as _, FromRequestParts, Multipart, OriginalUri, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, delete, get, patch, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dojo_kit::server::Connection;
use serde_json::{Map, Value, json};

use crate::{Bin, Style, bad, problem};

/// The routes that say what was asked.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/get", get(without_body))
        .route("/post", post(with_body))
        .route("/put", put(with_body))
        .route("/patch", patch(with_body))
        .route("/delete", delete(with_body))
        .route("/anything", any(anything))
        .route("/anything/{*rest}", any(anything))
        .route("/headers", get(headers))
        .route("/ip", get(ip))
        .route("/user-agent", get(user_agent))
}

/// The head of a request.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Who is at the other end of the connection.
    peer: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// The address as it was asked for, also behind a prefix.
fn whole_uri(parts: &Parts) -> Uri {
    match parts.extensions.get::<OriginalUri>() {
        Some(OriginalUri(uri)) => uri.clone(),
        None => parts.uri.clone(),
    }
}

impl Asked {
    fn of(parts: &Parts) -> Self {
        let connection = parts.extensions.get::<Connection>();
        Self {
            method: parts.method.clone(),
            uri: whole_uri(parts),
            headers: parts.headers.clone(),
            peer: connection.and_then(Connection::peer).map(|peer| peer.ip()),
        }
    }

    /// The query, decoded, in its order.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        Query::try_from_uri(&self.uri).map_or_else(|_| Vec::new(), |Query(pairs)| pairs)
    }

    /// The last value that the query has for a name.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query().into_iter().rev();
        pairs
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Scheme and host, as the client knows them.
    pub(crate) fn base(&self) -> String {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let scheme = match text("x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        let host = text("host")
            .or_else(|| self.uri.authority().map(|authority| authority.as_str()))
            .unwrap_or("localhost");
        format!("{scheme}://{host}")
    }

    /// The whole address.
    pub(crate) fn url(&self) -> String {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.base())
    }

    /// Where the request comes from: what a proxy before us says, else the other end of the
    /// connection.
    pub(crate) fn origin(&self) -> String {
        self.headers
            .get("x-forwarded-for")
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.split(',').next())
            .map(|first| first.trim().to_owned())
            .or_else(|| self.peer.map(|peer| peer.to_string()))
            .unwrap_or_default()
    }

    /// The headers, in this style.
    pub(crate) fn header_object(&self, style: Style) -> Value {
        let mut names: Vec<_> = self.headers.keys().collect();
        names.sort_by_key(|name| name.as_str().to_owned());
        let mut object = Map::new();
        for name in names {
            let values: Vec<String> = self
                .headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            let value = match style {
                Style::Go => json!(values),
                Style::Python => json!(values.join(",")),
            };
            object.insert(canonical(name.as_str()), value);
        }
        Value::Object(object)
    }

    /// `args`, `headers`, `origin`, `url`, and in the Go style `method`.
    pub(crate) fn describe(&self, style: Style) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("args".into(), pairs(style, self.query()));
        object.insert("headers".into(), self.header_object(style));
        if style == Style::Go {
            object.insert("method".into(), json!(self.method.as_str()));
        }
        object.insert("origin".into(), json!(self.origin()));
        object.insert("url".into(), json!(self.url()));
        object
    }
}

/// A header's name as people write it: `X-Request-Id`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
        })
    });
    words.collect::<Vec<_>>().join("-")
}

/// Names and values as an object, in this style.
pub(crate) fn pairs(style: Style, pairs: Vec<(String, String)>) -> Value {
    let mut object = Map::new();
    for (name, value) in pairs {
        match object.entry(name).or_insert_with(|| json!([])) {
            Value::Array(values) => values.push(value.into()),
            _ => unreachable!("only arrays are put in"),
        }
    }
    if style == Style::Python {
        for value in object.values_mut() {
            match value {
                Value::Array(values) if values.len() == 1 => *value = values.remove(0),
                _ => {}
            }
        }
        object.sort_keys();
    }
    Value::Object(object)
}

/// A JSON answer: indented, with a final newline.
pub(crate) fn document(status: StatusCode, document: &Value) -> Response {
    let mut text = format!("{document:#}");
    text.push('\n');
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        text,
    )
        .into_response()
}

/// A JSON answer with status 200 in this style.
pub(crate) fn answer(style: Style, mut object: Map<String, Value>) -> Response {
    if style == Style::Go {
        return document(StatusCode::OK, &Value::Object(object));
    }
    object.sort_keys();
    let mut response = document(StatusCode::OK, &Value::Object(object));
    // The Python program does not name the character set.
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

async fn without_body(State(bin): State<Bin>, asked: Asked) -> Response {
    answer(bin.style, asked.describe(bin.style))
}

async fn with_body(State(bin): State<Bin>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    echo(bin, parts, body, false).await
}

pub(crate) async fn anything(State(bin): State<Bin>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    echo(bin, parts, body, true).await
}

async fn echo(bin: Bin, parts: Parts, body: Body, name_method: bool) -> Response {
    let asked = Asked::of(&parts);
    // A body that announces that it is too large is refused before any of it is sent.
    let announced = asked
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let body = match announced {
        Some(length) if length > bin.max_body => None,
        _ => to_bytes(body, bin.max_body).await.ok(),
    };
    let Some(body) = body else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!(
                "the body is larger than {} bytes (MAX_BODY_SIZE), or broke off",
                bin.max_body
            ),
        );
    };
    let content = match Content::read(bin.style, &asked.headers, body).await {
        Ok(content) => content,
        Err(detail) => return bad(&detail),
    };
    let mut object = asked.describe(bin.style);
    if name_method {
        object.insert("method".into(), json!(asked.method.as_str()));
    }
    object.insert("data".into(), json!(content.data));
    object.insert("files".into(), pairs(bin.style, content.files));
    object.insert("form".into(), pairs(bin.style, content.form));
    object.insert("json".into(), content.json);
    answer(bin.style, object)
}

/// What a body holds, by its content type.
#[derive(Default)]
struct Content {
    data: String,
    files: Vec<(String, String)>,
    form: Vec<(String, String)>,
    json: Value,
}

impl Content {
    async fn read(style: Style, headers: &HeaderMap, body: Bytes) -> Result<Self, String> {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let mut content = Self::default();
        match essence {
            "application/x-www-form-urlencoded" => {
                let Ok(query) = Uri::builder()
                    .path_and_query([b"/?", &body[..]].concat())
                    .build()
                else {
                    return Err("the body is not a URL-encoded form".to_owned());
                };
                content.form = Query::try_from_uri(&query)
                    .map(|Query(pairs)| pairs)
                    .map_err(|error| format!("the body is not a URL-encoded form: {error}"))?;
            }
            "multipart/form-data" => content.read_multipart(kind, body).await?,
            "application/json" => {
                content.data = text_of(essence, &body);
                match serde_json::from_slice(&body) {
                    Ok(json) => content.json = json,
                    Err(_) if body.is_empty() || style == Style::Python => {}
                    Err(error) => return Err(format!("the body is not JSON: {error}")),
                }
            }
            _ => {
                content.data = text_of(essence, &body);
                if style == Style::Python {
                    content.json = serde_json::from_slice(&body).unwrap_or_default();
                }
            }
        }
        Ok(content)
    }

    async fn read_multipart(&mut self, kind: &str, body: Bytes) -> Result<(), String> {
        let wrong = |error: String| format!("the body is not a multipart form: {error}");
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body))
            .map_err(|error| wrong(error.to_string()))?;
        let mut parts = Multipart::from_request(request, &())
            .await
            .map_err(|error| wrong(error.to_string()))?;
        while let Some(field) = parts
            .next_field()
            .await
            .map_err(|error| wrong(error.to_string()))?
        {
            let name = field.name().unwrap_or_default().to_owned();
            let is_file = field.file_name().is_some();
            let bytes = field
                .bytes()
                .await
                .map_err(|error| wrong(error.to_string()))?;
            let pair = (name, text_of("application/octet-stream", &bytes));
            if is_file {
                self.files.push(pair);
            } else {
                self.form.push(pair);
            }
        }
        Ok(())
    }
}

/// Text as it is; other bytes as a data URL.
fn text_of(kind: &str, body: &[u8]) -> String {
    std::str::from_utf8(body).map_or_else(
        |_| {
            let kind = if kind.is_empty() {
                "application/octet-stream"
            } else {
                kind
            };
            format!("data:{kind};base64,{}", STANDARD.encode(body))
        },
        str::to_owned,
    )
}

async fn headers(State(bin): State<Bin>, asked: Asked) -> Response {
    answer(bin.style, object("headers", asked.header_object(bin.style)))
}

async fn ip(State(bin): State<Bin>, asked: Asked) -> Response {
    answer(bin.style, object("origin", json!(asked.origin())))
}

async fn user_agent(State(bin): State<Bin>, asked: Asked) -> Response {
    let agent = asked
        .headers
        .get(header::USER_AGENT)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    answer(bin.style, object("user-agent", json!(agent)))
}

/// An object of one field.
pub(crate) fn object(name: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value)])
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
