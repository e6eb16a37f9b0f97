//! What can be set, and what makes sense.

use std::str::FromStr;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::duration;

/// What is done to requests. The default does nothing.
///
/// This is also the JSON of `/chaos`; a field that is left out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The share of requests that fail, 0 to 1.
    pub error_rate: f64,
    /// How a failing request fails.
    pub error_type: ErrorType,
    /// The status of a failing request (`http_error`, `delay`): 400 to 599; with `delay` also 200,
    /// which lets the request go on after the wait.
    pub error_code: u16,
    /// How long a failing request waits first (`delay`).
    #[serde(with = "duration::serde_text")]
    pub error_delay: Duration,
    /// The text of a failing request's answer, in place of the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Which requests fail: by the throw of a die, or by counting.
    pub error_pattern: Pattern,
    /// How long 90 % of requests are made to take.
    #[serde(with = "duration::serde_text")]
    pub timing_50_percentile: Duration,
    /// How long 9 % of requests are made to take; 0: as the 50th percentile.
    #[serde(with = "duration::serde_text")]
    pub timing_90_percentile: Duration,
    /// How long 1 % of requests are made to take; 0: as the 90th percentile.
    #[serde(with = "duration::serde_text")]
    pub timing_99_percentile: Duration,
    /// How much is added to that, and to the wait of a failing request, at random.
    pub timing_variance: Variance,
    /// Only requests with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only requests to this path; a `*` at the end stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How long all this lasts; then the service is well again.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub time_limit: Option<Duration>,
    /// Off for this long, then on for as long, and so on.
    #[serde(skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub alternate: Option<Duration>,
    /// Makes the random sequence the same every time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            error_rate: 0.0,
            error_type: ErrorType::HttpError,
            error_code: 500,
            error_delay: Duration::ZERO,
            error_message: None,
            error_pattern: Pattern::Random,
            timing_50_percentile: Duration::ZERO,
            timing_90_percentile: Duration::ZERO,
            timing_99_percentile: Duration::ZERO,
            timing_variance: Variance::default(),
            method: None,
            path: None,
            time_limit: None,
            alternate: None,
            seed: None,
        }
    }
}

/// How a failing request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// An answer with the error code, at once.
    HttpError,
    /// The same after the error delay.
    Delay,
    /// The connection is reset.
    Reset,
    /// No answer comes, for at most ten minutes.
    Hang,
    /// The process ends with exit code 1.
    Crash,
}

impl ErrorType {
    /// The name in flags, JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpError => "http_error",
            Self::Delay => "delay",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Crash => "crash",
        }
    }

    /// Whether the error code means anything.
    #[must_use]
    pub fn has_code(self) -> bool {
        matches!(self, Self::HttpError | Self::Delay)
    }
}

impl FromStr for ErrorType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::HttpError,
            Self::Delay,
            Self::Reset,
            Self::Hang,
            Self::Crash,
        ]
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| {
            format!("`{text}` is not an error type; write http_error, delay, reset, hang or crash")
        })
    }
}

/// Which requests fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Each with the probability of the error rate.
    #[default]
    Random,
    /// Every n-th, n being one divided by the error rate, rounded down: what the fake service
    /// does. So 0.5 is every second, and anything above a half is every single one.
    Counter,
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "random" => Ok(Self::Random),
            "counter" => Ok(Self::Counter),
            _ => Err(format!(
                "`{text}` is not an error pattern; write random or counter"
            )),
        }
    }
}

/// How much is added to a duration at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variance {
    /// Up to so many per cent of it.
    Percent(u32),
    /// Up to so much.
    UpTo(Duration),
}

impl Variance {
    /// What to add to `duration`, given a random number from 0 to 1.
    #[must_use]
    pub fn of(self, duration: Duration, random: f64) -> Duration {
        match self {
            Self::Percent(percent) => duration.mul_f64(f64::from(percent) / 100.0 * random),
            Self::UpTo(_) if duration.is_zero() => Duration::ZERO,
            Self::UpTo(most) => most.mul_f64(random),
        }
    }
}

impl Default for Variance {
    fn default() -> Self {
        Self::Percent(0)
    }
}

impl FromStr for Variance {
    type Err = String;

    /// A whole number is per cent, anything with a unit a duration: manifests in the wild have both.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text);
        match (number.parse(), duration::parse(text)) {
            (Ok(percent @ 0..=1000), _) => Ok(Self::Percent(percent)),
            (Err(_), Ok(most)) => Ok(Self::UpTo(most)),
            _ => Err(format!(
                "`{text}` is not a variance; write per cent (10) or a duration (40ms)"
            )),
        }
    }
}

impl Serialize for Variance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Percent(percent) => serializer.serialize_u32(*percent),
            Self::UpTo(most) => serializer.serialize_str(&duration::text(*most)),
        }
    }
}

impl<'de> Deserialize<'de> for Variance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u32),
            Text(String),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Number(number) => number.to_string(),
            Either::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Settings {
    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let invalid = |field, problem: String| Err(Invalid { field, problem });
        if !(0.0..=1.0).contains(&self.error_rate) {
            return invalid(
                "error_rate",
                format!("{} is not between 0 and 1", self.error_rate),
            );
        }
        let goes_on = self.error_type == ErrorType::Delay && self.error_code == 200;
        if !goes_on && !(400..=599).contains(&self.error_code) {
            return invalid(
                "error_code",
                format!(
                    "{} is not an error; use 400 to 599 (or 200 with error_type delay)",
                    self.error_code
                ),
            );
        }
        if self.error_rate > 0.0
            && self.error_type == ErrorType::Delay
            && self.error_delay.is_zero()
        {
            return invalid(
                "error_delay",
                "must be above 0 with error_type delay, for example 2s".into(),
            );
        }
        let mut last = Duration::ZERO;
        for (field, value) in [
            ("timing_50_percentile", self.timing_50_percentile),
            ("timing_90_percentile", self.timing_90_percentile),
            ("timing_99_percentile", self.timing_99_percentile),
        ] {
            if !value.is_zero() && value < last {
                return invalid(
                    field,
                    format!(
                        "{} is less than the percentile below it",
                        duration::text(value)
                    ),
                );
            }
            last = last.max(value);
        }
        if let Some(method) = &self.method
            && (Method::from_bytes(method.as_bytes()).is_err() || *method != method.to_uppercase())
        {
            return invalid(
                "method",
                format!("`{method}` is not a method; write for example GET"),
            );
        }
        if let Some(path) = &self.path
            && !path.starts_with('/')
        {
            return invalid("path", format!("`{path}` does not start with a slash"));
        }
        for (field, value) in [
            ("time_limit", self.time_limit),
            ("alternate", self.alternate),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                return invalid(field, "must be above 0; leave it out for none".into());
            }
        }
        Ok(())
    }

    /// Whether these settings do nothing to any request.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.error_rate == 0.0
            && self
                .percentiles()
                .iter()
                .all(|(_, duration)| duration.is_zero())
    }

    /// Whether requests are disturbed when the settings are `age` old.
    #[must_use]
    pub fn in_force(&self, age: Duration) -> bool {
        let over = self.time_limit.is_some_and(|limit| age >= limit);
        let off_phase = self
            .alternate
            .is_some_and(|period| (age.as_nanos() / period.as_nanos().max(1)).is_multiple_of(2));
        !self.is_quiet() && !over && !off_phase
    }

    /// Whether a request is one of those that are disturbed at all.
    #[must_use]
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        let method_matches = self
            .method
            .as_deref()
            .is_none_or(|wanted| wanted == method.as_str());
        let path_matches =
            self.path
                .as_deref()
                .is_none_or(|wanted| match wanted.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix),
                    None => path == wanted,
                });
        method_matches && path_matches
    }

    /// The three percentiles, with their defaults resolved.
    #[must_use]
    pub fn percentiles(&self) -> [(&'static str, Duration); 3] {
        let or = |value: Duration, other: Duration| if value.is_zero() { other } else { value };
        let fifty = self.timing_50_percentile;
        let ninety = or(self.timing_90_percentile, fifty);
        let ninety_nine = or(self.timing_99_percentile, ninety);
        [("50", fifty), ("90", ninety), ("99", ninety_nine)]
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::duration;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(&duration::text(*value)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| duration::parse(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Settings, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.validate().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (json, expected) in [
            (
                r#"{"error_rate": 1.5}"#,
                "error_rate: 1.5 is not between 0 and 1",
            ),
            (r#"{"error_rate": -0.1}"#, "error_rate: -0.1"),
            (r#"{"error_code": 200}"#, "error_code: 200 is not an error"),
            (r#"{"error_type": "explode"}"#, "unknown variant `explode`"),
            (
                r#"{"error_type": "delay", "error_rate": 1}"#,
                "error_delay: must be above 0",
            ),
            (r#"{"error_delay": "soon"}"#, "`soon` is not a duration"),
            (
                r#"{"timing_50_percentile": "2s", "timing_90_percentile": "1s"}"#,
                "timing_90_percentile: 1s is less",
            ),
            (r#"{"timing_variance": "much"}"#, "`much` is not a variance"),
            (r#"{"method": "get"}"#, "method: `get` is not a method"),
            (
                r#"{"path": "ratings"}"#,
                "path: `ratings` does not start with a slash",
            ),
            (r#"{"time_limit": "0s"}"#, "time_limit: must be above 0"),
            (r#"{"errorrate": 1}"#, "unknown field `errorrate`"),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn settings_survive_their_json() {
        let settings = read(
            r#"{"error_rate": 0.5, "error_type": "delay", "error_code": 200, "error_delay": "7s",
                "timing_50_percentile": "150ms", "timing_variance": "40ms", "method": "GET",
                "path": "/ratings/*", "time_limit": "1m", "alternate": "15s", "seed": 7}"#,
        )
        .expect("valid");
        let json = serde_json::to_string(&settings).expect("JSON");
        assert_eq!(read(&json).as_ref(), Ok(&settings));
        assert!(json.contains(r#""timing_variance":"40ms""#), "{json}");
    }

    #[test]
    fn method_and_path_pick_requests() {
        let settings = read(r#"{"method": "GET", "path": "/ratings/*"}"#).expect("valid");
        assert!(settings.matches(&Method::GET, "/ratings/0"));
        assert!(!settings.matches(&Method::POST, "/ratings/0"));
        assert!(!settings.matches(&Method::GET, "/rating"));
        let exact = read(r#"{"path": "/a"}"#).expect("valid");
        assert!(exact.matches(&Method::POST, "/a") && !exact.matches(&Method::POST, "/a/b"));
    }

    #[test]
    fn a_time_limit_ends_it_and_alternation_switches_it() {
        let limited = read(r#"{"error_rate": 1, "time_limit": "10s"}"#).expect("valid");
        assert!(limited.in_force(Duration::from_secs(9)));
        assert!(!limited.in_force(Duration::from_secs(10)));
        let alternating = read(r#"{"error_rate": 1, "alternate": "60s"}"#).expect("valid");
        let phases =
            [0, 59, 60, 119, 120, 180].map(|age| alternating.in_force(Duration::from_secs(age)));
        assert_eq!(phases, [false, false, true, true, false, true]);
        assert!(!Settings::default().in_force(Duration::ZERO));
    }

    #[test]
    fn variance_is_per_cent_or_a_duration() {
        assert_eq!("10".parse(), Ok(Variance::Percent(10)));
        assert_eq!("10%".parse(), Ok(Variance::Percent(10)));
        assert_eq!(
            "40ms".parse(),
            Ok(Variance::UpTo(Duration::from_millis(40)))
        );
        let second = Duration::from_secs(1);
        assert_eq!(
            Variance::Percent(10).of(second, 0.5),
            Duration::from_millis(50)
        );
        assert_eq!(
            Variance::UpTo(second).of(Duration::ZERO, 0.5),
            Duration::ZERO
        );
    }
}
