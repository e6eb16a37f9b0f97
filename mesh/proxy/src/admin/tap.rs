//! `/tap`: what passes, as JSON lines.

use std::sync::Arc;

use http::StatusCode;

use super::query::Query;
use crate::{
    serve::Page,
    tap::{MOST_BYTES, Raw, Tap, WATCHERS},
};

/// `/tap`: JSON lines of requests and connections. `/tap?raw`: of bytes too. `/tap?raw=N`: of the
/// first N of them, with the headers and whatever else they hold.
pub(crate) fn page(tap: &Arc<Tap>, query: &Query<'_>) -> Page {
    let raw = match query.get("raw").as_deref() {
        None => None,
        Some("") => Some(Raw::Kind),
        Some(count) => match count.parse() {
            Ok(count @ 1..=MOST_BYTES) => Some(Raw::First(count)),
            _ => {
                let text = format!("raw: {count:?} is not a number from 1 to {MOST_BYTES}\n");
                return Page::text(text).status(StatusCode::BAD_REQUEST);
            }
        },
    };
    match tap.watch(raw) {
        Some(lines) => Page::lines(lines),
        None => {
            let text = format!("{WATCHERS} others watch already; let one of them stop\n");
            Page::text(text).status(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}
