//! Whether a route's conditions hold: pure, precompiled.

mod seen;

use http::{HeaderMap, HeaderName, Method};
use mesh_config::{self as model, Condition};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::error::CompileError;

/// The parts of a request that routes look at. The path is normalised and has no query.
#[derive(Clone, Copy)]
pub(crate) struct RequestView<'a> {
    pub(crate) method: &'a Method,
    pub(crate) scheme: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The payload of the request's token, if it has a valid one.
    pub(crate) claims: Option<&'a Value>,
}

/// What stands for a header where a claim is meant.
const CLAIMS: &str = "@request.auth.claims";

#[derive(Debug)]
pub(crate) struct RouteMatcher {
    pub(crate) path: PathMatcher,
    headers: Vec<HeaderMatcher>,
    query: Vec<QueryMatcher>,
}

#[derive(Debug)]
pub(crate) enum PathMatcher {
    Any,
    Prefix(Box<str>),
    PrefixIgnoreCase(Box<str>),
    Exact(Box<str>),
    ExactIgnoreCase(Box<str>),
    Regex(Regex),
}

#[derive(Debug)]
pub(crate) enum StringMatcher {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Regex),
}

#[derive(Debug)]
enum ValueMatcher {
    Present,
    Value(StringMatcher),
}

#[derive(Debug)]
enum Field {
    Method,
    Authority,
    Scheme,
    Path,
    Header(HeaderName),
    /// A claim of the request's token, by its path.
    Claim(Vec<Box<str>>),
}

#[derive(Debug)]
struct HeaderMatcher {
    field: Field,
    value: ValueMatcher,
    invert: bool,
}

#[derive(Debug)]
struct QueryMatcher {
    name: Box<str>,
    value: ValueMatcher,
}

/// Compiles an expression so that it must match the whole text, as Envoy's `safe_regex` does.
pub(crate) fn whole(pattern: &str) -> Result<Regex, CompileError> {
    // By itself first: `a)|(b` must not become valid by what is put around it.
    search(pattern)?;
    search(&format!("^(?:{pattern})$"))
}

/// Compiles an expression that may match anywhere. The size limit bounds what a configuration can
/// make a proxy hold.
pub(crate) fn search(pattern: &str) -> Result<Regex, CompileError> {
    RegexBuilder::new(pattern)
        .size_limit(256 * 1024)
        .dfa_size_limit(256 * 1024)
        .dot_matches_new_line(true)
        .build()
        .map_err(|source| CompileError::Regex {
            pattern: pattern.into(),
            source: Box::new(source),
        })
}

impl RouteMatcher {
    /// Matches every request.
    pub(crate) fn any() -> Self {
        Self {
            path: PathMatcher::Any,
            headers: Vec::new(),
            query: Vec::new(),
        }
    }

    pub(crate) fn compile(matches: &model::RouteMatch) -> Result<Self, CompileError> {
        Ok(Self {
            path: PathMatcher::compile(&matches.path, matches.ignore_path_case)?,
            headers: matches
                .headers
                .iter()
                .map(HeaderMatcher::compile)
                .collect::<Result<_, _>>()?,
            query: matches
                .query
                .iter()
                .map(QueryMatcher::compile)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn matches(&self, request: &RequestView<'_>) -> bool {
        self.failed(request).is_none()
    }

    /// The first condition that does not hold.
    pub(crate) fn failed(&self, request: &RequestView<'_>) -> Option<Condition> {
        if !self.path.matches(request.path) {
            return Some(Condition::Path);
        }
        let header = |header: &HeaderMatcher| !header.matches(request);
        if let Some(index) = self.headers.iter().position(header) {
            return Some(Condition::Header(index));
        }
        let query = |query: &QueryMatcher| !query.matches(request.query);
        self.query.iter().position(query).map(Condition::Query)
    }
}

impl PathMatcher {
    fn compile(path: &model::PathMatch, ignore_case: bool) -> Result<Self, CompileError> {
        Ok(match (path, ignore_case) {
            (model::PathMatch::Prefix(text), _) if text == "/" || text.is_empty() => Self::Any,
            (model::PathMatch::Prefix(text), false) => Self::Prefix(text.as_str().into()),
            (model::PathMatch::Prefix(text), true) => Self::PrefixIgnoreCase(text.as_str().into()),
            (model::PathMatch::Exact(text), false) => Self::Exact(text.as_str().into()),
            (model::PathMatch::Exact(text), true) => Self::ExactIgnoreCase(text.as_str().into()),
            (model::PathMatch::Regex(pattern), _) => Self::Regex(whole(pattern)?),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::PrefixIgnoreCase(prefix) => path
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes())),
            Self::Exact(text) => path == &**text,
            Self::ExactIgnoreCase(text) => path.eq_ignore_ascii_case(text),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// How many bytes of a matching path a prefix rewrite replaces.
    pub(crate) fn matched_length(&self, path: &str) -> usize {
        match self {
            Self::Any => 1,
            Self::Prefix(prefix) | Self::PrefixIgnoreCase(prefix) => prefix.len(),
            Self::Exact(_) | Self::ExactIgnoreCase(_) | Self::Regex(_) => path.len(),
        }
    }
}

impl StringMatcher {
    pub(crate) fn compile(value: &model::StringMatch) -> Result<Self, CompileError> {
        Ok(match value {
            model::StringMatch::Exact(text) => Self::Exact(text.as_str().into()),
            model::StringMatch::Prefix(text) => Self::Prefix(text.as_str().into()),
            model::StringMatch::Regex(pattern) => Self::Regex(whole(pattern)?),
        })
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == &**text,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl ValueMatcher {
    fn compile(value: &model::ValueMatch) -> Result<Self, CompileError> {
        Ok(match value {
            model::ValueMatch::Present => Self::Present,
            model::ValueMatch::Value(value) => Self::Value(StringMatcher::compile(value)?),
        })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::Present, Some(_)) => true,
            (Self::Value(matcher), Some(value)) => matcher.matches(value),
        }
    }
}

impl HeaderMatcher {
    fn compile(header: &model::HeaderMatch) -> Result<Self, CompileError> {
        let field = match header.name.as_str() {
            ":method" => Field::Method,
            ":authority" | "host" => Field::Authority,
            ":scheme" => Field::Scheme,
            ":path" => Field::Path,
            name if name.starts_with(CLAIMS) => Field::Claim(
                name[CLAIMS.len()..]
                    .split(['.', '[', ']'])
                    .filter(|key| !key.is_empty())
                    .map(Into::into)
                    .collect(),
            ),
            name => Field::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| CompileError::HeaderName(name.into()))?,
            ),
        };
        Ok(Self {
            field,
            value: ValueMatcher::compile(&header.value)?,
            invert: header.invert,
        })
    }

    fn matches(&self, request: &RequestView<'_>) -> bool {
        let pseudo = match &self.field {
            Field::Method => request.method.as_str(),
            Field::Authority => request.authority,
            Field::Scheme => request.scheme,
            Field::Path => request.path,
            Field::Claim(path) => return self.invert != self.any_member(request.claims, path),
            Field::Header(name) => return self.invert != self.any_value(request.headers, name),
        };
        self.invert != self.value.matches(Some(pseudo))
    }

    /// Of a list one member is enough. Without a token there is no claim.
    fn any_member(&self, claims: Option<&Value>, path: &[Box<str>]) -> bool {
        let matches = |value: &Value| match value {
            Value::String(text) => self.value.matches(Some(text)),
            other => self.value.matches(Some(&other.to_string())),
        };
        match claims.and_then(|claims| crate::jwt::claim(claims, path)) {
            None | Some(Value::Null) => false,
            Some(Value::Array(members)) => members.iter().any(matches),
            Some(value) => matches(value),
        }
    }

    /// One matching value is enough. An inverted condition counts an absent header as empty, except
    /// for presence.
    fn any_value(&self, headers: &HeaderMap, name: &HeaderName) -> bool {
        let mut values = headers.get_all(name).iter().peekable();
        if values.peek().is_none() {
            let empty = self.invert && matches!(self.value, ValueMatcher::Value(_));
            return self.value.matches(empty.then_some(""));
        }
        // Values that are not UTF-8 are only ever matched by presence.
        values.any(|value| {
            self.value.matches(Some(
                std::str::from_utf8(value.as_bytes()).unwrap_or("\u{fffd}"),
            ))
        })
    }
}

impl QueryMatcher {
    fn compile(query: &model::QueryMatch) -> Result<Self, CompileError> {
        Ok(Self {
            name: query.name.as_str().into(),
            value: ValueMatcher::compile(&query.value)?,
        })
    }

    fn matches(&self, query: &str) -> bool {
        self.value.matches(first_value(query, &self.name))
    }
}

/// The raw value of the first parameter of a name.
fn first_value<'a>(query: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let first = pairs.find(|(name, _)| *name == wanted && !name.is_empty());
    first.map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
