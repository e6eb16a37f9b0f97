//! Rules of VirtualService.

use std::collections::BTreeSet;

use crate::{Duration, virtual_service::*};

/// The conditions of `retryOn`; a number 200 to 599 is accepted too.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Istio's limit of a regular expression.
const LONGEST_REGEX: usize = 1024;

pub(super) fn check(spec: &VirtualService, errors: &mut Vec<String>) {
    let on_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh");
    if spec.hosts.is_empty() {
        if !spec.gateways.is_empty() {
            errors.push("virtual service must have at least one host".into());
        }
    } else if spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty() {
        errors.push("http, tcp or tls must be provided in virtual service".into());
    }
    let mut seen = BTreeSet::new();
    for host in &spec.hosts {
        if !seen.insert(host) {
            errors.push(format!(
                "duplicate hosts in virtual service: {host} & {host}"
            ));
        }
        if host == "*" && on_mesh {
            errors.push(
                "wildcard host * is not allowed for virtual services bound to the mesh gateway"
                    .into(),
            );
        }
    }
    for rule in &spec.http {
        http_rule(rule, spec.hosts.is_empty(), errors);
    }
    for route in spec
        .tcp
        .iter()
        .map(|rule| &rule.route)
        .chain(spec.tls.iter().map(|rule| &rule.route))
    {
        if route.is_empty() {
            errors.push("TCP or TLS route is required".into());
        }
        weights(route.iter().map(|to| to.weight), errors);
    }
}

fn http_rule(rule: &HttpRoute, delegate: bool, errors: &mut Vec<String>) {
    match (&rule.redirect, &rule.direct_response, rule.route.is_empty()) {
        (None, None, true) if rule.delegate.is_none() => {
            errors.push("HTTP route, redirect or direct_response is required".into());
        }
        (Some(_), _, false) => {
            errors.push("HTTP route cannot contain both route and redirect".into())
        }
        (_, Some(_), false) => {
            errors.push("HTTP route cannot contain both route and direct_response".into())
        }
        (Some(_), Some(_), _) => {
            errors.push("HTTP route cannot contain both redirect and direct_response".into())
        }
        _ => {}
    }
    if rule.delegate.is_some() && (delegate || !rule.route.is_empty() || rule.redirect.is_some()) {
        errors.push("root HTTP route with a delegate must not contain route or redirect, and delegates cannot delegate".into());
    }
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        errors.push("HTTP route cannot contain both mirror and mirrors".into());
    }
    for to in &rule.route {
        if to.destination.host.is_empty() {
            errors.push("destination must have a host".into());
        }
    }
    weights(rule.route.iter().map(|to| to.weight), errors);
    for block in &rule.r#match {
        let named = block
            .headers
            .values()
            .chain(block.without_headers.values())
            .chain(block.query_params.values());
        let parts = [&block.uri, &block.scheme, &block.method, &block.authority];
        for condition in parts.into_iter().flatten().chain(named) {
            string_match(condition, errors);
        }
    }
    let code = rule
        .redirect
        .as_ref()
        .and_then(|redirect| redirect.redirect_code);
    if let Some(code) = code.filter(|code| !matches!(code, 0 | 301 | 302 | 303 | 307 | 308)) {
        errors.push(format!(
            "{code} is not a supported redirect code, supported codes are 301, 302, 303, 307, 308"
        ));
    }
    if let Some(response) = &rule.direct_response {
        status(i64::from(response.status), errors);
    }
    if let Some(timeout) = rule.timeout.filter(|timeout| !timeout.0.is_zero()) {
        duration(timeout, errors);
    }
    if let Some(retries) = &rule.retries {
        retry(retries, errors);
    }
    if let Some(fault) = &rule.fault {
        self::fault(fault, errors);
    }
    for share in rule
        .mirrors
        .iter()
        .filter_map(|mirror| mirror.percentage.as_ref())
        .chain(&rule.mirror_percentage)
    {
        percentage(share, errors);
    }
}

fn weights(weights: impl ExactSizeIterator<Item = Option<i32>>, errors: &mut Vec<String>) {
    let several = weights.len() > 1;
    let mut total = 0i64;
    for weight in weights.map(Option::unwrap_or_default) {
        if weight < 0 {
            errors.push(format!("weight {weight} < 0"));
        }
        total += i64::from(weight);
    }
    if several && total == 0 {
        errors.push("total destination weight = 0".into());
    }
}

fn string_match(condition: &StringMatch, errors: &mut Vec<String>) {
    let Some(expression) = &condition.regex else {
        return;
    };
    if expression.is_empty() {
        errors.push(format!(
            "{expression:?}: regex string match should not be empty"
        ));
    } else if expression.len() > LONGEST_REGEX {
        errors.push(format!(
            "regex is too large, max length allowed is {LONGEST_REGEX}"
        ));
    } else if expression != "*" && regex::Regex::new(expression).is_err() {
        errors.push(format!(
            "invalid regex {expression:?}: expected RE2 syntax (no look-around, no back-references)"
        ));
    }
}

fn retry(retries: &HttpRetry, errors: &mut Vec<String>) {
    match retries.attempts {
        Some(attempts) if attempts < 0 => errors.push("attempts cannot be negative".into()),
        Some(0) if !retries.retry_on.is_empty() || retries.per_try_timeout.is_some() => {
            errors
                .push("http retry policy configured when attempts are set to 0 (disabled)".into());
        }
        _ => {}
    }
    for timeout in [retries.per_try_timeout, retries.backoff]
        .into_iter()
        .flatten()
    {
        duration(timeout, errors);
    }
    for word in retries
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let code = word
            .parse::<u32>()
            .is_ok_and(|code| (200..600).contains(&code));
        if !code && !RETRY_ON.contains(&word) {
            let meant = RETRY_ON
                .iter()
                .max_by(|a, b| near(a, word).total_cmp(&near(b, word)))
                .filter(|known| near(known, word) > 0.8);
            let hint = meant.map_or(String::new(), |known| format!("; did you mean {known:?}?"));
            errors.push(format!("{word:?} is not a valid retryOn policy{hint}"));
        }
    }
}

/// How alike two words are, from 0 to 1.
fn near(known: &str, word: &str) -> f64 {
    strsim::jaro_winkler(known, word)
}

fn fault(fault: &HttpFaultInjection, errors: &mut Vec<String>) {
    if fault.delay.is_none() && fault.abort.is_none() {
        errors.push("HTTP fault injection must have an abort and/or a delay".into());
    }
    if let Some(delay) = &fault.delay {
        if let Some(share) = &delay.percentage {
            percentage(share, errors);
        }
        if let Some(percent) = delay.percent.filter(|percent| !(0..=100).contains(percent)) {
            errors.push(format!("percentage {percent} is not in range 0..100"));
        }
        match delay.fixed_delay {
            Some(fixed) => duration(fixed, errors),
            None => errors.push("HTTP delay must have a fixedDelay".into()),
        }
    }
    if let Some(abort) = &fault.abort {
        if let Some(share) = &abort.percentage {
            percentage(share, errors);
        }
        match (abort.http_status, &abort.grpc_status) {
            (Some(code), _) => status(i64::from(code), errors),
            (None, None) => {
                errors.push("HTTP abort must have an httpStatus or a grpcStatus".into())
            }
            (None, Some(name)) if grpc_status(name).is_none() => {
                errors.push(format!("{name:?} is not a supported gRPC status code"));
            }
            _ => {}
        }
    }
}

fn status(code: i64, errors: &mut Vec<String>) {
    if !(200..600).contains(&code) {
        errors.push(format!("HTTP status {code} is not in range 200-599"));
    }
}

fn percentage(share: &Percent, errors: &mut Vec<String>) {
    let value = share.value;
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        errors.push(format!(
            "percentage {value} is neither 0.0, nor in range [0.0001, 100.0]"
        ));
    }
}

fn duration(duration: Duration, errors: &mut Vec<String>) {
    if duration.0 < std::time::Duration::from_millis(1) {
        errors.push("duration must be greater than 1ms".into());
    } else if !duration.0.subsec_nanos().is_multiple_of(1_000_000) {
        errors.push("only durations to ms precision are supported".into());
    }
}
