//! What the flags of `fortio load` mean: how calls are shared out, and when.

use std::time::Duration;

use super::arguments::Flags;

/// What the flags mean for the engine, and what the report says about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Intent {
    /// Connections; fewer than asked for when there are too few calls for them.
    pub(super) connections: usize,
    /// Calls of each connection; none: as many as time allows.
    pub(super) each: Option<u64>,
    /// Calls that are left over; the first connection makes them too.
    pub(super) left_over: u64,
    /// Between two calls of a connection; none: as fast as possible.
    pub(super) interval: Option<Duration>,
    /// When it ends, if not by the number of calls.
    pub(super) time: Option<Duration>,
}

/// Decides how calls are shared out. Each connection's first call is at the start and its last one at
/// the end of the time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Counts, checked to be above 0.
pub(super) fn intent(flags: &Flags) -> Intent {
    let exact = (flags.calls > 0).then_some(flags.calls);
    let rate = (flags.qps > 0.0).then_some(flags.qps);
    let wanted = u64::from(flags.connections);
    let Some(rate) = rate else {
        let connections = exact.map_or(wanted, |calls| wanted.min(calls));
        return Intent {
            connections: connections as usize,
            each: exact.map(|calls| calls / connections),
            left_over: exact.map_or(0, |calls| calls % connections),
            interval: None,
            time: exact.is_none().then_some(flags.time),
        };
    };
    let planned = (rate * flags.time.as_secs_f64()) as u64;
    let calls = exact.unwrap_or_else(|| planned.max(2));
    let connections = wanted.min((calls / 2).max(1));
    let each = calls / connections;
    let own_rate = rate / connections as f64;
    let steps = each.saturating_sub(1).max(1) as f64;
    let seconds = each as f64 / own_rate / steps;
    Intent {
        connections: connections as usize,
        each: Some(each),
        left_over: if exact.is_some() {
            calls % connections
        } else {
            0
        },
        interval: Duration::try_from_secs_f64(seconds).ok(),
        time: exact.is_none().then_some(flags.time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Intent {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        intent(&super::super::arguments::parse(&words).expect("flags"))
    }

    #[test]
    fn calls_are_shared_out() {
        let intent = of("-c 2 -qps 2 -t 30s x");
        assert_eq!((intent.connections, intent.each), (2, Some(30)));
        assert_eq!(intent.interval.map(|i| i.as_millis()), Some(1034));
        assert_eq!(intent.time, Some(Duration::from_secs(30)));
        let intent = of("-c 3 -qps 0 -n 31 x");
        assert_eq!(
            (intent.connections, intent.each, intent.left_over),
            (3, Some(10), 1)
        );
        assert_eq!((intent.interval, intent.time), (None, None));
        let intent = of("-c 3 -qps 0 x");
        assert_eq!(
            (intent.each, intent.time),
            (None, Some(Duration::from_secs(5)))
        );
    }

    #[test]
    fn too_few_calls_mean_fewer_connections() {
        assert_eq!(of("-c 4 -qps 1 -t 4s x").connections, 2);
        assert_eq!(of("-c 4 -qps 0 -n 2 x").connections, 2);
        assert_eq!(of("-c 4 -qps 1 -n 1 x").each, Some(1));
        assert_eq!(of("-c 4 -qps 0.01 -t 1s x").each, Some(2));
    }
}
