//! HTTP/1.1 messages as bytes, read without a library: the suite must see what a lenient or strict
//! parser would hide.

use std::fmt::Write as _;

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request or status line.
    pub(crate) start: String,
    /// Names in lower case, in their order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<(String, String)>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Message {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Of an answer.
    pub(crate) fn status(&self) -> u16 {
        let word = self.start.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_default()
    }

    /// An HTTP/2 request in the form of HTTP/1.
    pub(crate) fn of_request(parts: &http::request::Parts, body: &[u8]) -> Self {
        let path = parts.uri.path_and_query().map_or("*", |path| path.as_str());
        let mut headers = lines(&parts.headers);
        if let Some(authority) = parts.uri.authority() {
            headers.insert(0, ("host".into(), authority.to_string()));
        }
        Self {
            start: format!("{} {path} {:?}", parts.method, parts.version),
            headers,
            body: String::from_utf8_lossy(body).into(),
            ..Self::default()
        }
    }

    /// An HTTP/2 answer in the form of HTTP/1.
    pub(crate) fn of_response(
        parts: &http::response::Parts,
        body: &[u8],
        trailers: Option<&http::HeaderMap>,
    ) -> Self {
        Self {
            start: format!("{:?} {}", parts.version, parts.status.as_u16()),
            headers: lines(&parts.headers),
            body: String::from_utf8_lossy(body).into(),
            trailers: trailers.map(lines).unwrap_or_default(),
            cut: false,
        }
    }

    /// Bytes of a request with its body.
    pub(crate) fn request(ask: &str, headers: &[(String, String)], body: Option<&str>) -> String {
        let mut text = format!("{ask} HTTP/1.1\r\n");
        for (name, value) in headers {
            // Writing to a String does not fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        match body.map(|body| (body, body.strip_prefix("chunked:"))) {
            None => text += "\r\n",
            Some((_, Some(body))) => {
                let _ = write!(
                    text,
                    "transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                );
            }
            Some((body, None)) => {
                let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
            }
        }
        text
    }
}

fn lines(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let lines = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), value.into_owned())
    });
    lines.collect()
}

/// Takes a whole message off the front; `None` until it is there. `bodiless` says that an answer
/// has no body whatever its headers say (to HEAD).
pub(crate) fn parse(bytes: &[u8], bodiless: bool) -> Option<(Message, Vec<u8>)> {
    let (mut message, body) = head(bytes)?;
    let none =
        matches!(message.status(), 100..=199 | 204 | 304) && message.start.starts_with("HTTP");
    if bodiless || none {
        return Some((message, body.to_vec()));
    }
    let chunked = message
        .header("transfer-encoding")
        .is_some_and(|te| te.contains("chunked"));
    if chunked {
        let rest = chunks(body, &mut message)?;
        return Some((message, rest.to_vec()));
    }
    let length = match message.header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => length,
        // An answer without a length ends with the connection.
        None if message.start.starts_with("HTTP") => return None,
        _ => 0,
    };
    let (body, rest) = body.split_at_checked(length)?;
    message.body = String::from_utf8_lossy(body).into();
    Some((message, rest.to_vec()))
}

/// What is there of a message when the connection ended.
pub(crate) fn parse_at_end(bytes: &[u8]) -> Option<Message> {
    let (mut message, body) = head(bytes)?;
    let sized =
        message.header("content-length").is_some() || message.header("transfer-encoding").is_some();
    message.body = String::from_utf8_lossy(body).into();
    message.cut = sized;
    Some(message)
}

fn head(bytes: &[u8]) -> Option<(Message, &[u8])> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.split("\r\n");
    let mut message = Message {
        start: lines.next().unwrap_or_default().into(),
        ..Message::default()
    };
    message.headers = lines.filter_map(field).collect();
    Some((message, &bytes[end + 4..]))
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn chunks<'a>(mut bytes: &'a [u8], message: &mut Message) -> Option<&'a [u8]> {
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = String::from_utf8_lossy(&bytes[..end]);
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            break;
        }
        let (chunk, rest) = bytes.split_at_checked(size)?;
        message.body += &String::from_utf8_lossy(chunk);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 2..];
        if line.is_empty() {
            return Some(bytes);
        }
        message.trailers.extend(field(&line));
    }
}
