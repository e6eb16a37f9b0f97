//! Durations as manifests write them: `150ms`, `2.5s`, `1m30s`.

use std::time::Duration;

/// The longest duration that is accepted: a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

const UNITS: [(&str, f64); 7] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads a duration in Go's form, or a bare `0`.
///
/// # Errors
/// When the text is something else, or longer than a day; the message says what to write.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for example 150ms, 2.5s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (_, factor) = UNITS
            .iter()
            .find(|(unit, _)| *unit == &rest[..end])
            .ok_or_else(wrong)?;
        seconds += number * factor;
        rest = &rest[end..];
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !text.is_empty() && duration <= LONGEST => Ok(duration),
        Ok(_) if !text.is_empty() => Err(format!("`{text}` is longer than a day")),
        _ => Err(wrong()),
    }
}

/// Writes a duration so that [`parse`] reads it back.
#[must_use]
pub fn text(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        "0s".to_owned()
    } else if nanoseconds >= 1_000_000_000 {
        format!("{}s", duration.as_secs_f64())
    } else if nanoseconds.is_multiple_of(1_000_000) {
        format!("{}ms", nanoseconds / 1_000_000)
    } else {
        format!("{nanoseconds}ns")
    }
}

/// For serde's `with`: a duration as text.
pub mod serde_text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// See [`super::text`].
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text(*duration))
    }

    /// See [`super::parse`].
    ///
    /// # Errors
    /// When the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (given, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("150ms", 150),
            ("2.5s", 2500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1000us", 1),
        ] {
            assert_eq!(
                parse(given),
                Ok(Duration::from_millis(milliseconds)),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for milliseconds in [0, 1, 150, 999, 1000, 2500, 90_001] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&text(duration)), Ok(duration));
        }
        assert_eq!(text(Duration::from_millis(7000)), "7s");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "7", "s", "1x", "-1s", "1s2", "1..2s", "ms150", "7 s", "1e9s",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("150ms"), "{error}");
        }
        assert!(parse("25h").unwrap_err().contains("longer than a day"));
    }
}
