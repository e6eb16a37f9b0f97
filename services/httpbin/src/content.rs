//! Fixed documents and encodings.

use std::io::{self, Write as _};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use dojo_kit::Kit;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use crate::asked::{Asked, answer, document, object};
use crate::{Bin, bad, problem};

const INDEX: &str = include_str!("content/index.html");
const PAGE: &str = include_str!("content/page.html");
const FORM: &str = include_str!("content/form.html");
const UTF8: &str = include_str!("content/utf8.html");
const IMAGE: &str = include_str!("content/image.svg");
/// A PNG of one pixel, in base64.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<slideshow title="A Tour of the Mesh" date="today" author="Mesh Dojo">
  <slide type="all"><title>Sidecars take the wheel</title></slide>
  <slide type="all"><title>Overview</title><item>Routes choose</item><item>Clusters serve</item></slide>
</slideshow>
"#;

/// The routes with fixed content.
pub(crate) fn routes(kit: &Kit) -> Router<Bin> {
    let host = kit
        .identity
        .pod
        .clone()
        .unwrap_or_else(|| "localhost".to_owned());
    let hostname = move |State(bin): State<Bin>| {
        let shown = if bin.real_hostname { &host } else { "httpbin" };
        std::future::ready(answer(bin.style, object("hostname", json!(shown))))
    };
    Router::new()
        .route("/", get(|| async { Html(INDEX) }))
        .route("/health", get(|| async { "OK" }))
        .route("/hostname", get(hostname))
        .route("/html", get(|| async { Html(PAGE) }))
        .route("/forms/post", get(|| async { Html(FORM) }))
        .route("/encoding/utf8", get(|| async { Html(UTF8) }))
        .route(
            "/json",
            get(|| async { document(StatusCode::OK, &slides()) }),
        )
        .route(
            "/xml",
            get(|| async { ([(header::CONTENT_TYPE, "application/xml")], XML) }),
        )
        .route(
            "/robots.txt",
            get(|| async { "User-agent: *\nDisallow: /deny\n" }),
        )
        .route(
            "/deny",
            get(|| async { "You should not be here: robots.txt asks robots to stay away.\n" }),
        )
        .route("/image", get(image))
        .route("/image/svg", get(svg))
        .route("/image/png", get(png))
        .route("/gzip", get(gzip))
        .route("/deflate", get(deflate))
        .route("/brotli", get(brotli))
        .route("/uuid", get(uuid))
        .route("/base64/{text}", get(decode))
        .route("/base64/decode/{text}", get(decode))
        .route("/base64/encode/{text}", get(encode))
        .route("/links/{count}", get(first_link))
        .route("/links/{count}/{here}", get(links))
        .route("/dump/request", any(dump))
}

fn slides() -> Value {
    json!({"slideshow": {
        "author": "Mesh Dojo",
        "date": "date of publication",
        "title": "A Tour of the Mesh",
        "slides": [
            {"title": "Sidecars take the wheel", "type": "all"},
            {"title": "Overview", "type": "all", "items": ["Routes <em>choose</em>", "Clusters serve"]},
        ],
    }})
}

async fn svg() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], IMAGE).into_response()
}

async fn png() -> Response {
    match STANDARD.decode(PIXEL) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "image/png")], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn image(asked: Asked) -> Response {
    let accept = asked
        .headers
        .get(header::ACCEPT)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_else(|| "*/*".to_owned());
    if accept.contains("image/svg") {
        svg().await
    } else if ["image/png", "image/*", "*/*"]
        .iter()
        .any(|kind| accept.contains(kind))
    {
        png().await
    } else {
        problem(
            StatusCode::NOT_ACCEPTABLE,
            "there are images of image/svg+xml and image/png",
        )
    }
}

/// What was asked with `name: true` first, as JSON.
fn confirmation(bin: Bin, asked: &Asked, name: &str) -> String {
    let mut object = object(name, json!(true));
    object.insert("headers".into(), asked.header_object(bin.style));
    object.insert("method".into(), json!(asked.method.as_str()));
    object.insert("origin".into(), json!(asked.origin()));
    format!("{:#}\n", Value::Object(object))
}

fn encoded(encoding: &'static str, bytes: io::Result<Vec<u8>>) -> Response {
    match bytes {
        Ok(bytes) => (
            [
                (header::CONTENT_TYPE, "application/json; charset=utf-8"),
                (header::CONTENT_ENCODING, encoding),
            ],
            bytes,
        )
            .into_response(),
        Err(error) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot compress: {error}"),
        ),
    }
}

async fn gzip(State(bin): State<Bin>, asked: Asked) -> Response {
    let text = confirmation(bin, &asked, "gzipped");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(text.as_bytes());
    encoded("gzip", written.and_then(|()| encoder.finish()))
}

async fn deflate(State(bin): State<Bin>, asked: Asked) -> Response {
    let text = confirmation(bin, &asked, "deflated");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(text.as_bytes());
    encoded("deflate", written.and_then(|()| encoder.finish()))
}

async fn brotli() -> Response {
    problem(
        StatusCode::NOT_IMPLEMENTED,
        "there is no brotli here; see /gzip and /deflate",
    )
}

async fn uuid(State(bin): State<Bin>) -> Response {
    answer(
        bin.style,
        object("uuid", json!(uuid::Uuid::new_v4().to_string())),
    )
}

async fn decode(Path(text): Path<String>) -> Response {
    let text = text.trim_end_matches('=');
    let padded = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    match URL_SAFE
        .decode(&padded)
        .or_else(|_| STANDARD.decode(&padded))
    {
        Ok(bytes) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response(),
        Err(error) => bad(&format!("`{text}` is not base64: {error}")),
    }
}

async fn encode(Path(text): Path<String>) -> String {
    URL_SAFE.encode(text)
}

async fn first_link(Path(count): Path<String>) -> Response {
    links(Path((count, "0".to_owned()))).await
}

async fn links(Path((count, here)): Path<(String, String)>) -> Response {
    let (Ok(count), Ok(here)) = (count.parse::<u32>(), here.parse::<u32>()) else {
        return bad("write two numbers: how many links, and which page this is");
    };
    let count = count.min(256);
    let links = (0..count).map(|page| {
        if page == here {
            format!("{page}")
        } else {
            format!("<a href=\"/links/{count}/{page}\">{page}</a>")
        }
    });
    let links = links.collect::<Vec<_>>().join(" ");
    Html(format!(
        "<!DOCTYPE html>\n<html><head><title>Links</title></head><body>{links}</body></html>\n"
    ))
    .into_response()
}

async fn dump(asked: Asked) -> String {
    let path = asked.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut text = format!("{} {path} HTTP/1.1\r\n", asked.method);
    for (name, value) in &asked.headers {
        text.push_str(&format!(
            "{name}: {}\r\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    text.push_str("\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, go, send};
    use std::io::Read as _;

    #[tokio::test]
    async fn documents_have_their_content_types() {
        for (path, kind, part) in [
            ("/", "text/html; charset=utf-8", "/anything"),
            ("/html", "text/html; charset=utf-8", "<h1>"),
            ("/forms/post", "text/html; charset=utf-8", "<form"),
            ("/encoding/utf8", "text/html; charset=utf-8", "가나다"),
            ("/json", "application/json; charset=utf-8", "slideshow"),
            ("/xml", "application/xml", "<?xml"),
            (
                "/robots.txt",
                "text/plain; charset=utf-8",
                "Disallow: /deny",
            ),
            ("/deny", "text/plain; charset=utf-8", "should not"),
            ("/image/svg", "image/svg+xml", "<svg"),
            ("/image/png", "image/png", "PNG"),
            ("/image", "image/png", "PNG"),
            ("/links/3", "text/html; charset=utf-8", "/links/3/2"),
        ] {
            let answer = get(path).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, kind),
                "{path}"
            );
            assert!(answer.body.contains(part), "{path}: {}", answer.body);
        }
        let html = [("accept", "text/html")];
        assert_eq!(send(&go(), "GET", "/image", &html, "").await.status, 406);
        assert_eq!(
            get("/hostname").await.json(),
            json!({"hostname": "httpbin-1"})
        );
        assert_eq!(get("/links/x").await.status, 400);
        assert_eq!(get("/brotli").await.status, 501);
        assert_eq!(get("/health").await.status, 200);
    }

    #[tokio::test]
    async fn encodings_can_be_read_back() {
        let answer = get("/gzip").await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&answer.bytes[..])
            .read_to_string(&mut text)
            .expect("gzip");
        assert!(text.contains("\"gzipped\": true"), "{text}");
        let answer = get("/deflate").await;
        assert_eq!(answer.header("content-encoding"), "deflate");
        let mut text = String::new();
        flate2::read::ZlibDecoder::new(&answer.bytes[..])
            .read_to_string(&mut text)
            .expect("zlib");
        assert!(text.contains("\"deflated\": true"), "{text}");
    }

    #[tokio::test]
    async fn base64_both_ways() {
        for path in ["aGVsbG8=", "aGVsbG8", "decode/aGVsbG8="] {
            assert_eq!(get(&format!("/base64/{path}")).await.body, "hello");
        }
        assert_eq!(get("/base64/encode/hello").await.body, "aGVsbG8=");
        assert_eq!(get("/base64/%23%23").await.status, 400);
    }

    #[tokio::test]
    async fn uuids_differ() {
        let (one, other) = (get("/uuid").await.json(), get("/uuid").await.json());
        assert_eq!(one["uuid"].as_str().map(str::len), Some(36));
        assert_ne!(one, other);
    }

    #[tokio::test]
    async fn a_dump_shows_the_head() {
        let answer = send(&go(), "GET", "/dump/request?a=b", &[("x-a", "1")], "").await;
        assert!(
            answer
                .body
                .starts_with("GET /dump/request?a=b HTTP/1.1\r\n")
        );
        assert!(answer.body.contains("x-a: 1\r\n"));
    }
}
