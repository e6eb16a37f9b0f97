//! Deciding a share from as few answers as suffice: Wald's sequential probability ratio test.
//!
//! A share is expected to be in `[low, high]`. Two questions are asked at once: is it above `high` by the margin or
//! more, is it below `low` by the margin or more? Each is a likelihood ratio of "just beyond" against "just within",
//! updated with every answer. That ratio passes `1 / ALPHA` for a share that is as expected with a probability of at
//! most `ALPHA`, however long one goes on looking (Ville's inequality): so a right answer is called wrong less than
//! once in ten million. It sinks below `BETA` soon when the share is as expected; then the question is settled.

/// The probability to call a right share wrong, per question.
pub const ALPHA: f64 = 1e-8;
/// The probability to call a share right that is wrong by the margin, per question.
pub const BETA: f64 = 1e-3;

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// As expected.
    Within,
    /// Certainly more than expected.
    Above,
    /// Certainly less than expected.
    Below,
    /// More answers are needed.
    Open,
}

/// The test of one share.
#[derive(Clone, Debug)]
pub struct Share {
    above: Option<Question>,
    below: Option<Question>,
    alpha: f64,
    /// Answers of this kind.
    pub hits: u32,
    /// All answers.
    pub all: u32,
}

/// Whether the share is `then` rather than `expected`, as the logarithm of a likelihood ratio.
#[derive(Clone, Debug)]
struct Question {
    on_hit: f64,
    on_miss: f64,
    ratio: f64,
    settled: bool,
}

impl Question {
    /// `None` when there is nothing beyond: no share is above 100 % or below 0 %.
    fn new(expected: f64, then: f64) -> Option<Self> {
        let then = then.clamp(0.0, 1.0);
        (then != expected).then(|| Self {
            on_hit: (then / expected).ln(),
            on_miss: ((1.0 - then) / (1.0 - expected)).ln(),
            ratio: 0.0,
            settled: false,
        })
    }

    fn take(&mut self, hit: bool) {
        if !self.settled {
            self.ratio += if hit { self.on_hit } else { self.on_miss };
            self.settled = self.ratio <= BETA.ln();
        }
    }
}

impl Share {
    /// A test that the share is in `[low, high]`, where `margin` beyond is certainly wrong; all as fractions of 1.
    pub fn new(low: f64, high: f64, margin: f64) -> Self {
        Self::with_alpha(low, high, margin, ALPHA)
    }

    fn with_alpha(low: f64, high: f64, margin: f64, alpha: f64) -> Self {
        Self {
            above: Question::new(high, high + margin),
            below: Question::new(low, low - margin),
            alpha,
            hits: 0,
            all: 0,
        }
    }

    /// Takes one answer into account.
    pub fn take(&mut self, hit: bool) {
        self.all += 1;
        self.hits += u32::from(hit);
        for question in [&mut self.above, &mut self.below].into_iter().flatten() {
            question.take(hit);
        }
    }

    /// What can be said now.
    pub fn decision(&self) -> Decision {
        let passed = |question: &Option<Question>| {
            question
                .as_ref()
                .is_some_and(|q| q.ratio >= (1.0 / self.alpha).ln())
        };
        let settled = |question: &Option<Question>| question.as_ref().is_none_or(|q| q.settled);
        if passed(&self.above) {
            Decision::Above
        } else if passed(&self.below) {
            Decision::Below
        } else if settled(&self.above) && settled(&self.below) {
            Decision::Within
        } else {
            Decision::Open
        }
    }

    /// The share that was seen with its 95 % interval (Wilson's), in per cent.
    pub fn interval(&self) -> (f64, f64, f64) {
        let n = f64::from(self.all.max(1));
        let p = f64::from(self.hits) / n;
        let z2 = 1.96_f64 * 1.96;
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
        (
            100.0 * p,
            100.0 * (middle - half).max(0.0),
            100.0 * (middle + half).min(1.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    fn run(test: &mut Share, truth: f64, random: &mut SmallRng, cap: u32) -> Decision {
        while test.decision() == Decision::Open && test.all < cap {
            test.take(random.random_bool(truth));
        }
        test.decision()
    }

    /// The bound is too small to be seen in a test, but it holds for every alpha; at one in a hundred it can be seen.
    #[test]
    fn right_shares_are_called_wrong_no_more_often_than_stated() {
        let mut random = SmallRng::seed_from_u64(1);
        for (low, high) in [(0.5, 0.5), (0.1, 0.1), (0.9, 0.9), (0.2, 0.45)] {
            for truth in [low, high] {
                let runs = 4000;
                let wrong = (0..runs).filter(|_| {
                    let mut test = Share::with_alpha(low, high, 0.1, 0.01);
                    let decision = run(&mut test, truth, &mut random, 3000);
                    matches!(decision, Decision::Above | Decision::Below)
                });
                let wrong = wrong.count();
                // Two questions of 1 % each: 80 of 4000, and room for chance (five standard deviations).
                assert!(
                    wrong <= 80 + 45,
                    "{low}..{high} at {truth}: {wrong} of {runs}"
                );
            }
        }
        let wrong = (0..4000).filter(|_| {
            let mut test = Share::new(0.5, 0.5, 0.1);
            run(&mut test, 0.5, &mut random, 3000) != Decision::Within
        });
        assert_eq!(wrong.count(), 0, "and never with the alpha in use");
    }

    #[test]
    fn wrong_shares_are_found_out() {
        let mut random = SmallRng::seed_from_u64(2);
        for (expected, truth, then) in [
            (0.5, 0.9, Decision::Above),
            (0.5, 0.333, Decision::Below),
            (0.1, 0.333, Decision::Above),
            (1.0, 0.7, Decision::Below),
        ] {
            for _ in 0..500 {
                let mut test = Share::new(expected, expected, 0.1);
                assert_eq!(run(&mut test, truth, &mut random, 3000), then);
            }
        }
    }

    #[test]
    fn a_certainty_is_disproved_by_one_answer_and_takes_few_to_believe() {
        let mut test = Share::new(1.0, 1.0, 0.1);
        while test.decision() == Decision::Open {
            test.take(true);
        }
        assert_eq!((test.decision(), test.all), (Decision::Within, 66));
        let mut test = Share::new(1.0, 1.0, 0.1);
        test.take(false);
        assert_eq!(test.decision(), Decision::Below);
        let mut test = Share::new(0.0, 0.0, 0.1);
        test.take(true);
        assert_eq!(test.decision(), Decision::Above);
    }

    #[test]
    fn half_and_half_takes_some_hundred_answers() {
        let mut random = SmallRng::seed_from_u64(3);
        let lengths: u32 = (0..200)
            .map(|_| {
                let mut test = Share::new(0.5, 0.5, 0.1);
                run(&mut test, 0.5, &mut random, 3000);
                test.all
            })
            .sum();
        assert!((250..600).contains(&(lengths / 200)), "{}", lengths / 200);
    }
}
