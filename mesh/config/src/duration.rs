//! Durations in protobuf's JSON form: seconds with up to nine decimals and an `s`, as Envoy prints
//! them (`"1.500s"`, `"3600s"`).

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// `1.5s`, `0.250s`, `7s`: no trailing zeros beyond whole milliseconds.
pub(crate) fn format(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, nanos) if nanos % 1_000_000 == 0 => {
            format!("{seconds}.{:03}s", nanos / 1_000_000)
        }
        (seconds, nanos) => format!("{seconds}.{nanos:09}s"),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (seconds, fraction) = {
        let digits = text.strip_suffix('s')?;
        digits.split_once('.').unwrap_or((digits, ""))
    };
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*duration))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("not a duration in seconds: {text:?}")))
}

/// The same for `Option<Duration>` fields.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        parse(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("not a duration in seconds: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_back() {
        for (millis, text) in [(7_000, "7s"), (250, "0.250s"), (1_500, "1.500s"), (0, "0s")] {
            let duration = Duration::from_millis(millis);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Some(duration));
        }
        assert_eq!(format(Duration::from_nanos(1)), "0.000000001s");
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn refuses_other_units() {
        for text in ["", "7", "7ms", "s", "1.s5", "-1s", "1.0000000001s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
