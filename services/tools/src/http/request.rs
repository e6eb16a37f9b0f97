//! The request that a command line means.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};
use serde_json::{Map, Value};

use crate::request::{self, RequestError};
use crate::route;

use super::arguments::Flags;
use super::items::{Item, ItemError};

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
    use super::super::items::looks_like_item;
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
