//! Ranges as they are written in checks: `50`, `30..50`, `1..`, `5.9s..7s`.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// From the first to the last, both included; without a last one, no end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range<T> {
    /// The least.
    pub from: T,
    /// The most.
    pub to: Option<T>,
}

impl<T: PartialOrd + Copy> Range<T> {
    /// Whether a value is in it.
    pub fn contains(&self, value: T) -> bool {
        value >= self.from && self.to.is_none_or(|to| value <= to)
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Some(to) if *to == self.from => write!(f, "{to}"),
            Some(to) => write!(f, "{}..{to}", self.from),
            None => write!(f, "{}..", self.from),
        }
    }
}

impl<T: FromStr + PartialOrd + Copy> FromStr for Range<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            part.trim().parse::<T>().map_err(|_| {
                format!("{text:?} is not a range: expected one like 3, 3..5 or 3.. in the unit of the field")
            })
        };
        let range = match text.split_once("..") {
            None => {
                let value = one(text)?;
                Self {
                    from: value,
                    to: Some(value),
                }
            }
            Some((from, "")) => Self {
                from: one(from)?,
                to: None,
            },
            Some((from, to)) => Self {
                from: one(from)?,
                to: Some(one(to)?),
            },
        };
        if range.to.is_some_and(|to| to < range.from) {
            return Err(format!("the range {text:?} ends before it begins"));
        }
        Ok(range)
    }
}

impl<'de, T: FromStr + PartialOrd + Copy> Deserialize<'de> for Range<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            other => return Err(de::Error::custom(format!("{other} is not a range"))),
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl<T> JsonSchema for Range<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Range".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "description": "a value, or from..to with both included, or from.. without an end"
        })
    }
}

/// Seconds, written `7s`, `0.5s` or `300ms`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Seconds(pub f64);

impl Seconds {
    pub(crate) fn fifteen() -> Self {
        Self(15.0)
    }
}

impl FromStr for Seconds {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, factor) = match text.strip_suffix("ms") {
            Some(number) => (number, 0.001),
            None => (text.strip_suffix('s').unwrap_or(""), 1.0),
        };
        let number: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a duration like 7s, 0.5s or 300ms"))?;
        Ok(Self(number * factor))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // To the millisecond, without zeros at the end.
        let text = format!("{:.3}", self.0);
        write!(f, "{}s", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^\d+(\.\d+)?(ms|s)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_written() {
        let range = |text: &str| text.parse::<Range<u64>>();
        assert_eq!(
            range("3"),
            Ok(Range {
                from: 3,
                to: Some(3)
            })
        );
        assert!(range("3..5").unwrap().contains(5) && !range("3..5").unwrap().contains(6));
        assert!(range("1..").unwrap().contains(u64::MAX));
        assert!(range("5..3").unwrap_err().contains("ends before"));
        assert!(range("few").is_err());
        let time: Range<Seconds> = "5.9s..7s".parse().unwrap();
        assert!(time.contains(Seconds(6.0)) && !time.contains(Seconds(0.3)));
        assert_eq!(time.to_string(), "5.9s..7s");
        assert!("7".parse::<Seconds>().is_err() && "300ms".parse() == Ok(Seconds(0.3)));
    }
}
