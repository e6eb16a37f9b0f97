//! `meshdojo lab watch`: checks again with every change of the cluster, and now and then because traffic changes too.

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::SelectAll};
use kube::runtime::watcher;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{desk::Desk, verbs};
use crate::{
    cluster::Cluster,
    say,
    terminal::{Mode, Terminal},
};

/// Kinds whose changes call for another look.
const KINDS: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("v1", "Service"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
];
/// Changes come in groups: a look waits for the rest of the group.
const SETTLE: Duration = Duration::from_millis(300);
/// Without a change, a look so often: traffic has no event.
const NOW_AND_THEN: Duration = Duration::from_secs(5);
/// Judged without waiting, since another look comes anyway.
const PATIENCE: Duration = Duration::ZERO;

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Watches until the lab is done, or the student quits. The terminal gives single keys meanwhile.
pub(super) async fn watch(desk: &Desk) -> anyhow::Result<ExitCode> {
    let terminal = Terminal::take(Mode::Keys)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let code = tokio::select! {
        code = follow(desk) => code,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(INTERRUPTED)),
    };
    drop(terminal);
    code
}

async fn follow(desk: &Desk) -> anyhow::Result<ExitCode> {
    let cluster = desk.cluster().await?;
    let mut changes = changes(&cluster, &desk.current()?.0.front.namespaces);
    let mut keys = keys();
    let mut input_open = true;
    verbs::show(desk).await?;
    let mut last_passed = None;
    // Whether the footer stands below everything else.
    let mut footer = false;
    loop {
        let (lab, step) = match desk.current_step() {
            Ok(current) => current,
            Err(done) => {
                say::line(format!("{done}"))?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        // Without a check there is nothing to watch for: the student says when.
        if !step.checks.is_empty() && last_passed != Some(step.number) {
            let verdicts =
                crate::attempt::attempt(&step.checks, &cluster, desk.language, PATIENCE, false)
                    .await;
            match verdicts {
                Ok(verdicts) if crate::attempt::passed(&verdicts) => {
                    verbs::judge_and_say(desk, &cluster, &lab, &step, PATIENCE).await?;
                    last_passed = Some(step.number);
                    footer = false;
                }
                Ok(_) => {}
                // The cluster is away; it may come back.
                Err(error) => eprintln!("meshdojo: {error:#}"),
            }
        }
        if !std::mem::replace(&mut footer, true) {
            say::line(format!(
                "[{}/{}] n {} · h {} · c {} · s {} · r {} · q {}",
                step.number,
                lab.steps.len(),
                desk.language.pick("next", "다음"),
                desk.language.pick("hint", "힌트"),
                desk.language.pick("check", "검사"),
                desk.language.pick("solve", "풀이"),
                desk.language.pick("reset", "초기화"),
                desk.language.pick("quit", "끝내기"),
            ))?;
        }
        tokio::select! {
            key = keys.recv(), if input_open => {
                footer = false;
                match key {
                    Some('q') => return Ok(ExitCode::SUCCESS),
                    Some('n') => tell(verbs::next(desk, false).await),
                    Some('h') => tell(verbs::hint(desk)),
                    Some('c') => tell(verbs::check(desk).await),
                    Some('s') => tell(verbs::solve(desk).await),
                    Some('r') => tell(verbs::reset(desk).await),
                    Some(_) => {}
                    None => input_open = false,
                }
            }
            _ = changes.next(), if !changes.is_empty() => {
                tokio::time::sleep(SETTLE).await;
                while changes.next().now_or_never().flatten().is_some() {}
            }
            () = tokio::time::sleep(NOW_AND_THEN) => {}
        }
    }
}

/// The keys that are typed; without a terminal, the first letter of each line. A thread of its own reads them: reading
/// cannot be given up half-way.
fn keys() -> mpsc::Receiver<char> {
    let (sender, receiver) = mpsc::channel(1);
    let by_line = !std::io::stdin().is_terminal();
    std::thread::spawn(move || {
        let mut line_begins = true;
        for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
            let key = char::from(byte);
            let meant = !key.is_whitespace() && (line_begins || !by_line);
            line_begins = key == '\n' || line_begins && !meant;
            if meant && sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

fn tell(outcome: anyhow::Result<ExitCode>) {
    if let Err(error) = outcome {
        eprintln!("meshdojo: {error:#}");
    }
}

/// A stream with an item for every change.
fn changes(
    cluster: &Cluster,
    namespaces: &[String],
) -> SelectAll<futures::stream::BoxStream<'static, ()>> {
    let mut all = SelectAll::new();
    for namespace in namespaces {
        for (api_version, kind) in KINDS {
            let api = cluster.api(api_version, kind, namespace);
            all.push(watcher(api, watcher::Config::default()).map(|_| ()).boxed());
        }
    }
    all
}
