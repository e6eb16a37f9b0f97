//! Times as Go programs write them.

use std::time::Duration;

/// A duration: `6.247ms`, `1.000934s`, `150.73µs`, `1m2.5s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanoseconds, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanoseconds, 1_000_000, 6)),
        _ => {
            let minute = 60_000_000_000;
            let seconds = fraction(nanoseconds % minute, 1_000_000_000, 9);
            match nanoseconds / minute {
                0 => format!("{seconds}s"),
                minutes @ 1..60 => format!("{minutes}m{seconds}s"),
                minutes => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
            }
        }
    }
}

/// A number divided by a power of ten, without zeros at the end.
fn fraction(number: u128, unit: u128, digits: usize) -> String {
    let text = format!("{}.{:0digits$}", number / unit, number % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Now, in local time: `2025-04-22T04:23:50.468693`.
#[must_use]
pub fn now() -> String {
    jiff::Zoned::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.6f")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (999, "999ns"),
            (150_730, "150.73µs"),
            (6_247_000, "6.247ms"),
            (100_000_000, "100ms"),
            (1_000_934_000, "1.000934s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn times_have_microseconds() {
        let now = now();
        assert_eq!(now.len(), "2025-04-22T04:23:50.468693".len(), "{now}");
    }
}
