//! Durations as `kubectl` shows them: `32s`, `2m24s`, `41m`, `3h5m`, `2d`, `1y20d`.

use jiff::Timestamp;
use serde_json::Value;

/// The time since an RFC 3339 timestamp; `<unknown>` when there is none, `<invalid>` when it is
/// not one.
pub fn age(since: Option<&Value>, now: Timestamp) -> String {
    match since.and_then(Value::as_str) {
        None | Some("") => "<unknown>".into(),
        Some(text) => match text.parse::<Timestamp>() {
            Ok(time) => duration(now.as_second() - time.as_second()),
            Err(_) => "<invalid>".into(),
        },
    }
}

/// The time since an object's creation.
pub(super) fn of_object(object: &Value, now: Timestamp) -> Value {
    age(object.pointer("/metadata/creationTimestamp"), now).into()
}

/// A duration in seconds, with the two leading units while the first is small.
pub(super) fn duration(seconds: i64) -> String {
    let two = |first: i64, unit: &str, second: i64, smaller: &str| {
        if second == 0 {
            format!("{first}{unit}")
        } else {
            format!("{first}{unit}{second}{smaller}")
        }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (144, "2m24s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (64_800_000, "2y20d"),
            (260_000_000, "8y"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn ages() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let age = |text: &str| super::age(Some(&text.into()), now);
        assert_eq!(age("2026-11-21T09:59:28Z"), "32s");
        assert_eq!(age("2026-11-21T09:59:28.123456Z"), "32s");
        assert_eq!(age("yesterday"), "<invalid>");
        assert_eq!(super::age(None, now), "<unknown>");
        assert_eq!(super::age(Some(&Value::Null), now), "<unknown>");
    }
}
