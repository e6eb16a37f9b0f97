//! Slow answers.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures::stream;
use tokio::time::sleep;

use crate::asked::{self, Asked};
use crate::{Bin, Style, bad};

/// The most events of `/sse`.
const MAX_EVENTS: u64 = 10_000;

/// The routes that take their time.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/delay/{time}", any(delay))
        .route("/drip", get(drip))
        .route("/sse", get(events))
}

/// Reads seconds (`2`, `0.5`) or a duration (`200ms`) of at most `longest`.
fn duration(text: &str, longest: Duration) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; write seconds (1.5) or a duration (200ms)");
    let duration = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?,
        Err(_) => dojo_kit::duration::parse(text).map_err(|_| wrong())?,
    };
    if duration > longest {
        return Err(format!(
            "`{text}` is longer than {} (MAX_DURATION)",
            dojo_kit::duration::text(longest)
        ));
    }
    Ok(duration)
}

/// A time from the query, else a default.
fn time(asked: &Asked, name: &str, default: Duration, bin: Bin) -> Result<Duration, String> {
    asked
        .parameter(name)
        .map_or(Ok(default), |text| duration(&text, bin.max_duration))
}

/// A whole number from the query, else a default.
pub(crate) fn number(asked: &Asked, name: &str, default: u64, most: u64) -> Result<u64, String> {
    let Some(text) = asked.parameter(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!(
            "{name} must be a whole number from 0 to {most}, not `{text}`"
        )),
    }
}

async fn delay(State(bin): State<Bin>, Path(text): Path<String>, request: Request) -> Response {
    let wait = match duration(&text, bin.max_duration) {
        Ok(wait) => wait,
        // The Python program makes any longer time its longest.
        Err(_) if bin.style == Style::Python && text.parse::<f64>().is_ok_and(|s| s > 0.0) => {
            bin.max_duration
        }
        Err(detail) => return bad(&detail),
    };
    sleep(wait).await;
    asked::anything(State(bin), request).await
}

async fn drip(State(bin): State<Bin>, asked: Asked) -> Response {
    let two = Duration::from_secs(2).min(bin.max_duration);
    let read = || {
        let wait = time(&asked, "delay", two, bin)?;
        let duration = time(&asked, "duration", two, bin)?;
        let count = number(&asked, "numbytes", 10, bin.max_body as u64)?;
        let code = number(&asked, "code", 200, 599)?;
        let code = u16::try_from(code)
            .ok()
            .filter(|code| *code >= 200)
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or("code must be a status from 200 to 599")?;
        if wait + duration > bin.max_duration {
            return Err("delay and duration together are longer than MAX_DURATION".to_owned());
        }
        Ok::<_, String>((wait, duration, count, code))
    };
    let (wait, duration, count, code) = match read() {
        Ok(read) => read,
        Err(detail) => return bad(&detail),
    };
    sleep(wait).await;
    // The last byte comes when the duration is over.
    let pause = duration / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let drops = stream::unfold(0, move |sent| async move {
        if sent == count {
            return None;
        }
        sleep(pause).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b"*")), sent + 1))
    });
    (
        code,
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, count.to_string()),
        ],
        Body::from_stream(drops),
    )
        .into_response()
}

async fn events(State(bin): State<Bin>, asked: Asked) -> Response {
    let read = || {
        Ok::<_, String>((
            time(&asked, "delay", Duration::ZERO, bin)?,
            time(
                &asked,
                "duration",
                Duration::from_secs(5).min(bin.max_duration),
                bin,
            )?,
            number(&asked, "count", 10, MAX_EVENTS)?,
        ))
    };
    let (wait, duration, count) = match read() {
        Ok(read) => read,
        Err(detail) => return bad(&detail),
    };
    sleep(wait).await;
    let pause = duration / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    let events = stream::unfold(0, move |sent| async move {
        if sent == count {
            return None;
        }
        if sent > 0 {
            sleep(pause).await;
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |age| age.as_millis());
        let event = format!("event: ping\ndata: {{\"id\":{sent},\"timestamp\":{now}}}\n\n");
        Some((Ok::<_, std::io::Error>(Bytes::from(event)), sent + 1))
    });
    (
        [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from_stream(events),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, go, python, send};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_kept_to_the_millisecond() {
        for (path, milliseconds) in [("1", 1000), ("0.25", 250), ("200ms", 200), ("0", 0)] {
            let started = Instant::now();
            let answer = send(&go(), "POST", &format!("/delay/{path}"), &[], "x").await;
            assert_eq!(started.elapsed().as_millis(), milliseconds);
            assert_eq!(
                (answer.status, answer.json()["data"].clone()),
                (200, "x".into())
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_long_is_refused_or_made_the_longest() {
        for path in ["11", "1h", "-1", "soon", "NaN"] {
            assert_eq!(get(&format!("/delay/{path}")).await.status, 400, "{path}");
        }
        let started = Instant::now();
        assert_eq!(
            send(&python(), "GET", "/delay/60", &[], "").await.status,
            200
        );
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(
            send(&python(), "GET", "/delay/-1", &[], "").await.status,
            400
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_takes_its_duration() {
        let started = Instant::now();
        let answer = get("/drip?numbytes=5&duration=3&delay=1&code=503").await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "*****"));
        assert_eq!(answer.header("content-length"), "5");
        assert_eq!(started.elapsed().as_secs(), 4);
        for query in [
            "duration=11",
            "numbytes=x",
            "code=99",
            "numbytes=99999999",
            "delay=6&duration=6",
        ] {
            assert_eq!(get(&format!("/drip?{query}")).await.status, 400, "{query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_sent_one_by_one() {
        let answer = get("/sse?count=3&duration=3s").await;
        assert_eq!(
            answer.header("content-type"),
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(
            answer.body.matches("event: ping\ndata: {\"id\":").count(),
            3
        );
    }
}
