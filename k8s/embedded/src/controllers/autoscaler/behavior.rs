//! How fast a proposal is followed: `spec.behavior`, with the defaults of Kubernetes.

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use std::time::{Duration, Instant};

/// Longest window that a behavior may have.
const LONGEST: Duration = Duration::from_secs(3600);

/// What was proposed and done of late.
#[derive(Debug, Default)]
pub(super) struct History {
    proposals: Vec<(Instant, i32)>,
    /// Changes: moment, and by how many.
    changes: Vec<(Instant, i32)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// One bound on the pace.
struct Policy {
    percent: bool,
    value: i32,
    period: Duration,
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST)
}

fn rules(
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    direction: Direction,
) -> Option<&HPAScalingRules> {
    let behavior = behavior?;
    match direction {
        Direction::Up => behavior.scale_up.as_ref(),
        Direction::Down => behavior.scale_down.as_ref(),
    }
}

/// The window in which proposals are looked at again: 0 s up, 300 s down, unless it is given.
fn window(behavior: Option<&HorizontalPodAutoscalerBehavior>, direction: Direction) -> Duration {
    let given = rules(behavior, direction).and_then(|r| r.stabilization_window_seconds);
    seconds(given.unwrap_or(match direction {
        Direction::Up => 0,
        Direction::Down => 300,
    }))
}

/// The bounds on the pace: 4 pods or 100 % per 15 s up, 100 % down, unless others are given.
fn policies(
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    direction: Direction,
) -> Vec<Policy> {
    let given = rules(behavior, direction).and_then(|r| r.policies.as_ref());
    if let Some(given) = given.filter(|list| !list.is_empty()) {
        return given
            .iter()
            .map(|policy| Policy {
                percent: policy.type_ == "Percent",
                value: policy.value,
                period: seconds(policy.period_seconds),
            })
            .collect();
    }
    let policy = |percent, value| Policy {
        percent,
        value,
        period: Duration::from_secs(15),
    };
    match direction {
        Direction::Up => vec![policy(false, 4), policy(true, 100)],
        Direction::Down => vec![policy(true, 100)],
    }
}

impl History {
    /// The proposal, held back by those of the window: the lowest of late when it would be more,
    /// the highest when it would be fewer.
    pub(super) fn stabilize(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        proposed: i32,
        now: Instant,
    ) -> i32 {
        if self.proposals.is_empty() {
            // as if the present number had just been proposed: a new autoscaler waits its window
            self.proposals.push((now, current));
        }
        self.proposals
            .retain(|(at, _)| now.duration_since(*at) <= LONGEST);
        let within = |direction| {
            let window = window(behavior, direction);
            self.proposals
                .iter()
                .filter(move |(at, _)| now.duration_since(*at) < window)
                .map(|(_, replicas)| *replicas)
        };
        let lowest = within(Direction::Up).fold(proposed, i32::min);
        let highest = within(Direction::Down).fold(proposed, i32::max);
        self.proposals.push((now, proposed));
        if current < lowest {
            lowest
        } else if current > highest {
            highest
        } else {
            current
        }
    }

    /// The number, bounded by how much may change within the policies' periods.
    pub(super) fn limit(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        wanted: i32,
        now: Instant,
    ) -> i32 {
        self.changes
            .retain(|(at, _)| now.duration_since(*at) <= LONGEST);
        let direction = match wanted.cmp(&current) {
            std::cmp::Ordering::Equal => return wanted,
            std::cmp::Ordering::Greater => Direction::Up,
            std::cmp::Ordering::Less => Direction::Down,
        };
        let select = rules(behavior, direction).and_then(|r| r.select_policy.as_deref());
        if select == Some("Disabled") {
            return current;
        }
        let bounds = policies(behavior, direction).into_iter().map(|policy| {
            let changed: i32 = self
                .changes
                .iter()
                .filter(|(at, _)| now.duration_since(*at) < policy.period)
                .map(|(_, by)| *by)
                .filter(|by| (*by > 0) == (direction == Direction::Up))
                .sum();
            let start = current - changed;
            let step = f64::from(policy.value);
            match (direction, policy.percent) {
                (Direction::Up, false) => start + policy.value,
                (Direction::Down, false) => start - policy.value,
                (Direction::Up, true) => (f64::from(start) * (1.0 + step / 100.0)).ceil() as i32,
                (Direction::Down, true) => (f64::from(start) * (1.0 - step / 100.0)).floor() as i32,
            }
        });
        // `Max` allows the greatest change
        let far = select != Some("Min");
        match (direction, far) {
            (Direction::Up, true) => wanted.min(bounds.max().unwrap_or(wanted).max(current)),
            (Direction::Up, false) => wanted.min(bounds.min().unwrap_or(wanted).max(current)),
            (Direction::Down, true) => wanted.max(bounds.min().unwrap_or(wanted).min(current)),
            (Direction::Down, false) => wanted.max(bounds.max().unwrap_or(wanted).min(current)),
        }
    }

    /// Remembers a change.
    pub(super) fn scaled(&mut self, from: i32, to: i32, now: Instant) {
        self.changes.push((now, to - from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn up_at_once_down_after_five_minutes() {
        let start = Instant::now();
        let mut history = History::default();
        assert_eq!(history.stabilize(None, 1, 6, start), 6);
        assert_eq!(history.stabilize(None, 6, 2, after(start, 5)), 6);
        assert_eq!(history.stabilize(None, 6, 1, after(start, 299)), 6);
        assert_eq!(history.stabilize(None, 6, 1, after(start, 301)), 2);
        assert_eq!(history.stabilize(None, 2, 1, after(start, 610)), 1);
    }

    #[test]
    fn the_pace_is_bounded_per_period() {
        let start = Instant::now();
        let mut history = History::default();
        // four pods or twice as many per 15 seconds
        assert_eq!(history.limit(None, 1, 10, start), 5);
        history.scaled(1, 5, start);
        assert_eq!(history.limit(None, 5, 10, after(start, 5)), 5);
        assert_eq!(history.limit(None, 5, 20, after(start, 16)), 10);
        assert_eq!(history.limit(None, 10, 1, after(start, 20)), 1);
        let slow = serde_json::from_value(json!({
            "scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]},
            "scaleUp": {"selectPolicy": "Disabled"},
        }))
        .unwrap();
        assert_eq!(history.limit(Some(&slow), 5, 1, after(start, 20)), 4);
        assert_eq!(history.limit(Some(&slow), 5, 9, after(start, 20)), 5);
    }
}
