//! A real Envoy as the oracle: the same manifests, compiled by the control plane, are run by our
//! proxy and (as Envoy v3 JSON) by Envoy, in front of the same pods; the same requests go to both;
//! what comes back, what the pods saw, what was counted and logged must be the same, but for what
//! `mesh/DIFFERENCES.md` lists.
//!
//! A case is data: `cases/*.yaml`, described in `case.rs`. `ORACLE_KEEP=FOLDER` keeps the
//! configurations and outputs of the proxies.

mod case;
mod client;
mod differences;
mod message;
mod observe;
mod stage;
mod upstream;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use libtest_mimic::{Arguments, Failed, Trial};

use case::{Case, Send, Through};
use client::Answer;
use differences::Differences;
use observe::Seen;
use stage::Side;
use upstream::Try;

/// Longest that both sides may take to agree about what comes in its own time: counters, mirrored
/// requests, lines of access logs.
const SETTLE: Duration = Duration::from_secs(5);

fn main() {
    // The suite is also the proxy under test, in a process of its own.
    if std::env::args().nth(1).is_some_and(|word| word == "proxy") {
        return proxy();
    }
    let mut arguments = Arguments::from_args();
    // Cases share counters of listeners, so one at a time.
    arguments.test_threads = Some(1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let cases = case::read(&folder);
    if arguments.list {
        let trials = cases.iter().map(|case| Trial::test(&case.name, || Ok(())));
        libtest_mimic::run(&arguments, trials.collect()).exit();
    }
    let Some(envoy) = dojo_tests::envoy::binary() else {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("ORACLE_KEEP").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(scratch.path());
    std::fs::create_dir_all(folder).expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let sides = match runtime.block_on(Side::both(&cases, &envoy, folder)) {
        Ok(sides) => sides,
        Err(error) => panic!("{error:#}"),
    };
    let suite = Arc::new(Suite {
        runtime,
        sides,
        differences: Differences::read(&dojo_tests::dojo::root().join("mesh/DIFFERENCES.md")),
        ran: Mutex::default(),
    });
    let whole = cases.len();
    let mut trials: Vec<Trial> = cases
        .into_iter()
        .map(|case| {
            let suite = suite.clone();
            Trial::test(case.name.clone(), move || suite.run(&case))
        })
        .collect();
    let last = suite.clone();
    trials.push(Trial::test("access-log", move || last.access_log(whole)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The trials hold it no more; dropped, the proxies end.
    drop(suite);
    drop(scratch);
    conclusion.exit();
}

#[derive(Parser)]
struct ProxyCommand {
    #[command(flatten)]
    args: mesh_proxy::Args,
}

fn proxy() {
    let arguments = std::env::args()
        .enumerate()
        .filter(|(at, _)| *at != 1)
        .map(|(_, word)| word);
    let command = ProxyCommand::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .expect("a runtime")
        .block_on(mesh_proxy::run(command.args));
    if let Err(error) = ended {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

struct Suite {
    runtime: tokio::runtime::Runtime,
    sides: [Side; 2],
    differences: Differences,
    /// Cases that were run.
    ran: Mutex<Vec<(String, Through)>>,
}

impl Suite {
    fn run(&self, case: &Case) -> Result<(), Failed> {
        self.ran
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((case.name.clone(), case.through));
        let wrong = self.runtime.block_on(self.compare(case))?;
        report(&wrong)
    }

    async fn compare(&self, case: &Case) -> Result<Vec<String>, Failed> {
        let mut wrong = Vec::new();
        let before = self.counters(case).await?;
        for (number, send) in case.send.iter().enumerate() {
            let [ours, theirs] = &self.sides;
            let (mut ours_did, mut theirs_did) = tokio::join!(
                act(ours, case, number, send),
                act(theirs, case, number, send)
            );
            // Mirrored requests come when they come.
            let deadline = Instant::now() + SETTLE;
            while ours_did.tries.len() != theirs_did.tries.len() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
                ours_did.tries = ours.upstream.tries();
                theirs_did.tries = theirs.upstream.tries();
            }
            for did in [&mut ours_did, &mut theirs_did] {
                did.tries.sort_by(|a, b| a.pod.cmp(&b.pod));
            }
            let asked = if send.ask.is_empty() {
                format!("raw bytes {}", number + 1)
            } else {
                send.ask.clone()
            };
            for (side, did) in [(ours, &ours_did), (theirs, &theirs_did)] {
                wrong.extend(
                    unexpected(side, did, send)
                        .map(|text| format!("{asked}: {}: {text}", side.name)),
                );
            }
            let different = if send.times == 1 {
                let seen = |side, did: &Did| observe::detail(side, &did.answers[0], &did.tries);
                observe::differ(&seen(ours, &ours_did), &seen(theirs, &theirs_did))
            } else {
                let seen =
                    |side, did: &Did| observe::distribution(side, &did.answers, &did.tries, send);
                observe::counts_differ(
                    &seen(ours, &ours_did),
                    &seen(theirs, &theirs_did),
                    std::slice::from_ref(send),
                )
            };
            wrong.extend(
                self.unlisted(case, different)
                    .map(|text| format!("{asked}: {text}")),
            );
        }
        let deadline = Instant::now() + SETTLE;
        let different = loop {
            let after = self.counters(case).await?;
            let [ours, theirs] = [0, 1].map(|side| changes(&before[side], &after[side]));
            let different = observe::counts_differ(&ours, &theirs, &case.send);
            let settled = different
                .iter()
                .all(|(name, _)| self.differences.lists(&case.name, name));
            if settled || Instant::now() > deadline {
                break different;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        wrong.extend(self.unlisted(case, different));
        Ok(wrong)
    }

    fn unlisted<'a>(
        &'a self,
        case: &'a Case,
        different: Vec<(String, String)>,
    ) -> impl Iterator<Item = String> + 'a {
        let unlisted =
            move |(name, _): &(String, String)| !self.differences.lists(&case.name, name);
        different
            .into_iter()
            .filter(unlisted)
            .map(|(name, text)| format!("{name}: {text}"))
    }

    /// Counters of both sides that a case can change.
    async fn counters(&self, case: &Case) -> Result<[BTreeMap<String, i64>; 2], Failed> {
        let mut all = [BTreeMap::new(), BTreeMap::new()];
        let filter = match case.through {
            Through::Inbound => r"^(cluster\.inbound|http\.inbound|tcp\.inbound)".to_owned(),
            _ => format!(
                r"^(cluster\.outbound\|\d*\|\w*\|{}\.|http\.outbound|tcp\.outbound)",
                case.name
            ),
        };
        let page = format!(
            "/stats?type=Counters&filter={}",
            filter.replace('|', "%7C").replace('+', "%2B")
        );
        for (side, counters) in self.sides.iter().zip(&mut all) {
            let (status, text) = client::admin(side.admin(case), "GET", &page).await?;
            if status != 200 {
                return Err(format!("{}: {page}: {status} {text}", side.name).into());
            }
            let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
            counters.extend(lines.filter_map(|(name, value)| {
                Some((format!("counter.{name}"), value.parse().ok()?))
            }));
        }
        Ok(all)
    }

    fn access_log(&self, whole: usize) -> Result<(), Failed> {
        // Envoy writes its log from time to time.
        let deadline = Instant::now() + SETTLE;
        let mut wrong = self.log_lines_that_differ();
        while !wrong.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
            wrong = self.log_lines_that_differ();
        }
        let ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        if ran.len() == whole {
            let stale = self.differences.stale();
            wrong.extend(
                stale
                    .into_iter()
                    .map(|row| format!("DIFFERENCES.md: {row} does not differ any more")),
            );
        }
        report(&wrong)
    }

    fn log_lines_that_differ(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for through in [Through::Sidecar, Through::Gateway] {
            let [ours, theirs] =
                [0, 1].map(|side| observe::log_lines(&self.sides[side].log(through)));
            let agents: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            // Of many requests each has another line.
            for agent in agents.into_iter().filter(|agent| !agent.ends_with('*')) {
                let name = agent
                    .rsplit_once('/')
                    .map_or(agent.as_str(), |(name, _)| name);
                let none = Seen::new();
                let of = |lines: &BTreeMap<String, Seen>| lines.get(agent).unwrap_or(&none).clone();
                for (field, text) in observe::differ(&of(&ours), &of(&theirs)) {
                    if !self.differences.lists(name, &field) {
                        wrong.push(format!("{agent}: {field}: {text}"));
                    }
                }
            }
        }
        wrong
    }
}

fn report(wrong: &[String]) -> Result<(), Failed> {
    if wrong.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for line in wrong {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {line}");
    }
    Err(text.into())
}

/// What one side made of a request, or of the same several times.
struct Did {
    answers: Vec<Answer>,
    tries: Vec<Try>,
}

async fn act(side: &Side, case: &Case, number: usize, send: &Send) -> Did {
    tokio::time::sleep(Duration::from_secs_f64(send.pause)).await;
    side.upstream.play(&send.upstream);
    let to = match send.admin {
        true => side.admin(case),
        false => side.door(case, send.port),
    };
    let host = send.host.clone().unwrap_or_else(|| match send.admin {
        true => "localhost".into(),
        false => case.host(),
    });
    let many = if send.times > 1 { "*" } else { "" };
    let agent = format!("{}/{}{many}", case.name, number + 1);
    let mut answers = Vec::new();
    while answers.len() < send.times {
        let width = send.at_once.min(send.times - answers.len());
        let mut together = tokio::task::JoinSet::new();
        for _ in 0..width {
            let (host, agent, send) = (host.clone(), agent.clone(), send.clone());
            together.spawn(async move { client::ask(to, &host, &agent, &send).await });
        }
        answers.extend(together.join_all().await);
    }
    if send.leave_after.is_some() {
        // What a pod sees of it may come after the client has gone.
        let deadline = Instant::now() + SETTLE;
        while side.upstream.tries().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Did {
        answers,
        tries: side.upstream.tries(),
    }
}

fn unexpected(side: &Side, did: &Did, send: &Send) -> Option<String> {
    let first = did.answers.first()?;
    if let Some(expected) = &send.expect {
        let got = side.common(&first.short());
        if send.times == 1 && !got.starts_with(expected.as_str()) {
            return Some(format!("answered {got:?}, not {expected:?}"));
        }
    }
    let least = Duration::from_secs_f64(send.took?);
    let most = least + Duration::from_secs(4);
    // Timers of both have a grain of a millisecond or two.
    let in_time = first.took + Duration::from_millis(5) >= least && first.took < most;
    (!in_time).then(|| format!("took {:?}, not {least:?} to {most:?}", first.took))
}

fn changes(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    let change = |(name, value): (&String, &i64)| {
        let change = value - before.get(name).copied().unwrap_or_default();
        (change != 0).then(|| (name.clone(), change))
    };
    after.iter().filter_map(change).collect()
}
