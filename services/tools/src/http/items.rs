//! Items: what stands after the address and becomes headers, parameters and body.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};
use serde_json::{Map, Value};

use crate::request::{self, RequestError};
use crate::route::{self, RouteError};

use super::arguments::Flags;

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `Name:value`; without a value (`Name:`) the header is left out.
    Header(String, Option<String>),
    /// `Name;`: a header without a value.
    EmptyHeader(String),
    /// `name==value`: a parameter of the address.
    Parameter(String, String),
    /// `name=value` and `name=@file`: a text in the body.
    Text(String, String),
    /// `name:=json` and `name:=@file`: any JSON in the body.
    Json(String, Value),
}

impl Item {
    /// Whether it is part of the body.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Text(..) | Self::Json(..))
    }
}

/// Why items make no request.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// None of the signs is in it.
    #[error("{0:?} is not an item; write key=value, key:=json, Header:value or param==value")]
    None(String),
    /// A file that an item names.
    #[error("{item:?}: {error}")]
    File {
        /// The item.
        item: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// What follows `:=` is no JSON.
    #[error("{item:?}: not JSON: {error}; for a text write key=value")]
    Json {
        /// The item.
        item: String,
        /// Where it goes wrong.
        error: serde_json::Error,
    },
    /// HTTPie's syntax for what we do not do.
    #[error("{0:?}: {1}")]
    Unsupported(String, &'static str),
    /// Items, --raw and standard input exclude each other.
    #[error("a body and key=value items cannot be sent together")]
    TwoBodies,
    /// A part of the request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The address.
    #[error(transparent)]
    Address(#[from] RouteError),
}

/// Longer signs first: of two at the same place the longer one counts.
const SIGNS: [&str; 7] = [":=@", "=@", ":=", "==", "=", ":", "@"];

/// The first sign in a word that is not behind a backslash: what is before it, the sign, what is after.
fn split(word: &str) -> Option<(String, &'static str, &str)> {
    let mut key = String::new();
    let mut rest = word;
    while let Some(character) = rest.chars().next() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            return Some((key, sign, &rest[sign.len()..]));
        }
        rest = &rest[character.len_utf8()..];
        let escaped = rest.chars().next().filter(|_| character == '\\');
        match escaped {
            Some(sign) if ":=@\\".contains(sign) => {
                key.push(sign);
                rest = &rest[sign.len_utf8()..];
            }
            _ => key.push(character),
        }
    }
    None
}

/// Whether a word is more likely an item than an address: `a=b` is, `host:80/x?a=b` is not.
#[must_use]
pub fn looks_like_item(word: &str) -> bool {
    match split(word) {
        Some((key, sign, rest)) => {
            !key.is_empty()
                && !rest.starts_with("//")
                && !key.contains(['/', '?', '.'])
                && (sign != ":" || !rest.starts_with(|c: char| c.is_ascii_digit() || c == '/'))
        }
        None => false,
    }
}

/// Reads an item.
///
/// # Errors
/// When it is none, or names a file that cannot be read.
pub fn parse(word: &str) -> Result<Item, ItemError> {
    let item = || word.to_owned();
    let read = |file: &str| {
        std::fs::read_to_string(file).map_err(|error| ItemError::File {
            item: item(),
            error,
        })
    };
    let json = |text: &str| {
        serde_json::from_str(text).map_err(|error| ItemError::Json {
            item: item(),
            error,
        })
    };
    let Some((key, sign, value)) = split(word) else {
        return match word.strip_suffix(';') {
            Some(name) if !name.is_empty() => Ok(Item::EmptyHeader(name.to_owned())),
            _ => Err(ItemError::None(item())),
        };
    };
    if key.is_empty() {
        return Err(ItemError::None(item()));
    }
    if key.contains('[') && sign != ":" && sign != "==" {
        let remedy = "nested keys are not supported; write the object as JSON: key:='{...}'";
        return Err(ItemError::Unsupported(item(), remedy));
    }
    Ok(match sign {
        ":=@" => Item::Json(key, json(&read(value)?)?),
        ":=" => Item::Json(key, json(value)?),
        "=@" => Item::Text(key, read(value)?),
        "=" => Item::Text(key, value.to_owned()),
        "==" => Item::Parameter(key, value.to_owned()),
        ":" => Item::Header(
            key,
            Some(value.to_owned()).filter(|value| !value.is_empty()),
        ),
        _ => {
            let remedy = "uploading files is not supported; send a text with key=@file";
            return Err(ItemError::Unsupported(item(), remedy));
        }
    })
}

/// The request of a command line. `raw` is a body from `--raw` or standard input; empty for none.
pub(super) fn request(flags: &Flags, raw: Bytes) -> Result<Request<Bytes>, ItemError> {
    let line = &flags.line;
    if !raw.is_empty() && line.has_data() {
        return Err(ItemError::TwoBodies);
    }
    let has_body = !raw.is_empty() || line.has_data();
    let body = if line.has_data() { body(flags) } else { raw };
    let mut request = Request::new(body);
    *request.uri_mut() = route::address(&with_parameters(&line.url, &line.items))?;
    *request.method_mut() = match &line.method {
        Some(text) => request::method(text)?,
        None if has_body => Method::POST,
        None => Method::GET,
    };
    let headers = request.headers_mut();
    let agent = concat!("HTTPie/", env!("CARGO_PKG_VERSION"), "-meshdojo");
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if has_body && flags.form {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
    } else if has_body {
        let accept = "application/json, */*;q=0.5";
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(user) = &flags.auth {
        let line = format!("{AUTHORIZATION}: {}", request::basic(user));
        let (name, value) = request::header(&line)?;
        headers.insert(name, value);
    }
    for item in &line.items {
        match item {
            Item::Header(name, Some(value)) => {
                let (name, value) = request::header(&format!("{name}:{value}"))?;
                headers.insert(name, value);
            }
            Item::EmptyHeader(name) => {
                let (name, value) = request::header(&format!("{name}:"))?;
                headers.insert(name, value);
            }
            Item::Header(name, None) => {
                let name = HeaderName::try_from(name.as_str());
                headers.remove(name.map_err(|_| RequestError::Header(format!("{item:?}")))?);
            }
            _ => {}
        }
    }
    Ok(request)
}

fn body(flags: &Flags) -> Bytes {
    let items = &flags.line.items;
    if flags.form {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for item in items {
            match item {
                Item::Text(key, value) => form.append_pair(key, value),
                Item::Json(key, Value::String(text)) => form.append_pair(key, text),
                Item::Json(key, value) => form.append_pair(key, &value.to_string()),
                _ => &mut form,
            };
        }
        return form.finish().into();
    }
    let mut object = Map::new();
    for item in items {
        match item {
            Item::Text(key, value) => object.insert(key.clone(), Value::from(value.as_str())),
            Item::Json(key, value) => object.insert(key.clone(), value.clone()),
            _ => None,
        };
    }
    Value::from(object).to_string().into()
}

fn with_parameters(url: &str, items: &[Item]) -> String {
    let mut parameters = form_urlencoded::Serializer::new(String::new());
    for item in items {
        if let Item::Parameter(name, value) = item {
            parameters.append_pair(name, value);
        }
    }
    let parameters = parameters.finish();
    let url = url.split('#').next().unwrap_or_default();
    match (parameters.is_empty(), url.contains('?')) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}&{parameters}"),
        (false, false) => format!("{url}?{parameters}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::arguments::{self, Parsed};
    use super::*;

    fn built(words: &[&str]) -> Result<Request<Bytes>, String> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        match arguments::parse(&words)? {
            Parsed::Flags(flags) => {
                request(&flags, Bytes::new()).map_err(|error| error.to_string())
            }
            Parsed::Show(text) => Err(text),
        }
    }

    #[test]
    fn items_become_headers_parameters_and_a_body() {
        let words = [
            "booking:8080/bookings",
            "vcName=FIZER",
            "userId:=5",
            "end-user:jason",
            "q==a b",
            r"a\:b=c=d:e",
            "User-Agent:",
        ];
        let request = built(&words).expect("a request");
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "http://booking:8080/bookings?q=a+b");
        assert_eq!(request.headers()["end-user"], "jason");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert!(!request.headers().contains_key("user-agent"));
        let body: Value = serde_json::from_slice(request.body()).expect("JSON");
        assert_eq!(
            body,
            json!({"vcName": "FIZER", "userId": 5, "a:b": "c=d:e"})
        );
    }

    #[test]
    fn forms_are_encoded() {
        let request = built(&["-f", "PUT", "http://x/", "a=b c", "n:=1"]).expect("a request");
        assert_eq!(request.body(), "a=b+c&n=1");
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(
            request.headers()["content-type"],
            "application/x-www-form-urlencoded; charset=utf-8"
        );
    }

    #[test]
    fn a_word_before_items_is_the_address() {
        let request = built(&["reviews", "a=b"]).expect("a request");
        assert_eq!(request.uri(), "http://reviews/");
        assert_eq!(request.method(), Method::POST);
        assert!(!looks_like_item("http://x/?a=b") && !looks_like_item("reviews:9080/x"));
        assert!(looks_like_item("a=b") && looks_like_item("x:y"));
    }

    #[test]
    fn wrong_items_are_explained() {
        for (item, message) in [
            ("a:=x", "not JSON"),
            ("a=@/nowhere", "No such file"),
            ("a[b]=c", "nested keys"),
            ("a@file", "uploading files"),
            ("=x", "is not an item"),
        ] {
            let error = built(&["http://x/", item]).expect_err(message);
            assert!(error.contains(message), "{error}");
        }
    }
}
