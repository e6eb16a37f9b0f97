//! Checks that send requests.

use std::{collections::BTreeMap, fmt::Write as _};

use futures::StreamExt;

use super::Verdict;
use crate::{
    check::{Answers, Expect, Http, Percent, Range, Seconds, Shares},
    cluster::Cluster,
    language::Language,
    send::{Answer, Sender},
    sequential::{Decision, Share},
};

/// See [`crate::check::Check::Http`].
pub(super) async fn http(
    check: &Http,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let sender = match sender(&check.request, cluster).await? {
        Ok(sender) => sender,
        Err(verdict) => return Ok(verdict),
    };
    let mut last = None;
    for _ in 0..check.times.max(1) {
        let answer = sender.send().await;
        if let Some((seen, expected)) = differs(&answer, &check.expect, language) {
            return Ok(Verdict::failed(seen, expected));
        }
        last = Some(answer);
    }
    let seen = last.map(|answer| {
        format!(
            "{}, {}",
            answer.in_short(language),
            Seconds(answer.time.as_secs_f64())
        )
    });
    Ok(Verdict::Passed(seen.unwrap_or_default()))
}

/// A sender; that its pod or its login is missing is a verdict of its own.
pub(super) async fn sender(
    request: &crate::check::Request,
    cluster: &Cluster,
) -> anyhow::Result<Result<Sender, Verdict>> {
    Ok(match Sender::new(request, cluster).await {
        Ok(sender) => Ok(sender),
        // The cluster itself does not answer: that is no verdict on the student's work.
        Err(error) if error.downcast_ref::<kube::Error>().is_some() => return Err(error),
        Err(error) => Err(Verdict::failed(format!("{error:#}"), request.url.clone())),
    })
}

/// What was seen and what was expected, where an answer is not as expected.
pub fn differs(answer: &Answer, expect: &Expect, language: Language) -> Option<(String, String)> {
    if let Some(status) = expect.status
        && status != answer.status
    {
        let expected = match status {
            0 => language
                .pick("a failing connection", "연결 실패")
                .to_owned(),
            status => status.to_string(),
        };
        return Some((answer.in_short(language), expected));
    }
    for (name, pattern) in &expect.headers {
        let value = answer.headers.get(&name.to_ascii_lowercase());
        if !value.is_some_and(|value| pattern.0.is_match(value)) {
            let seen = match value {
                Some(value) => format!("{name}: {value}"),
                None => language.pick(
                    format!("no header {name}"),
                    format!("{name} 헤더가 없습니다"),
                ),
            };
            return Some((seen, format!("{name}: {pattern}")));
        }
    }
    for pattern in &expect.body {
        if !pattern.0.is_match(&answer.body) {
            let seen = language.pick(
                format!("an answer without it ({})", answer.in_short(language)),
                format!("그 내용이 없는 응답 ({})", answer.in_short(language)),
            );
            return Some((seen, quoted(pattern, language)));
        }
    }
    for pattern in &expect.not_body {
        if let Some(found) = pattern.0.find(&answer.body) {
            let expected = language.pick(
                format!("an answer without {pattern}"),
                format!("{pattern}이(가) 없는 응답"),
            );
            return Some((format!("{:?}", found.as_str()), expected));
        }
    }
    let took = Seconds(answer.time.as_secs_f64());
    match expect.time {
        Some(range) if !range.contains(took) => Some((
            language.pick(
                format!("an answer after {took}"),
                format!("{took} 만에 온 응답"),
            ),
            range.to_string(),
        )),
        _ => None,
    }
}

fn quoted(pattern: &crate::check::Pattern, language: Language) -> String {
    language.pick(
        format!("an answer with {pattern}"),
        format!("{pattern}이(가) 있는 응답"),
    )
}

/// See [`crate::check::Check::Shares`].
pub(super) async fn shares(
    check: &Shares,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let sender = match sender(&check.request, cluster).await? {
        Ok(sender) => sender,
        Err(verdict) => return Ok(verdict),
    };
    let mut tally = Tally::new(check);
    let mut answers = std::pin::pin!(sender.send_many(check.cap, check.at_a_time));
    while let Some(answer) = answers.next().await {
        tally.take(answer.key(&check.by));
        if tally.decision() != Decision::Open {
            break;
        }
    }
    Ok(tally.verdict(language))
}

/// Answers counted by kind, with a test for each share that is expected.
pub struct Tally<'a> {
    check: &'a Shares,
    shares: BTreeMap<&'a str, Share>,
    counts: BTreeMap<String, u32>,
    all: u32,
    stranger: bool,
}

impl<'a> Tally<'a> {
    /// Nothing counted yet.
    pub fn new(check: &'a Shares) -> Self {
        let part = |percent: Percent| percent / 100.0;
        let shares = check.expect.iter().map(|(key, range)| {
            let high = range.to.unwrap_or(100.0);
            (
                key.as_str(),
                Share::new(part(range.from), part(high), part(check.margin)),
            )
        });
        Self {
            check,
            shares: shares.collect(),
            counts: BTreeMap::new(),
            all: 0,
            stranger: false,
        }
    }

    /// Counts one answer.
    pub fn take(&mut self, key: String) {
        for (name, share) in &mut self.shares {
            share.take(*name == key);
        }
        self.stranger |= !self.check.others && !self.shares.contains_key(key.as_str());
        self.all += 1;
        *self.counts.entry(key).or_default() += 1;
    }

    /// Wrong as soon as one share is, right when all are.
    pub fn decision(&self) -> Decision {
        if self.stranger {
            return Decision::Above;
        }
        let all: Vec<Decision> = self.shares.values().map(Share::decision).collect();
        let wrong = all
            .iter()
            .find(|d| matches!(d, Decision::Above | Decision::Below));
        match wrong {
            Some(wrong) => *wrong,
            None if all.contains(&Decision::Open) => Decision::Open,
            None => Decision::Within,
        }
    }

    /// In words. Undecided at the cap counts as passed only when no share is far off what was seen.
    pub fn verdict(&self, language: Language) -> Verdict {
        let mut seen = language.pick(
            format!("of {} answers ", self.all),
            format!("응답 {}개 중 ", self.all),
        );
        for (i, (key, count)) in self.counts.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let percent = 100.0 * f64::from(*count) / f64::from(self.all.max(1));
            let _ = write!(seen, "{separator}{key}: {count} ({percent:.0} %");
            if let Some(share) = self.shares.get(key.as_str()) {
                let (_, low, high) = share.interval();
                let _ = write!(seen, "; 95 %: {low:.0}..{high:.0}");
            }
            seen.push(')');
        }
        let expected: Vec<String> = self
            .check
            .expect
            .iter()
            .map(|(key, range)| format!("{key}: {range} %"))
            .collect();
        let within = |(key, range): (&String, &Range<Percent>)| {
            let (seen, _, _) = self.shares[key.as_str()].interval();
            seen >= range.from - self.check.margin / 2.0
                && seen <= range.to.unwrap_or(100.0) + self.check.margin / 2.0
        };
        let passed = match self.decision() {
            Decision::Within => true,
            Decision::Open => self.all > 0 && self.check.expect.iter().all(within),
            Decision::Above | Decision::Below => false,
        };
        if passed {
            Verdict::Passed(seen)
        } else {
            Verdict::failed(seen, expected.join(", "))
        }
    }
}

/// See [`crate::check::Check::Answers`].
pub(super) async fn answers(
    check: &Answers,
    cluster: &Cluster,
    language: Language,
) -> anyhow::Result<Verdict> {
    let sender = match sender(&check.request, cluster).await? {
        Ok(sender) => sender,
        Err(verdict) => return Ok(verdict),
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut answers = std::pin::pin!(sender.send_many(check.times, check.at_a_time));
    while let Some(answer) = answers.next().await {
        *counts.entry(answer.key(&check.by)).or_default() += 1;
        if enough(&counts, check) {
            break;
        }
    }
    let seen: Vec<String> = counts.iter().map(|(k, n)| format!("{k}: {n}")).collect();
    let seen = seen.join(", ");
    let mut lacking = Vec::new();
    let distinct = counts.len() as u64;
    if let Some(range) = check.distinct
        && !range.contains(distinct)
    {
        lacking.push(language.pick(
            format!("{range} different answers"),
            format!("서로 다른 응답 {range}가지"),
        ));
    }
    for key in check.include.iter().filter(|k| !counts.contains_key(*k)) {
        lacking.push(language.pick(format!("some {key}"), format!("{key}도 있어야 함")));
    }
    for key in check.exclude.iter().filter(|k| counts.contains_key(*k)) {
        lacking.push(language.pick(format!("no {key}"), format!("{key}은(는) 없어야 함")));
    }
    Ok(if lacking.is_empty() {
        Verdict::Passed(seen)
    } else {
        Verdict::failed(seen, lacking.join(", "))
    })
}

/// Whether nothing that could still come would change the verdict from passed.
fn enough(counts: &BTreeMap<String, u32>, check: &Answers) -> bool {
    let open_ended = check
        .distinct
        .is_none_or(|range| range.to.is_none() && range.contains(counts.len() as u64));
    check.exclude.is_empty()
        && open_ended
        && check.include.iter().all(|key| counts.contains_key(key))
}

#[cfg(test)]
mod tests;
