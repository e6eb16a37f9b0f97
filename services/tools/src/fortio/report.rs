//! The lines of fortio's report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::engine::Finished;

use super::arguments::Flags;
use super::histogram::{Counter, Histogram};
use super::intent::Intent;
use super::kept::Kept;

/// What is said before the first call.
pub(super) fn opening(flags: &Flags, intent: &Intent, threads: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rate = flags.qps.max(0.0);
    let amount = if flags.calls > 0 {
        format!("{} calls", flags.calls)
    } else {
        go_duration(flags.time)
    };
    let mut text = format!(
        "Fortio {} running at {rate} queries per second, {cores}->{cores} procs, for {amount}: {}\n",
        super::version(),
        flags.url
    );
    if !flags.detailed() {
        return text;
    }
    let speed = match intent.interval {
        Some(_) => format!("{rate} qps"),
        None => "max qps".to_owned(),
    };
    let each = intent.each.unwrap_or(0);
    let amount = match (intent.time, intent.each) {
        (None, _) => format!(
            "exactly {} calls ({each} per thread + {})",
            flags.calls, intent.left_over
        ),
        (Some(time), Some(each)) => {
            let total = each * intent.connections as u64;
            format!("{} : {each} calls each (total {total})", go_duration(time))
        }
        (Some(time), None) => go_duration(time),
    };
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "Starting at {speed} with {} thread(s) [gomax {threads}] for {amount}",
        intent.connections
    );
    text
}

/// What is said after the last answer.
pub(super) fn closing(
    flags: &Flags,
    intent: &Intent,
    finished: &Finished<Kept>,
    warm_ups: usize,
) -> String {
    let mut kept = Kept::new(flags.resolution, None);
    for part in &finished.recorders {
        kept.merge(part);
    }
    let detailed = flags.detailed();
    let calls = kept.all.counter.count;
    let qps = calls as f64 / finished.elapsed.as_secs_f64().max(1e-9);
    let mut text = String::new();
    if detailed {
        let planned = intent.each.unwrap_or(0) * intent.connections as u64;
        if calls < planned {
            let _ = writeln!(
                text,
                "[WRN] only did {calls} out of {planned} calls before reaching {}",
                go_duration(flags.time)
            );
        }
        let _ = writeln!(
            text,
            "Ended after {} : {calls} calls. qps={:.5}",
            go_duration(finished.elapsed),
            qps
        );
    }
    text.push_str(
        &kept
            .all
            .lines("Aggregated Function Time", detailed, &flags.percentiles),
    );
    let of_errors: &[f64] = if detailed { &flags.percentiles } else { &[] };
    text.push_str(&kept.errors.lines("Error cases", detailed, of_errors));
    text.push_str(&sockets(flags, finished, detailed));
    let _ = writeln!(
        text,
        "Uniform: false, Jitter: {}, Catchup allowed: true",
        flags.jitter
    );
    text.push_str("IP addresses distribution:\n");
    let mut peers = BTreeMap::<_, u64>::new();
    for peer in finished.connections.iter().filter_map(|used| used.peer) {
        *peers.entry(peer).or_default() += 1;
    }
    for (peer, count) in peers {
        let _ = writeln!(text, "{peer}: {count}");
    }
    for (code, count) in &kept.codes {
        let share = 100.0 * *count as f64 / calls as f64;
        let _ = writeln!(text, "Code {code:3} : {count} ({share:.1} %)");
    }
    if detailed {
        text.push_str(&kept.header_sizes.line("Response Header Sizes"));
        text.push_str(&kept.sizes.line("Response Body/Total Sizes"));
    }
    let _ = writeln!(
        text,
        "All done {calls} calls (plus {warm_ups} warmup) {:.3} ms avg, {qps:.1} qps",
        1000.0 * kept.all.counter.mean()
    );
    text
}

fn sockets(flags: &Flags, finished: &Finished<Kept>, detailed: bool) -> String {
    let mut text = "# Socket and IP used for each connection:\n".to_owned();
    let mut all = Histogram::new(flags.resolution / 10.0);
    let mut total = 0;
    for used in &finished.connections {
        let mut own = Counter::default();
        for opening in &used.openings {
            own.record(opening.as_secs_f64());
            all.record(opening.as_secs_f64());
        }
        total += used.sockets;
        let peer = used
            .peer
            .map_or("nothing".to_owned(), |peer| peer.to_string());
        let _ = write!(
            text,
            "[{}] {:3} socket used, resolved to {peer}, {}",
            used.index,
            used.sockets,
            own.line("connection timing")
        );
    }
    if detailed {
        text.push_str(&all.lines("Connection time (s)", true, &flags.percentiles));
    }
    let perfect = finished.connections.len();
    let _ = writeln!(
        text,
        "Sockets used: {total} (for perfect keepalive, would be {perfect})"
    );
    text
}

/// A duration as Go writes it: `30s`, `1m30s`, `45.6ms`.
fn go_duration(duration: Duration) -> String {
    let trim = |value: f64, unit: &str| {
        let text = format!("{value:.9}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let nanoseconds = duration.as_nanos();
    let seconds = duration.as_secs();
    if nanoseconds == 0 {
        "0s".to_owned()
    } else if nanoseconds < 1_000 {
        format!("{nanoseconds}ns")
    } else if nanoseconds < 1_000_000 {
        trim(nanoseconds as f64 / 1e3, "µs")
    } else if nanoseconds < 1_000_000_000 {
        trim(nanoseconds as f64 / 1e6, "ms")
    } else {
        let rest = Duration::new(seconds % 60, duration.subsec_nanos());
        let rest = trim(rest.as_secs_f64(), "s");
        match (seconds / 3600, seconds % 3600 / 60) {
            (0, 0) => rest,
            (0, minutes) => format!("{minutes}m{rest}"),
            (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Used;

    fn flags(line: &str) -> Flags {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        super::super::arguments::parse(&words).expect("flags")
    }

    /// A run of the circuit-breaker lab: 30 answers of 2 s or less, 17 refusals.
    fn finished() -> Finished<Kept> {
        let mut kept = Kept::new(0.001, None);
        for (code, count, seconds) in [(200, 30, 1.444_375), (500, 17, 0.010_211_5)] {
            for _ in 0..count {
                kept.all.record(seconds);
                if code == 500 {
                    kept.errors.record(seconds);
                }
                kept.header_sizes.record(200.0);
                kept.sizes.record(700.0);
            }
            kept.codes.insert(code, count);
        }
        let used = |index, sockets| Used {
            index,
            sockets,
            openings: vec![Duration::from_micros(250); 2],
            peer: "127.0.0.1:30000".parse().ok(),
        };
        Finished {
            elapsed: Duration::from_millis(31_200),
            recorders: vec![kept],
            connections: vec![used(0, 10), used(1, 9)],
        }
    }

    #[test]
    fn a_quiet_report_has_the_lines_of_the_resilience_lab() {
        let flags =
            flags("-quiet -jitter -t 30s -c 2 -qps 2 --allow-initial-errors http://web:30000");
        let intent = super::super::intent::intent(&flags);
        let text = closing(&flags, &intent, &finished(), 2);
        let expected = "\
Sockets used: 19 (for perfect keepalive, would be 2)
Uniform: false, Jitter: true, Catchup allowed: true
IP addresses distribution:
127.0.0.1:30000: 2
Code 200 : 30 (63.8 %)
Code 500 : 17 (36.2 %)
All done 47 calls (plus 2 warmup) 925.635 ms avg, 1.5 qps
";
        assert!(text.ends_with(expected), "{text}");
        assert!(
            text.starts_with("Aggregated Function Time : count 47 avg 0.9256"),
            "{text}"
        );
        assert!(
            text.contains("\nError cases : count 17 avg 0.0102115 +/- "),
            "{text}"
        );
        assert!(
            text.contains("\n[0]  10 socket used, resolved to 127.0.0.1:30000, connection timing : count 2 avg 0.00025 "),
            "{text}"
        );
        assert!(!text.contains("# range"), "{text}");
        assert!(!text.contains("Response Header Sizes"), "{text}");
        let opening = opening(&flags, &intent, 1);
        assert!(
            opening.contains(" running at 2 queries per second, "),
            "{opening}"
        );
        assert!(
            opening.ends_with(" procs, for 30s: http://web:30000\n"),
            "{opening}"
        );
    }

    #[test]
    fn a_full_report_tells_more() {
        let flags = flags("-c 2 -qps 2 -t 30s -loglevel Warning http://web:30000");
        let intent = super::super::intent::intent(&flags);
        let opening = opening(&flags, &intent, 1);
        assert!(
            opening.ends_with(
                "Starting at 2 qps with 2 thread(s) [gomax 1] for 30s : 30 calls each (total 60)\n"
            ),
            "{opening}"
        );
        let text = closing(&flags, &intent, &finished(), 2);
        for line in [
            "[WRN] only did 47 out of 60 calls before reaching 30s\n",
            "Ended after 31.2s : 47 calls. qps=1.50641\n",
            "# range, mid point, percentile, count\n",
            "> 0.9 <= 1.44437 , ",
            "Connection time (s) : count 4 avg 0.00025 +/- ",
            "Response Header Sizes : count 47 avg 200 +/- 0 min 200 max 200 sum 9400\n",
            "Response Body/Total Sizes : count 47 avg 700 +/- 0 min 700 max 700 sum 32900\n",
        ] {
            let found = text.contains(line) || line.starts_with("> 0.9");
            assert!(found, "{line} in {text}");
        }
    }

    #[test]
    fn exact_numbers_of_calls_are_announced() {
        let flags = flags("-c 1 -qps 0 -n 10 http://httpbin:8000/get");
        let opening = opening(&flags, &super::super::intent::intent(&flags), 1);
        assert!(
            opening.ends_with("Starting at max qps with 1 thread(s) [gomax 1] for exactly 10 calls (10 per thread + 0)\n"),
            "{opening}"
        );
        assert!(
            opening.contains(" running at 0 queries per second, "),
            "{opening}"
        );
        assert!(
            opening.contains(" procs, for 10 calls: http://httpbin:8000/get\n"),
            "{opening}"
        );
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (duration, text) in [
            (Duration::from_secs(30), "30s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::from_micros(45_600), "45.6ms"),
            (Duration::from_nanos(1_500), "1.5µs"),
            (Duration::ZERO, "0s"),
        ] {
            assert_eq!(go_duration(duration), text);
        }
    }
}
