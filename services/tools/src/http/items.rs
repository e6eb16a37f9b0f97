//! Items: what stands after the address and becomes headers, parameters and body.

use serde_json::Value;

use crate::request::RequestError;
use crate::route::RouteError;

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
