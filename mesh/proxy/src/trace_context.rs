//! Tracing headers: B3 and W3C. A hop makes a span of its own below the caller's; the incoming
//! sampling decision stands.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_config::Percent;

use crate::{headers::X_REQUEST_ID, spans::Ids, worker::Worker};

const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Rewrites the tracing headers of a request for the next hop; returns the hop's ids when the request
/// is sampled. With sampling off, requests that carry no trace start none.
pub(crate) fn propagate(
    headers: &mut HeaderMap,
    sampling: Percent,
    worker: &Worker,
) -> Option<Ids> {
    let b3 = headers.get(&TRACE_ID).cloned();
    let w3c = headers.get(&TRACEPARENT).and_then(Traceparent::read);
    if b3.is_none() && w3c.is_none() {
        if sampling == Percent::ZERO {
            return None;
        }
        let sampled = match headers.get(&SAMPLED).map(HeaderValue::as_bytes) {
            Some(b"0") => false,
            Some(b"1") => true,
            _ => sampling.hits(worker.draw_millionths()),
        };
        return start(headers, sampled, worker);
    }
    let mut ids = Ids {
        trace: String::new(),
        span: hex(&worker.draw_bytes::<8>()),
        parent: None,
    };
    let mut sampled = false;
    if let Some(parent) = w3c {
        put(headers, TRACEPARENT, &parent.child(&ids.span));
        sampled = parent.is_sampled();
        (ids.trace, ids.parent) = (parent.trace, Some(parent.span));
    }
    if let Some(trace) = b3 {
        if let Some(parent) = headers.get(&SPAN_ID).cloned() {
            ids.parent = parent.to_str().ok().map(str::to_owned);
            headers.insert(PARENT, parent);
        }
        put(headers, SPAN_ID, &ids.span);
        if !headers.contains_key(&SAMPLED) {
            let sampled = sampling.hits(worker.draw_millionths());
            headers.insert(SAMPLED, decision(sampled));
        }
        sampled = headers.get(&SAMPLED).is_some_and(|value| value == "1");
        if sampled {
            mark_traced(headers);
        }
        // Old clients have ids of 16 digits.
        ids.trace = format!("{:0>32}", trace.to_str().unwrap_or(""));
    }
    sampled.then_some(ids)
}

fn start(headers: &mut HeaderMap, sampled: bool, worker: &Worker) -> Option<Ids> {
    let trace = hex(&worker.draw_bytes::<16>());
    let span = hex(&worker.draw_bytes::<8>());
    let flags = if sampled { "01" } else { "00" };
    put(headers, TRACEPARENT, &format!("00-{trace}-{span}-{flags}"));
    put(headers, TRACE_ID, &trace);
    put(headers, SPAN_ID, &span);
    headers.insert(SAMPLED, decision(sampled));
    if sampled {
        mark_traced(headers);
    }
    let parent = None;
    sampled.then_some(Ids {
        trace,
        span,
        parent,
    })
}

fn decision(sampled: bool) -> HeaderValue {
    HeaderValue::from_static(if sampled { "1" } else { "0" })
}

/// The version nibble of a request id that this mesh made says `9` when the request is traced.
fn mark_traced(headers: &mut HeaderMap) {
    if let Some(id) = headers.get_mut(&X_REQUEST_ID)
        && id.len() == 36
        && id.as_bytes()[14] == b'4'
    {
        let mut text = id.as_bytes().to_vec();
        text[14] = b'9';
        if let Ok(marked) = HeaderValue::from_bytes(&text) {
            *id = marked;
        }
    }
}

/// `00-<trace id>-<span id>-<flags>`.
struct Traceparent {
    trace: String,
    span: String,
    flags: String,
}

impl Traceparent {
    fn read(value: &HeaderValue) -> Option<Self> {
        let mut parts = value.to_str().ok()?.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let valid = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        valid.then(|| Self {
            trace: trace.into(),
            span: span.into(),
            flags: flags.into(),
        })
    }

    fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.flags, 16).is_ok_and(|flags| flags & 1 == 1)
    }

    fn child(&self, span: &str) -> String {
        format!("00-{}-{span}-{}", self.trace, self.flags)
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text).expect("hexadecimal digits are ASCII");
    headers.insert(name, value);
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
