//! Decimal numbers that keep the digits they were written with.
//!
//! Positions and speeds pass through three services; read as floating point and written again they
//! would lose the very digits (and trailing zeros) that they came with.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The longest number that is kept, in characters.
const MAX_LENGTH: usize = 64;

/// A number as JSON writes it, at most 64 characters long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal(Box<str>);

impl Decimal {
    /// The nearest floating-point number.
    pub(crate) fn value(&self) -> f64 {
        // The text was checked to be a number in range when it was taken.
        self.0.parse().unwrap_or(f64::NAN)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`Decimal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number of at most {MAX_LENGTH} characters")]
pub(crate) struct NotDecimal;

impl FromStr for Decimal {
    type Err = NotDecimal;

    fn from_str(text: &str) -> Result<Self, NotDecimal> {
        let blank = text.contains(|character: char| character.is_ascii_whitespace());
        if text.len() > MAX_LENGTH
            || blank
            || serde_json::from_str::<serde_json::Number>(text).is_err()
        {
            return Err(NotDecimal);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string())
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        // A number in quotes counts too, as in the upstream services.
        raw.get()
            .trim_matches('"')
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_survive() {
        for text in [
            "53.6099460",
            "53.37262733839452266693115234375",
            "-1.8139280",
            "0",
            "1e3",
        ] {
            let number: Decimal = serde_json::from_str(text).expect("a number");
            assert_eq!(serde_json::to_string(&number).expect("JSON"), text);
        }
        let quoted: Decimal = serde_json::from_str("\"1.50\"").expect("a number");
        assert_eq!(quoted.as_str(), "1.50");
    }

    #[test]
    fn other_things_are_refused() {
        for text in [
            "true", "\"x\"", "null", "[1]", "1e999", "\"\"", "\" 1\"", "{}",
        ] {
            assert!(serde_json::from_str::<Decimal>(text).is_err(), "{text}");
        }
        assert!("1".repeat(65).parse::<Decimal>().is_err());
    }
}
