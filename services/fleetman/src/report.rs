//! A report: where a vehicle was, when, and how fast.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::timestamp::Timestamp;

/// The longest name of a vehicle, in bytes.
pub(crate) const MAX_NAME: usize = 100;

/// A report, with its fields in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) name: Arc<str>,
    /// Degrees north.
    pub(crate) lat: Decimal,
    /// Degrees east.
    pub(crate) lng: Decimal,
    #[serde(default)]
    pub(crate) timestamp: Option<Timestamp>,
    /// Miles per hour, when known.
    #[serde(default)]
    pub(crate) speed: Option<Decimal>,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(body)
            .map_err(|error| format!("the body is not a vehicle's report: {error}"))?;
        if report.name.is_empty() || report.name.len() > MAX_NAME {
            return Err(format!("name: must have 1 to {MAX_NAME} bytes"));
        }
        for (field, number, limit) in [("lat", &report.lat, 90.0), ("lng", &report.lng, 180.0)] {
            if number.value().abs() > limit {
                return Err(format!(
                    "{field}: {number} is not between -{limit} and {limit}"
                ));
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_as_it_was_read() {
        let text = r#"{"name":"City Truck","lat":53.37262733839452266693115234375,"lng":-1.8139280,"timestamp":"2023-11-13T05:31:22.565+0000","speed":null}"#;
        let report = Report::parse(text.as_bytes()).expect("a report");
        assert_eq!(serde_json::to_string(&report).expect("JSON"), text);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, problem) in [
            ("", "the body is not a vehicle's report"),
            ("[]", "the body is not a vehicle's report"),
            (r#"{"lat":1,"lng":1}"#, "missing field `name`"),
            (r#"{"name":"x","lat":"far","lng":1}"#, "not a number"),
            (
                r#"{"name":"x","lat":91,"lng":1}"#,
                "lat: 91 is not between -90 and 90",
            ),
            (
                r#"{"name":"x","lat":1,"lng":-181}"#,
                "lng: -181 is not between -180 and 180",
            ),
            (
                r#"{"name":"","lat":1,"lng":1}"#,
                "name: must have 1 to 100 bytes",
            ),
        ] {
            let error = Report::parse(body.as_bytes()).expect_err(body);
            assert!(error.contains(problem), "{body}: {error}");
        }
    }
}
