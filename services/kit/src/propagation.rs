//! Headers that a service passes on from the request it serves to the requests it makes.
//!
//! A mesh joins the spans of a call chain only when services do this: the proxy beside a service
//! sees requests come and go but not which belongs to which.

use http::HeaderMap;

/// The headers that carry a request's identity and trace: W3C, B3 (both forms), and those of
/// other tracers. Every service passes these on.
pub const TRACE_HEADERS: &[&str] = &[
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
];

/// Copies the headers named in `lists` from `incoming`, all values of each.
#[must_use]
pub fn propagated(incoming: &HeaderMap, lists: &[&[&'static str]]) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for name in lists.iter().copied().flatten().copied() {
        for value in incoming.get_all(name) {
            outgoing.append(name, value.clone());
        }
    }
    outgoing
}

/// Adds the `x-b3-...` headers that say the same as a `b3` header (`trace-span-sampled-parent`),
/// where they are not there yet: some services understand only the long form.
pub fn expand_b3(headers: &mut HeaderMap) {
    let Some(single) = headers.get("b3").and_then(|value| value.to_str().ok()) else {
        return;
    };
    let parts: Vec<String> = single.split('-').map(str::to_owned).collect();
    let [trace, span, rest @ ..] = parts.as_slice() else {
        return;
    };
    let mut pairs = vec![
        ("x-b3-traceid", trace.as_str()),
        ("x-b3-spanid", span.as_str()),
    ];
    match rest.first().map(String::as_str) {
        Some("d") => pairs.push(("x-b3-flags", "1")),
        Some(sampled) => pairs.push(("x-b3-sampled", sampled)),
        None => {}
    }
    if let Some(parent) = rest.get(1) {
        pairs.push(("x-b3-parentspanid", parent.as_str()));
    }
    for (name, value) in pairs {
        if let (false, Ok(value)) = (headers.contains_key(name), value.parse()) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_single_b3_header_is_written_out() {
        let mut headers = HeaderMap::new();
        headers.insert("b3", "t-s-1-p".parse().expect("a header value"));
        headers.insert("x-b3-spanid", "kept".parse().expect("a header value"));
        expand_b3(&mut headers);
        assert_eq!(headers["x-b3-traceid"], "t");
        assert_eq!(headers["x-b3-spanid"], "kept");
        assert_eq!(headers["x-b3-sampled"], "1");
        assert_eq!(headers["x-b3-parentspanid"], "p");
        let mut headers = HeaderMap::new();
        headers.insert("b3", "0".parse().expect("a header value"));
        expand_b3(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn only_listed_headers_are_passed_on_and_keep_all_their_values() {
        let mut incoming = HeaderMap::new();
        for (name, value) in [
            ("x-request-id", "1"),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("x-my-header", "no"),
            ("end-user", "jason"),
        ] {
            incoming.append(name, value.parse().expect("a header value"));
        }
        let outgoing = propagated(&incoming, &[TRACE_HEADERS]);
        assert_eq!(outgoing.len(), 3);
        assert_eq!(outgoing.get_all("tracestate").iter().count(), 2);
        let outgoing = propagated(&incoming, &[TRACE_HEADERS, &["end-user"]]);
        assert_eq!(outgoing["end-user"], "jason");
    }
}
