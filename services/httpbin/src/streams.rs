//! Bytes and lines, whole or in chunks.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Map, Value, json};

use crate::asked::Asked;
use crate::timing::number;
use crate::{Bin, bad};

/// The most bytes of an answer.
const MAX_BYTES: usize = 100 * 1024;
/// The most lines of an answer.
const MAX_LINES: u64 = 100;
/// Bytes per chunk unless asked otherwise.
const CHUNK: u64 = 10 * 1024;

/// The routes that send much.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/bytes/{count}", get(bytes))
        .route("/stream-bytes/{count}", get(stream_bytes))
        .route("/stream/{count}", get(lines))
        .route("/range/{count}", get(range))
}

/// Random bytes; the same seed gives the same ones.
fn random_bytes(count: &str, asked: &Asked) -> Result<Bytes, String> {
    let count = count
        .parse::<usize>()
        .map_err(|_| format!("`{count}` is not a number of bytes"))?
        .min(MAX_BYTES);
    let seed = match asked.parameter("seed") {
        Some(_) => number(asked, "seed", 0, u64::MAX)?,
        None => rand::random(),
    };
    Ok(noise(seed).take(count).collect())
}

/// An endless row of bytes (`SplitMix64`).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    })
    .flatten()
}

const OCTETS: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");

async fn bytes(Path(count): Path<String>, asked: Asked) -> Response {
    match random_bytes(&count, &asked) {
        Ok(bytes) => ([OCTETS], bytes).into_response(),
        Err(detail) => bad(&detail),
    }
}

async fn stream_bytes(Path(count): Path<String>, asked: Asked) -> Response {
    let bytes = random_bytes(&count, &asked);
    let chunk = number(&asked, "chunk_size", CHUNK, MAX_BYTES as u64);
    let (bytes, chunk) = match (bytes, chunk) {
        (Ok(bytes), Ok(chunk)) => (bytes, usize::try_from(chunk.max(1)).unwrap_or(MAX_BYTES)),
        (Err(detail), _) | (_, Err(detail)) => return bad(&detail),
    };
    let chunks = stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest.split_to(chunk.min(rest.len()));
        Some((Ok::<_, std::io::Error>(chunk), rest))
    });
    ([OCTETS], Body::from_stream(chunks)).into_response()
}

async fn lines(State(bin): State<Bin>, Path(count): Path<String>, asked: Asked) -> Response {
    let Ok(count) = count.parse::<u64>() else {
        return bad(&format!("`{count}` is not a number of lines"));
    };
    let count = count.min(MAX_LINES);
    let described = asked.describe(bin.style);
    let lines = stream::iter((0..count).map(move |id| {
        let mut line = Map::from_iter([("id".to_owned(), json!(id))]);
        line.extend(described.clone());
        Ok::<_, std::io::Error>(Bytes::from(format!("{}\n", Value::Object(line))))
    }));
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        Body::from_stream(lines),
    )
        .into_response()
}

async fn range(Path(count): Path<String>, asked: Asked) -> Response {
    let Ok(count) = count.parse::<usize>() else {
        return bad(&format!("`{count}` is not a number of bytes"));
    };
    let count = count.min(MAX_BYTES);
    let letters: Vec<u8> = (b'a'..=b'z').cycle().take(count).collect();
    let common = [
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"range{count}\"")),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
    ];
    let wanted = asked
        .headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    match wanted.map(|text| span(text, count)) {
        // A header that is no range at all is ignored, as HTTP says.
        None | Some(Span::Ignored) => (common, letters).into_response(),
        Some(Span::Part(first, last)) => (
            StatusCode::PARTIAL_CONTENT,
            common,
            [(
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{count}"),
            )],
            letters[first..=last].to_vec(),
        )
            .into_response(),
        Some(Span::Outside) => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            common,
            [(header::CONTENT_RANGE, format!("bytes */{count}"))],
        )
            .into_response(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Span {
    Part(usize, usize),
    Outside,
    Ignored,
}

/// Which bytes a `Range` header asks for, of so many.
fn span(text: &str, count: usize) -> Span {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Span::Ignored;
    };
    let span = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(count.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, count.saturating_sub(1)),
        (Err(_), Ok(tail)) if first.is_empty() && tail > 0 => {
            (count.saturating_sub(tail), count.saturating_sub(1))
        }
        _ => return Span::Ignored,
    };
    if span.0 >= count {
        Span::Outside
    } else {
        Span::Part(span.0, span.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{get, go, send};

    #[tokio::test]
    async fn bytes_are_as_many_as_asked_for_and_bounded() {
        let one = get("/bytes/1000?seed=7").await;
        assert_eq!((one.status, one.bytes.len()), (200, 1000));
        assert_eq!(one.header("content-type"), "application/octet-stream");
        assert_eq!(one.bytes, get("/bytes/1000?seed=7").await.bytes);
        assert_eq!(
            one.bytes,
            get("/stream-bytes/1000?seed=7&chunk_size=7").await.bytes
        );
        assert_ne!(one.bytes, get("/bytes/1000?seed=8").await.bytes);
        assert_eq!(get("/bytes/999999999").await.bytes.len(), MAX_BYTES);
        for path in [
            "/bytes/x",
            "/bytes/-1",
            "/bytes/1?seed=x",
            "/stream-bytes/1?chunk_size=x",
        ] {
            assert_eq!(get(path).await.status, 400, "{path}");
        }
        assert!(get("/bytes/0").await.bytes.is_empty());
    }

    #[tokio::test]
    async fn lines_are_json_and_bounded() {
        let answer = get("/stream/3?a=b").await;
        let lines: Vec<Value> = answer
            .body
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            (&lines[2]["id"], &lines[2]["args"]["a"][0]),
            (&json!(2), &json!("b"))
        );
        assert_eq!(get("/stream/5000").await.body.lines().count(), 100);
        assert_eq!(get("/stream/x").await.status, 400);
    }

    #[tokio::test]
    async fn ranges() {
        let whole = get("/range/30").await;
        assert_eq!(whole.body, "abcdefghijklmnopqrstuvwxyzabcd");
        let part = send(&go(), "GET", "/range/30", &[("range", "bytes=1-3")], "").await;
        assert_eq!((part.status, part.body.as_str()), (206, "bcd"));
        assert_eq!(part.header("content-range"), "bytes 1-3/30");
        let outside = send(&go(), "GET", "/range/30", &[("range", "bytes=30-")], "").await;
        assert_eq!(outside.status, 416);
        assert_eq!(span("bytes=-5", 30), Span::Part(25, 29));
        assert_eq!(span("bytes=28-99", 30), Span::Part(28, 29));
        assert_eq!(span("bytes=0-", 0), Span::Outside);
        assert_eq!(span("lines=1-2", 30), Span::Ignored);
    }
}
