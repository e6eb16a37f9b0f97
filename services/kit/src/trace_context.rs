//! Which trace a request belongs to: W3C (`traceparent`) and B3 (`b3`, `x-b3-...`) headers, in and
//! out.
//!
//! Meshes and services differ in which family they use, so both are read (W3C first) and both are
//! written.

use std::str::FromStr as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The span that a request's headers name as its parent, if they do.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Option<SpanContext> {
    w3c(headers)
        .or_else(|| b3_single(headers))
        .or_else(|| b3_multi(headers))
}

/// Makes `headers` name this span as the parent of the request, in place of any that they named.
pub fn inject(span: &SpanContext, headers: &mut HeaderMap) {
    let (trace, id) = (span.trace_id(), span.span_id());
    let sampled = if span.is_sampled() { "1" } else { "0" };
    set(
        headers,
        "traceparent",
        &format!("00-{trace}-{id}-0{sampled}"),
    );
    set(headers, "x-b3-traceid", &trace.to_string());
    set(headers, "x-b3-spanid", &id.to_string());
    set(headers, "x-b3-sampled", sampled);
    headers.remove("x-b3-parentspanid");
    if headers.contains_key("b3") {
        set(headers, "b3", &format!("{trace}-{id}-{sampled}"));
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Hexadecimal digits and hyphens are always a header value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn w3c(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parts = text(headers, "traceparent")?.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2
        || version == "ff"
        || trace.len() != 32
        || span.len() != 16
        || flags.len() != 2
    {
        return None;
    }
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    let state = text(headers, "tracestate").and_then(|state| TraceState::from_str(state).ok());
    parent(trace, span, sampled, state.unwrap_or_default())
}

fn b3_single(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parts = text(headers, "b3")?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    parent(trace, span, sampled(parts.next()), TraceState::default())
}

fn b3_multi(headers: &HeaderMap) -> Option<SpanContext> {
    let (trace, span) = (
        text(headers, "x-b3-traceid")?,
        text(headers, "x-b3-spanid")?,
    );
    let debug = text(headers, "x-b3-flags")
        .filter(|flags| *flags == "1")
        .map(|_| "d");
    let sampled = sampled(debug.or_else(|| text(headers, "x-b3-sampled")));
    parent(trace, span, sampled, TraceState::default())
}

/// B3 leaves the decision to the receiver when it says nothing: then the trace is kept.
fn sampled(text: Option<&str>) -> bool {
    !matches!(text, Some("0" | "false"))
}

/// A trace id may be short (64 bits) in B3.
fn parent(trace: &str, span: &str, sampled: bool, state: TraceState) -> Option<SpanContext> {
    let trace = TraceId::from_hex(trace).ok()?;
    let span = SpanId::from_hex(span).ok()?;
    let flags = TraceFlags::default().with_sampled(sampled);
    let context = SpanContext::new(trace, span, flags, true, state);
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            set(&mut headers, name, value);
        }
        headers
    }

    fn found(pairs: &[(&'static str, &str)]) -> Option<(String, String, bool)> {
        let context = extract(&headers(pairs))?;
        Some((
            context.trace_id().to_string(),
            context.span_id().to_string(),
            context.is_sampled(),
        ))
    }

    #[test]
    fn each_form_is_read() {
        let expected = Some((TRACE.to_owned(), SPAN.to_owned(), true));
        assert_eq!(
            found(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]),
            expected
        );
        assert_eq!(found(&[("b3", &format!("{TRACE}-{SPAN}-1"))]), expected);
        assert_eq!(found(&[("b3", &format!("{TRACE}-{SPAN}"))]), expected);
        assert_eq!(
            found(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)]),
            expected
        );
        let unsampled = found(&[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "0"),
        ]);
        assert_eq!(unsampled.map(|found| found.2), Some(false));
        let short = found(&[("b3", &format!("8448eb211c80319c-{SPAN}-1"))]);
        assert_eq!(
            short.expect("a parent").0,
            format!("{:0>32}", "8448eb211c80319c")
        );
    }

    #[test]
    fn garbage_is_no_parent() {
        for pairs in [
            vec![],
            vec![("traceparent", "00-xyz-abc-01")],
            vec![(
                "traceparent",
                "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            )],
            vec![("b3", "0")],
            vec![("x-b3-traceid", TRACE)],
        ] {
            assert_eq!(found(&pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_each_family() {
        let span = extract(&headers(&[("b3", &format!("{TRACE}-{SPAN}-1"))])).expect("a parent");
        let mut written = headers(&[
            ("b3", "old"),
            ("x-b3-parentspanid", "old"),
            ("tracestate", "a=1"),
        ]);
        inject(&span, &mut written);
        let expected = Some(&span).map(|span| (span.trace_id(), span.span_id()));
        for family in [
            &["traceparent"][..],
            &["b3"],
            &["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"],
        ] {
            let mut only = HeaderMap::new();
            for name in family {
                only.insert(*name, written[*name].clone());
            }
            let read = extract(&only);
            assert_eq!(
                read.as_ref().map(|span| (span.trace_id(), span.span_id())),
                expected,
                "{family:?}"
            );
        }
        assert!(!written.contains_key("x-b3-parentspanid"));
        assert!(written.contains_key("tracestate"));
    }
}
