use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;
use crate::check::Check;

fn shares_of(yaml: &str) -> Shares {
    let value: serde_json::Value = serde_norway::from_str(yaml).unwrap();
    match serde_json::from_value(value).unwrap() {
        Check::Shares(shares) => shares,
        other => panic!("{other:?}"),
    }
}

fn judged(check: &Shares, random: &mut SmallRng, truth: &[(&str, f64)]) -> (Verdict, u32) {
    let mut tally = Tally::new(check);
    while tally.decision() == Decision::Open && tally.all < check.cap {
        let mut throw: f64 = random.random();
        let key = truth.iter().find(|(_, p)| {
            throw -= p;
            throw < 0.0
        });
        tally.take(key.unwrap_or(truth.last().unwrap()).0.to_owned());
    }
    (tally.verdict(Language::En), tally.all)
}

const HALF: &str = "shares: { request: { url: / }, by: status, expect: { v1: 50, v3: 50 } }";

/// Ten thousand students who did it right, none of whom is told otherwise; the bound itself is shown where the test
/// of a single share is.
#[test]
fn nobody_who_is_right_is_told_otherwise() {
    let mut random = SmallRng::seed_from_u64(7);
    let ninety = shares_of("shares: { request: { url: / }, by: status, expect: { a: 90, b: 10 } }");
    let half = shares_of(HALF);
    let mut longest = 0;
    for _ in 0..5000 {
        for (check, truth) in [
            (&half, [("v1", 0.5), ("v3", 0.5)]),
            (&ninety, [("a", 0.9), ("b", 0.1)]),
        ] {
            let (verdict, all) = judged(check, &mut random, &truth);
            assert!(matches!(verdict, Verdict::Passed(_)), "{verdict:?}");
            longest = longest.max(all);
        }
    }
    assert!(longest <= 3000, "{longest}");
}

#[test]
fn wrong_shares_are_told_with_what_was_seen() {
    let mut random = SmallRng::seed_from_u64(8);
    let half = shares_of(HALF);
    for truth in [
        &[("v1", 0.9), ("v3", 0.1)][..],
        &[("v1", 0.34), ("v2", 0.33), ("v3", 0.33)],
        &[("v3", 1.0)],
    ] {
        let (verdict, _) = judged(&half, &mut random, truth);
        let Verdict::Failed(finding) = verdict else {
            panic!("{truth:?} passed")
        };
        assert_eq!(finding.expected, "v1: 50 %, v3: 50 %");
        assert!(finding.seen.starts_with("of "), "{}", finding.seen);
    }
}

#[test]
fn an_answer_that_differs_is_told_by_what_differs() {
    let answer = Answer {
        status: 503,
        headers: [("x-envoy-overloaded".to_owned(), "true".to_owned())].into(),
        body: "upstream connect error".into(),
        time: Duration::from_millis(1200),
    };
    let expect = |yaml: &str| -> Expect {
        let value: serde_json::Value = serde_norway::from_str(yaml).unwrap();
        serde_json::from_value(value).unwrap()
    };
    let differs = |yaml: &str| super::differs(&answer, &expect(yaml), Language::En);
    assert_eq!(
        differs(
            "{ status: 503, headers: { X-Envoy-Overloaded: '^true$' }, body: [connect], time: 1s..2s }"
        ),
        None
    );
    assert_eq!(
        differs("{ status: 200 }"),
        Some((r#"503 "upstream connect error""#.into(), "200".into()))
    );
    assert_eq!(
        differs("{ headers: { server: envoy } }"),
        Some(("no header server".into(), "server: envoy".into()))
    );
    assert_eq!(
        differs("{ not_body: ['connect e'] }"),
        Some((
            r#""connect e""#.into(),
            "an answer without connect e".into()
        ))
    );
    assert_eq!(
        differs("{ time: 5s..7s }"),
        Some(("an answer after 1.2s".into(), "5s..7s".into()))
    );
}
