//! Durations as Go prints and reads them: `500ms`, `1.5s`, `1h30m`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A length of time, 0 or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {0:?}: expected a number with a unit, such as 500ms, 1.5s or 1h30m")]
pub struct DurationError(String);

impl std::str::FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let bad = || DurationError(text.to_owned());
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(bad)?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let unit = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(bad()),
            };
            seconds += number.parse::<f64>().map_err(|_| bad())? * unit;
            rest = tail;
        }
        if text.is_empty() {
            return Err(bad());
        }
        // Rounded to whole nanoseconds: 0.1 has no exact binary form.
        let nanos = (seconds * 1e9).round();
        if nanos > i64::MAX as f64 {
            return Err(bad());
        }
        Ok(Self(std::time::Duration::from_nanos(nanos as u64)))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // No pattern: validation says what is wrong with a duration better than an expression does.
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("1.5s", 1_500),
            ("7s", 7_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("0", 0),
            ("0.1s", 100),
        ] {
            let wanted = std::time::Duration::from_millis(millis);
            assert_eq!(text.parse(), Ok(Duration(wanted)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in ["", "5", "s", "-1s", "1 s", "1d", "1..5s", "99999999999999h"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
