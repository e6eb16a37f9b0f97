//! What is seen of a request, as names and values that can be compared.
//!
//! Not compared, because two runs of the same proxy differ in them: the value of `date`, of times
//! measured in milliseconds (`x-envoy-upstream-service-time`, `x-envoy-expected-rq-timeout-ms` of a
//! later try), of `x-request-id` (only that it is a UUID), ports that the system chose, the order
//! of headers, times and connection addresses in the access log, and how bytes were cut into
//! packets.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use crate::{case::Send, client::Answer, message::Message, stage::Side, upstream::Try};

/// By name of what was seen: `answer.status`, `try.1.header.host`.
pub(crate) type Seen = BTreeMap<String, String>;

static UUID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").expect("a regex")
});
static HASH: LazyLock<Regex> = LazyLock::new(|| Regex::new("=\"[0-9a-f]{12,}\"").expect("a regex"));
static EPHEMERAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"net\.(\d+):[3-6]\d{4}").expect("a regex"));
static ANNOUNCED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(PROXY TCP4 \S+ \S+) \d+ ").expect("a regex"));

/// One request, in every detail.
pub(crate) fn detail(side: &Side, answer: &Answer, tries: &[Try]) -> Seen {
    let mut seen = Seen::new();
    let mut add = |name: String, value: &str| {
        let value = UUID.replace_all(value, "UUID");
        let value = HASH.replace_all(&value, "=\"HASH\"");
        let value = side.common(&value);
        let value = EPHEMERAL.replace_all(&value, "net.$1:PORT");
        let value = ANNOUNCED.replace_all(&value, "$1 PORT ").into_owned();
        seen.entry(name)
            .and_modify(|all| *all += &format!("\n{value}"))
            .or_insert(value);
    };
    for (number, message) in answer.messages.iter().enumerate() {
        let prefix = if number == 0 {
            "answer".into()
        } else {
            format!("answer-{}", number + 1)
        };
        add(format!("{prefix}.status"), &message.status().to_string());
        note(&prefix, message, &mut add);
    }
    if !answer.other.is_empty() {
        add("answer.bytes".into(), &answer.other);
    }
    if answer.closed {
        add("answer.closed".into(), "by the proxy");
    }
    for (number, attempt) in (1..).zip(tries) {
        let prefix = format!("try.{number}");
        add(format!("{prefix}.pod"), &attempt.pod);
        add(format!("{prefix}.start"), &attempt.message.start);
        note(&prefix, &attempt.message, &mut add);
    }
    seen
}

fn note(prefix: &str, message: &Message, add: &mut impl FnMut(String, &str)) {
    for (name, value) in &message.headers {
        let value = match name.as_str() {
            "date" => "a date",
            "x-envoy-upstream-service-time" => "some ms",
            _ => value,
        };
        add(format!("{prefix}.header.{name}"), value);
    }
    for (name, value) in &message.trailers {
        add(format!("{prefix}.trailer.{name}"), value);
    }
    // JSON is compared by its values.
    let json = serde_json::from_str::<serde_json::Value>(&message.body);
    let body = match json {
        Ok(json) if json.is_object() => json.to_string(),
        _ => message.body.clone(),
    };
    add(format!("{prefix}.body"), &body);
    if message.cut {
        add(format!("{prefix}.cut"), "before its end");
    }
}

/// Many requests: how often each answer and each pod occurred.
pub(crate) fn distribution(
    side: &Side,
    answers: &[Answer],
    tries: &[Try],
    send: &Send,
) -> BTreeMap<String, i64> {
    if send.unnamed {
        let status = answers
            .iter()
            .map(|answer| answer.messages.first().map(Message::status));
        let answers =
            counted(status.map(|status| format!("answers.{}", status.unwrap_or_default())));
        let mut pods: Vec<i64> = counted(tries.iter().map(|one| one.pod.clone()))
            .into_values()
            .collect();
        pods.sort_by_key(|count| std::cmp::Reverse(*count));
        let pods = (1..)
            .zip(pods)
            .map(|(rank, count)| (format!("tries.rank-{rank}"), count));
        return answers.into_iter().chain(pods).collect();
    }
    let answers = answers
        .iter()
        .map(|answer| format!("answers.{}", side.common(&answer.short())));
    counted(answers.chain(tries.iter().map(|attempt| format!("tries.{}", attempt.pod))))
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Names that only one of two knows count as 0 there.
pub(crate) fn counts_differ(
    ours: &BTreeMap<String, i64>,
    theirs: &BTreeMap<String, i64>,
    send: &[Send],
) -> Vec<(String, String)> {
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = names.into_iter().filter_map(|name| {
        let of = |side: &BTreeMap<String, i64>| side.get(name).copied().unwrap_or_default();
        let (a, b) = (of(ours), of(theirs));
        let allowed = allowed(a, b, send);
        ((a - b).unsigned_abs() as f64 > allowed).then(|| {
            (
                name.clone(),
                format!("ours {a}, Envoy {b} (may differ by {allowed:.0})"),
            )
        })
    });
    differ.collect()
}

/// By how much two counts of random draws may differ, less than once in ten million times; exact
/// where nothing is drawn.
fn allowed(a: i64, b: i64, send: &[Send]) -> f64 {
    let times = send.iter().map(|send| send.times).max().unwrap_or(1) as f64;
    if times <= 1.0 {
        return 0.0;
    }
    if let Some(share) = send.iter().find_map(|send| send.spread) {
        return share * times;
    }
    let p = (a + b) as f64 / 2.0 / times;
    if p == 1.0 || p == 0.0 {
        return 0.0;
    }
    let p = if p < 1.0 { p } else { 0.5 };
    (5.5 * (2.0 * times * p * (1.0 - p)).sqrt()).ceil()
}

/// All names whose values differ.
pub(crate) fn differ(ours: &Seen, theirs: &Seen) -> Vec<(String, String)> {
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name));
    let show =
        |value: Option<&String>| value.map_or("nothing".to_owned(), |value| format!("{value:?}"));
    differ
        .map(|name| {
            (
                name.clone(),
                format!(
                    "ours {}, Envoy {}",
                    show(ours.get(name)),
                    show(theirs.get(name))
                ),
            )
        })
        .collect()
}

/// The fields of an access log line that say what happened; by the user agent of the request.
pub(crate) fn log_lines(log: &str) -> BTreeMap<String, Seen> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        let line = r#"(?m)^\[\S+\] "(?<request>[^"]*)" (?<code>\d+) (?<flags>\S+) (?<details>\S+) (?<connection>\S+) "(?<transport>[^"]*)" (?<received>\d+) (?<sent>\d+) \d+ (?<service>\S+) "(?<forwarded>[^"]*)" "(?<agent>[^"]*)" "(?<id>[^"]*)" "(?<authority>[^"]*)" "(?<host>[^"]*)" (?<cluster>\S+) (?<local>\S+) (?<to>\S+) \S+ (?<sni>\S+) (?<route>\S+)$"#;
        Regex::new(line).expect("a regex")
    });
    let mut lines = BTreeMap::new();
    for line in LINE.captures_iter(log) {
        let field = |name: &str| (format!("log.{name}"), line[name].to_owned());
        let mut seen: Seen = [
            "request",
            "code",
            "flags",
            "details",
            "connection",
            "transport",
            "received",
            "sent",
            "forwarded",
            "authority",
            "host",
            "cluster",
            "to",
            "sni",
            "route",
        ]
        .map(field)
        .into();
        for (name, measured) in [("service", "ms"), ("id", "an id"), ("local", "an address")] {
            let value = if &line[name] == "-" { "-" } else { measured };
            seen.insert(format!("log.{name}"), value.into());
        }
        lines.insert(line["agent"].to_owned(), seen);
    }
    lines
}
