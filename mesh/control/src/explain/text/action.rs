//! What a route does, in words.

use std::time::Duration;

use mesh_config::{
    AbortStatus, Fault, Forward, HeaderMutation, Percent, Redirect, RedirectPath, RetryPolicy,
    Rewrite, Route, RouteAction,
};

use super::{ClusterState, cluster, destinations, line};

/// First what happens on the way, then where it ends.
pub(super) fn action(route: &Route, clusters: &[ClusterState]) -> String {
    let mut text = String::new();
    if let Some(injected) = &route.fault {
        text += &fault(injected);
    }
    if route.cors.is_some() {
        text += &line("CORS", "a policy answers preflight requests");
    }
    match &route.action {
        RouteAction::Forward(to) => text += &forward(to, clusters),
        RouteAction::Redirect(to) => text += &line("Redirect", &redirect(to)),
        RouteAction::DirectResponse(answer) => {
            let body = match (answer.body.as_str(), answer.base64) {
                ("", _) => "no body".to_owned(),
                (_, true) => "a body of bytes".to_owned(),
                (body, false) => format!("{body:?}"),
            };
            text += &line("Answers itself", &format!("{} with {body}", answer.status));
        }
    }
    let mutated = |mutation: &HeaderMutation| headers(mutation);
    for (name, mutation) in [
        ("Request headers", &route.request_headers),
        ("Response headers", &route.response_headers),
    ] {
        if !mutation.is_empty() {
            text += &line(name, &mutated(mutation));
        }
    }
    text
}

fn forward(to: &Forward, clusters: &[ClusterState]) -> String {
    let mut text = match to.timeout.filter(|limit| !limit.is_zero()) {
        Some(limit) => line("Timeout", &format!("{} (504 then)", seconds(limit))),
        None => line("Timeout", "none"),
    };
    text += &line("Retries", &retries(to.retry.as_ref()));
    if let Some(rewrite) = &to.rewrite {
        text += &line("Rewrite", &rewritten(rewrite));
    }
    if !to.hash_policy.is_empty() {
        text += &line("Hash of", &format!("{:?}", to.hash_policy));
    }
    let shares = to.clusters.iter().map(|to| (to.name.as_str(), to.weight));
    text += &destinations(shares, clusters);
    for target in &to.clusters {
        for (of, mutation) in [
            ("request", &target.request_headers),
            ("response", &target.response_headers),
        ] {
            if !mutation.is_empty() {
                text += &format!("  {of} headers of {}: {}\n", target.name, headers(mutation));
            }
        }
    }
    for mirror in &to.mirrors {
        let share = percent(mirror.percent);
        text += &line("Mirror", &format!("{share} also to {}", mirror.cluster));
        let state = clusters.iter().find(|state| state.name == mirror.cluster);
        text += &cluster(&mirror.cluster, state);
    }
    text
}

fn fault(injected: &Fault) -> String {
    let mut text = String::new();
    if let Some(delay) = &injected.delay {
        let share = percent(delay.percent);
        text += &line(
            "Fault",
            &format!("{} late for {share} of requests", seconds(delay.fixed)),
        );
    }
    if let Some(abort) = &injected.abort {
        let status = match abort.status {
            AbortStatus::Http(status) => status.to_string(),
            AbortStatus::Grpc(status) => format!("gRPC status {status}"),
        };
        let share = percent(abort.percent);
        text += &line("Fault", &format!("{status} for {share} of requests"));
    }
    text
}

fn retries(policy: Option<&RetryPolicy>) -> String {
    let Some(policy) = policy.filter(|policy| policy.num_retries > 0) else {
        return "none".into();
    };
    let mut text = format!("{} on {}", policy.num_retries, policy.retry_on.join(","));
    if let Some(limit) = policy.per_try_timeout {
        text += &format!(", {} each", seconds(limit));
    }
    if !policy.retriable_status_codes.is_empty() {
        text += &format!(", status {:?}", policy.retriable_status_codes);
    }
    text
}

fn rewritten(rewrite: &Rewrite) -> String {
    let mut said = Vec::new();
    if let Some(prefix) = &rewrite.prefix {
        said.push(format!("what matched of the path becomes {prefix}"));
    }
    if let Some(regex) = &rewrite.regex {
        said.push(format!(
            "{} in the path becomes {}",
            regex.pattern, regex.substitution
        ));
    }
    if let Some(authority) = &rewrite.authority {
        said.push(format!("the host becomes {authority}"));
    }
    said.join(", ")
}

fn redirect(to: &Redirect) -> String {
    let mut text = to.status.to_string();
    let path = to.path.as_ref().map(|path| match path {
        RedirectPath::Full(path) => format!("path {path}"),
        RedirectPath::Prefix(prefix) => format!("prefix {prefix}"),
    });
    let scheme = to.scheme.as_ref().map(|scheme| format!("scheme {scheme}"));
    let host = to.authority.as_ref().map(|host| format!("host {host}"));
    let port = to.port.map(|port| format!("port {port}"));
    for part in [scheme, host, port, path].into_iter().flatten() {
        text += &format!(", {part}");
    }
    text
}

fn headers(mutation: &HeaderMutation) -> String {
    let set = mutation
        .set
        .iter()
        .map(|(name, value)| format!("set {name}: {value}"));
    let add = mutation
        .add
        .iter()
        .map(|(name, value)| format!("add {name}: {value}"));
    let remove = mutation.remove.iter().map(|name| format!("remove {name}"));
    remove.chain(set).chain(add).collect::<Vec<_>>().join("; ")
}

fn percent(share: Percent) -> String {
    format!("{}%", f64::from(share.millionths()) / 10_000.0)
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
