use super::*;

fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(3),
        interval: Duration::from_secs(1),
        base_ejection_time: Duration::from_secs(2),
        ..OutlierDetection::default()
    }
}

fn causes(detection: &OutlierDetection, outcomes: &[Outcome]) -> Vec<Cause> {
    let monitor = Monitor::default();
    let noted = outcomes
        .iter()
        .map(|outcome| monitor.note(detection, *outcome));
    noted.flatten().flatten().collect()
}

#[test]
fn only_failures_in_a_row_count() {
    let statuses = |statuses: &[u16]| -> Vec<_> {
        statuses
            .iter()
            .map(|status| Outcome::Answer(*status))
            .collect()
    };
    assert_eq!(
        causes(&detection(), &statuses(&[500, 500, 200, 500, 500])),
        []
    );
    assert_eq!(
        causes(&detection(), &statuses(&[500, 503, 501])),
        [Cause::Consecutive5xx]
    );
    let gateway = OutlierDetection {
        consecutive_5xx: Some(0),
        consecutive_gateway_failure: Some(2),
        ..detection()
    };
    assert_eq!(causes(&gateway, &statuses(&[500, 500, 500, 500])), []);
    assert_eq!(causes(&gateway, &statuses(&[502, 500, 503])), []);
    assert_eq!(
        causes(&gateway, &statuses(&[503, 504])),
        [Cause::ConsecutiveGatewayFailure]
    );
}

#[test]
fn failures_without_an_answer_count_as_answers_unless_split() {
    let failures = [Outcome::Failed, Outcome::TimedOut, Outcome::Failed];
    assert_eq!(causes(&detection(), &failures), [Cause::Consecutive5xx]);
    let split = OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Some(2),
        ..detection()
    };
    assert_eq!(
        causes(&split, &failures),
        [Cause::ConsecutiveLocalOriginFailure]
    );
    let apart = [
        Outcome::Failed,
        Outcome::Connected,
        Outcome::Answer(500),
        Outcome::Failed,
    ];
    assert_eq!(causes(&split, &apart), []);
}

#[test]
fn ejections_grow_and_good_ticks_take_them_back() {
    let at = |seconds: u64, ejections, returned| {
        next_return(
            &detection(),
            Duration::from_secs(seconds),
            History {
                ejections,
                returned,
            },
        )
    };
    assert_eq!(at(0, 0, 0), (1, 2));
    // Again right after it came back: 4 s, then 6 s.
    assert_eq!(at(2, 1, 2), (2, 6));
    assert_eq!(at(6, 2, 6), (3, 12));
    // A good while later.
    assert_eq!(at(14, 3, 12), (2, 18));
    assert_eq!(at(100, 3, 12), (1, 102));
    // Between ticks the time is rounded up.
    let between = next_return(&detection(), Duration::from_millis(100), History::default());
    assert_eq!(between, (1, 3));
}

#[test]
fn an_ejection_ends_after_five_minutes() {
    let long = OutlierDetection {
        base_ejection_time: Duration::from_secs(180),
        ..detection()
    };
    let history = History {
        ejections: 1,
        returned: 0,
    };
    assert_eq!(next_return(&long, Duration::ZERO, history), (2, 300));
}
