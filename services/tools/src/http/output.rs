//! What is shown of requests and answers, and how.

use std::io::Write as _;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use serde_json::Value;

use crate::connection::{self, Connection, Target};
use crate::shell::{Shell, Sink};

use super::HttpError;
use super::arguments::{Flags, Pretty};

/// A larger body is shown as it comes, not indented.
const MAX_FORMATTED: usize = 1024 * 1024;

/// Which parts are shown, and how.
#[derive(Clone)]
pub(super) struct Shown {
    out: Sink,
    parts: String,
    indent: bool,
    colour: bool,
}

impl Shown {
    /// What the flags ask for; without them, what suits `out`.
    pub(super) fn new(flags: &Flags, out: &Sink) -> Self {
        let parts = match (&flags.print, out.terminal) {
            _ if flags.quiet => "",
            (Some(parts), _) => parts,
            _ if flags.verbose => "HBhb",
            _ if flags.headers => "h",
            _ if flags.body => "b",
            (None, true) => "hb",
            (None, false) => "b",
        };
        let usual = if out.terminal {
            Pretty::All
        } else {
            Pretty::None
        };
        let pretty = flags.pretty.unwrap_or(usual);
        Self {
            out: out.clone(),
            parts: parts.to_owned(),
            indent: matches!(pretty, Pretty::All | Pretty::Format),
            colour: matches!(pretty, Pretty::All | Pretty::Colors),
        }
    }

    fn shows(&self, part: char) -> bool {
        self.parts.contains(part)
    }

    pub(super) fn request(&self, target: &Target) {
        if self.shows('H') {
            let path = target
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str());
            let mut text = format!("{} {path} HTTP/1.1\r\n", target.method);
            for (name, value) in &target.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                text.push_str(&format!(
                    "{}: {value}\r\n",
                    connection::title_case(name.as_str())
                ));
            }
            self.head(&text);
        }
        if self.shows('B') && !target.body.is_empty() {
            let json = is_json(target.headers.get(CONTENT_TYPE));
            self.body(&target.body, json);
            self.out.text("\n\n");
        }
    }

    /// Reads the answer to its end, showing it on the way.
    pub(super) async fn response(
        &self,
        connection: &mut Connection,
        response: Response<Incoming>,
        flags: &Flags,
        shell: &Shell,
    ) -> Result<(), HttpError> {
        if self.shows('h') {
            self.head(&connection::head(&response));
        }
        let json = is_json(response.headers().get(CONTENT_TYPE));
        let mut body = response.into_body();
        if let Some(file) = &flags.output {
            let wrong = |error| HttpError::Output {
                file: file.display().to_string(),
                error,
            };
            let mut to = std::fs::File::create(file).map_err(wrong)?;
            while let Some(chunk) = connection.chunk(&mut body).await? {
                to.write_all(&chunk).map_err(wrong)?;
            }
            return Ok(());
        }
        if !self.shows('b') {
            return Ok(());
        }
        // Only what is to be indented is kept until it is whole.
        let mut kept = Vec::new();
        let mut keeping = json && (self.indent || self.colour);
        let mut any = false;
        while let Some(chunk) = connection.chunk(&mut body).await? {
            any = true;
            if keeping && kept.len() + chunk.len() <= MAX_FORMATTED {
                kept.extend_from_slice(&chunk);
                continue;
            }
            keeping = false;
            self.out.bytes(&std::mem::take(&mut kept));
            self.out.bytes(&chunk);
        }
        if !kept.is_empty() {
            self.body(&Bytes::from(kept), json);
        }
        if any && shell.out.terminal {
            self.out.text("\n\n");
        }
        Ok(())
    }

    /// Status or request line and headers; sorted and coloured when asked to.
    fn head(&self, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut headers: Vec<_> = lines.collect();
        if self.indent {
            headers.sort_unstable();
        }
        let end = if self.indent || self.colour {
            "\n"
        } else {
            "\r\n"
        };
        let mut shown = String::new();
        if self.colour {
            shown.push_str(&format!("\u{1b}[34m{first}\u{1b}[0m{end}"));
        } else {
            shown.push_str(&format!("{first}{end}"));
        }
        for header in headers {
            match header.split_once(": ").filter(|_| self.colour) {
                Some((name, value)) => {
                    shown.push_str(&format!("\u{1b}[36m{name}\u{1b}[0m: {value}{end}"))
                }
                None => shown.push_str(&format!("{header}{end}")),
            }
        }
        self.out.text(&format!("{shown}{end}"));
    }

    fn body(&self, body: &Bytes, json: bool) {
        let parsed = json
            .then(|| serde_json::from_slice::<Value>(body).ok())
            .flatten();
        match parsed {
            Some(value) if self.indent => self.out.text(&indented(&value)),
            _ => self.out.bytes(body),
        }
    }
}

fn is_json(content_type: Option<&http::HeaderValue>) -> bool {
    content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("json"))
}

/// JSON with keys in order, four blanks for each level.
fn indented(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, level: usize, text: &mut String) {
    let line = |text: &mut String, level: usize| {
        text.push('\n');
        text.push_str(&"    ".repeat(level));
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                line(text, level + 1);
                text.push_str(&format!("{}: ", Value::from(key.as_str())));
                write(value, level + 1, text);
            }
            line(text, level);
            text.push('}');
        }
        Value::Array(array) if !array.is_empty() => {
            text.push('[');
            for (index, value) in array.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                line(text, level + 1);
                write(value, level + 1, text);
            }
            line(text, level);
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_indented_and_sorted() {
        let value = json!({"status": "DOWN", "a": [1, {}], "b": []});
        assert_eq!(
            indented(&value),
            "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\": [],\n    \"status\": \"DOWN\"\n}"
        );
    }
}
