//! Changes of path and host on the way: rewrites and redirects. Pure.

use http::HeaderValue;
use mesh_config::{Redirect, RedirectPath};

use crate::config::{Rewrite, Route, without_port};

/// The path and query for the upstream, if the rewrite changes the path.
pub(crate) fn path(rewrite: &Rewrite, route: &Route, path: &str, query: &str) -> Option<String> {
    let mut out = if let Some(prefix) = &rewrite.prefix {
        let matched = route.matcher.path.matched_length(path).min(path.len());
        format!("{prefix}{}", &path[matched..])
    } else if let Some((regex, substitution)) = &rewrite.regex {
        regex.replace_all(path, &**substitution).into_owned()
    } else {
        return None;
    };
    if !out.starts_with('/') {
        out.insert(0, '/');
    }
    push_query(&mut out, query);
    Some(out)
}

fn push_query(out: &mut String, query: &str) {
    if !query.is_empty() {
        out.push('?');
        out.push_str(query);
    }
}

/// The `location` of a redirect.
pub(crate) fn location(
    redirect: &Redirect,
    route: &Route,
    scheme: &str,
    authority: &str,
    path: &str,
    query: &str,
) -> Option<HeaderValue> {
    let scheme_out = redirect.scheme.as_deref().unwrap_or(scheme);
    let mut out = format!("{scheme_out}://");
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let requested = match authority.strip_suffix(default_port) {
        _ if redirect.port.is_some() => without_port(authority),
        Some(host) if scheme_out != scheme => host,
        _ => authority,
    };
    out.push_str(redirect.authority.as_deref().unwrap_or(requested));
    if let Some(port) = redirect.port {
        out.push_str(&format!(":{port}"));
    }
    match &redirect.path {
        None => out.push_str(path),
        Some(RedirectPath::Full(path)) => {
            if !path.starts_with('/') {
                out.push('/');
            }
            out.push_str(path);
        }
        Some(RedirectPath::Prefix(prefix)) => {
            out.push_str(prefix);
            let matched = route.matcher.path.matched_length(path).min(path.len());
            out.push_str(&path[matched..]);
        }
    }
    let has_query = matches!(&redirect.path, Some(RedirectPath::Full(path)) if path.contains('?'));
    if !has_query {
        push_query(&mut out, query);
    }
    HeaderValue::from_str(&out).ok()
}
