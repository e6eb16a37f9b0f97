//! Moments as the services write them: `2023-11-13T05:31:22.565+0000`.

use std::fmt;
use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(jiff::Timestamp);

impl Timestamp {
    pub(crate) fn now() -> Self {
        // A clock outside of years 1 to 9999 is taken for one that was never set.
        Self(jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default())
    }

    pub(crate) fn milliseconds(self) -> i64 {
        self.0.as_millisecond()
    }

    /// The long form, to the second: `Mon Nov 13 05:31:22 UTC 2023`.
    pub(crate) fn spelt_out(self) -> String {
        self.0.strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}",
            self.0.strftime("%Y-%m-%dT%H:%M:%S%.3f+0000")
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    /// From the form above with any offset, or from milliseconds since 1970.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Milliseconds(i64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Milliseconds(number) => {
                jiff::Timestamp::from_millisecond(number).map_err(D::Error::custom)
            }
            Either::Text(text) => text.parse().map_err(D::Error::custom),
        }
        .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_one_is_written() {
        for json in [
            "\"2023-11-13T05:31:22.565+0000\"",
            "\"2023-11-13T05:31:22.565+00:00\"",
            "\"2023-11-13T05:31:22.565Z\"",
            "\"2023-11-13T14:31:22.565+0900\"",
            "1699853482565",
        ] {
            let moment: Timestamp = serde_json::from_str(json).expect(json);
            assert_eq!(moment.to_string(), "2023-11-13T05:31:22.565+0000", "{json}");
            assert_eq!(moment.milliseconds(), 1_699_853_482_565);
            assert_eq!(moment.spelt_out(), "Mon Nov 13 05:31:22 UTC 2023");
        }
        let whole: Timestamp = serde_json::from_str("0").expect("a moment");
        assert_eq!(whole.to_string(), "1970-01-01T00:00:00.000+0000");
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }
}
