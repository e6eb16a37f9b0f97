//! The conditions of a route in words, and why one of them does not hold.

use mesh_config::{
    Condition, HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};

/// All conditions: `path /api*, header end-user is "jason"`.
pub(super) fn conditions(all: &RouteMatch) -> String {
    let mut said = vec![path(all)];
    said.extend(all.headers.iter().map(header));
    said.extend(all.query.iter().map(query));
    said.join(", ")
}

/// `header end-user is "jason": the request has "bob"`.
pub(super) fn failed(all: &RouteMatch, condition: Condition, seen: Option<&str>) -> String {
    let wanted = match condition {
        Condition::Path => Some(path(all)),
        Condition::Header(index) => all.headers.get(index).map(header),
        Condition::Query(index) => all.query.get(index).map(query),
    };
    let wanted = wanted.unwrap_or_default();
    match seen {
        Some(seen) => format!("{wanted}: it is {seen:?}"),
        None => format!("{wanted}: the request has none"),
    }
}

fn path(all: &RouteMatch) -> String {
    let case = match all.ignore_path_case {
        true => " (in any case)",
        false => "",
    };
    match &all.path {
        PathMatch::Prefix(prefix) => format!("path {prefix}*{case}"),
        PathMatch::Exact(path) => format!("path {path}{case}"),
        PathMatch::Regex(regex) => format!("path matches {regex}"),
    }
}

fn header(condition: &HeaderMatch) -> String {
    let name = match condition.name.as_str() {
        name @ (":method" | ":authority" | ":scheme" | ":path") => name[1..].to_owned(),
        name if name.starts_with('@') => format!("claim {name}"),
        name => format!("header {name}"),
    };
    let not = if condition.invert { "not: " } else { "" };
    format!("{not}{name} {}", value(&condition.value))
}

fn query(condition: &QueryMatch) -> String {
    format!("parameter {} {}", condition.name, value(&condition.value))
}

fn value(condition: &ValueMatch) -> String {
    match condition {
        ValueMatch::Present => "is there".into(),
        ValueMatch::Value(StringMatch::Exact(text)) => format!("is {text:?}"),
        ValueMatch::Value(StringMatch::Prefix(text)) => format!("begins with {text:?}"),
        ValueMatch::Value(StringMatch::Regex(regex)) => format!("matches {regex}"),
    }
}
