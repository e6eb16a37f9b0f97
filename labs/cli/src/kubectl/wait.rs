//! `wait`.

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use clap::Args;
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;

use super::{
    all_well,
    kinds::{Kind, Kinds},
    objects::{self, Meant, Selection, meant},
    server::{self, OBJECTS, Server},
};

/// `kubectl wait`.
#[derive(Args)]
pub struct WaitArgs {
    /// TYPE/NAME..., or TYPE with -l or --all
    #[arg(required = true)]
    words: Vec<String>,
    /// condition=NAME[=VALUE] or delete
    #[arg(long = "for", value_parser = awaited)]
    awaited: Awaited,
    #[command(flatten)]
    selection: Selection,
    /// Every object of the type
    #[arg(long)]
    all: bool,
    /// No longer than this: 60s, 2m
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaited {
    Gone,
    Condition(String, String),
}

fn awaited(text: &str) -> Result<Awaited, String> {
    if text == "delete" {
        return Ok(Awaited::Gone);
    }
    let condition = text
        .strip_prefix("condition=")
        .ok_or_else(|| format!("{text:?}: condition=NAME or delete can be waited for"))?;
    let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
    Ok(Awaited::Condition(name.to_owned(), value.to_owned()))
}

/// `60s`, `2m`, `1h30m`, `500ms`, `0`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let unit = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let end = rest[unit..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |at| unit + at);
        let number: u64 = rest[..unit]
            .parse()
            .map_err(|_| format!("invalid duration {text:?}"))?;
        total += match &rest[unit..end] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.saturating_mul(60)),
            "h" => Duration::from_secs(number.saturating_mul(3600)),
            _ => return Err(format!("invalid duration {text:?}: 90s, 2m")),
        };
        rest = &rest[end..];
    }
    Ok(total)
}

impl Awaited {
    fn holds(&self, object: &Value) -> bool {
        let Self::Condition(name, value) = self else {
            return false;
        };
        let mut conditions = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        conditions.any(|condition| {
            let same = |field: &str, wanted: &str| {
                condition[field]
                    .as_str()
                    .is_some_and(|text| text.eq_ignore_ascii_case(wanted))
            };
            same("type", name) && same("status", value)
        })
    }
}

/// Waits until it holds for each of the objects.
pub async fn run(server: &Server, args: WaitArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let named = match meant(&kinds, &args.words)? {
        Meant::Named(named) => named,
        Meant::All(_) if args.selection.is_empty() && !args.all => {
            bail!("resource(s) were provided, but no name was specified")
        }
        Meant::All(_) => {
            let found = objects::fetch(server, &args.words, &args.selection).await?;
            let pair = |(kind, object): (Kind, Value)| (kind, objects::name(&object).to_owned());
            found.into_iter().map(pair).collect()
        }
    };
    if named.is_empty() && args.awaited != Awaited::Gone {
        bail!("no matching resources found");
    }
    let deadline = tokio::time::Instant::now() + args.timeout;
    let mut outcomes = Vec::new();
    for (kind, name) in named {
        let waiting = wait(server, &kind, &name, &args.awaited);
        let outcome = tokio::time::timeout_at(deadline, waiting).await;
        outcomes.push(outcome.unwrap_or_else(|_| {
            Err(anyhow!(
                "timed out waiting for the condition on {}/{name}",
                kind.plural
            ))
        }));
    }
    Ok(all_well(outcomes))
}

async fn wait(server: &Server, kind: &Kind, name: &str, awaited: &Awaited) -> anyhow::Result<()> {
    let done = || println!("{}/{name} condition met", kind.title());
    match server.get(&kind.path_of(&server.namespace, name)).await {
        Err(error) if server::is_not_found(&error) && *awaited == Awaited::Gone => return Ok(()),
        Err(error) => return Err(error),
        Ok(object) if awaited.holds(&object) => {
            done();
            return Ok(());
        }
        Ok(_) => {}
    }
    let selection = Selection {
        fields: Some(format!("metadata.name={name}")),
        labels: None,
    };
    let path = kind.path(Some(&server.namespace)) + &selection.query();
    let mut events = std::pin::pin!(server.watch(&path, OBJECTS).await?);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) if awaited.holds(&object) => {
                done();
                return Ok(());
            }
            WatchEvent::Deleted(_) if *awaited == Awaited::Gone => {
                done();
                return Ok(());
            }
            WatchEvent::Deleted(_) => bail!("{} {name:?} was deleted meanwhile", kind.title()),
            WatchEvent::Error(status) => bail!("{}", status.message),
            _ => {}
        }
    }
    bail!("the watch ended")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_hold_by_name_and_value() {
        let ready = awaited("condition=ready").unwrap();
        let pod = |value: &str| json!({ "status": { "conditions": [{ "type": "Ready", "status": value }] } });
        assert!(ready.holds(&pod("True")));
        assert!(!ready.holds(&pod("False")));
        assert!(
            awaited("condition=Ready=false")
                .unwrap()
                .holds(&pod("False"))
        );
        assert!(awaited("jsonpath={.a}").is_err());
    }

    #[test]
    fn durations_are_those_of_kubectl() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h1m"), Ok(Duration::from_secs(3660)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("5").is_err() && duration("x").is_err());
    }
}
