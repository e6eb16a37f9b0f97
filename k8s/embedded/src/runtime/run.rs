//! One run of a container: its process, its log and its probes, until it ends.

use super::containers::Running;
use super::exec;
use super::launch::addresses;
use super::logs::LogWriter;
use super::memory;
use super::pod::Worker;
use super::probe::{self, Kind, Report, Target};
use super::process::{Launch, Launcher, StopOrder, exit_code, signal_group, stop_when_ordered};
use super::terminal::Terminal;
use crate::controllers::events::{EventType, Recorder};
use crate::node::{Input, Output};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, LifecycleHandler, Pod, Probe};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long the log of an ended process may still be written by what it left behind.
const LOG_DRAIN: Duration = Duration::from_millis(500);
/// Pieces of output that an attached client may be behind.
const ATTACHED: usize = 64;
/// Most of a termination message that is kept, in bytes.
const MESSAGE: usize = 4096;

/// What a run tells the pod.
#[derive(Debug)]
pub(super) enum Message {
    /// The process has ended.
    Ended {
        index: usize,
        run: u64,
        ending: Ending,
    },
    /// A probe has settled or changed.
    Probe {
        index: usize,
        run: u64,
        kind: Kind,
        success: bool,
    },
    /// The postStart hook has failed.
    HookFailed { index: usize, run: u64, why: String },
    /// Time to show that an image is waited for.
    PullBackOff { index: usize },
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) exit_code: i32,
    /// `Completed`, `Error` or `OOMKilled`.
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    pub(super) at: jiff::Timestamp,
    pub(super) ran: Duration,
}

/// A process that is there.
pub(super) struct Run {
    pub(super) id: u64,
    stop: watch::Sender<Option<Instant>>,
    started: watch::Sender<bool>,
    /// Ends the probes with the run.
    _probes: DropGuard,
}

impl Run {
    /// Orders the process to have stopped by `deadline`.
    pub(super) fn stop(&self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
    }

    /// Whether that was ordered.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }

    /// Lets the readiness and liveness probes begin.
    pub(super) fn set_started(&self) {
        self.started.send_replace(true);
    }
}

/// A run that has begun.
pub(super) struct Started {
    pub(super) run: Run,
    pub(super) id: String,
    pub(super) since: jiff::Timestamp,
}

/// A container id: 64 hexadecimal digits.
pub(super) fn new_id() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    half() + &half()
}

/// One hook or probe in a container, for those that are run there.
struct Hook {
    handler: Option<LifecycleHandler>,
    target: Target,
}

impl Hook {
    async fn run(&self) -> Result<(), String> {
        let Some(handler) = &self.handler else {
            return Ok(());
        };
        if let Some(exec) = &handler.exec {
            let launch = Launch {
                argv: exec.command.clone().unwrap_or_default(),
                ..self.target.launch.clone()
            };
            // whoever waits for the hook has a deadline; this is for a hook without end
            let limit = Duration::from_secs(3600);
            let (code, output) = self.target.launcher.run(&launch, limit).await?;
            return if code == 0 {
                Ok(())
            } else {
                Err(format!("command exited with {code}: {output}"))
            };
        }
        if let Some(get) = &handler.http_get {
            return self.target.http_get(get, "kube-lifecycle/1.36").await;
        }
        if let Some(sleep) = &handler.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        Ok(())
    }
}

impl Worker {
    /// Starts the process of a container and everything beside it.
    pub(super) fn spawn(
        &self,
        index: usize,
        spec: &ContainerSpec,
        launch: Launch,
    ) -> Result<Started, String> {
        let (namespace, pod) = self.name();
        let folder = self.folders.container(&spec.name);
        let restarts = self.containers[index].restarts;
        let log = self
            .context
            .logs
            .start_run((&namespace, &pod), &spec.name, &folder, restarts)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let launcher = self.context.launcher.clone();
        let (mut child, streams) = Streams::start(&launcher, &launch, spec)?;
        let pid = child.id().ok_or("the process ended at once")?;
        let since = jiff::Timestamp::now();
        let begun = Instant::now();

        let id = next_run();
        let (stop, order) = watch::channel(None);
        let (started, gate) = watch::channel(spec.startup_probe.is_none());
        let end = CancellationToken::new();
        let target = self.target(spec, &launch, launcher);
        self.watch_probes(index, id, spec, &target, gate, order.clone(), &end);
        self.post_start(index, id, spec, &target, &end);

        let run_id = new_id();
        let pod_ip = self.place.pod_ip;
        let running = Arc::new(Running {
            id: run_id.clone(),
            launch: launch.clone(),
            launcher: target.launcher.clone(),
            pid,
            localhost: [self.context.plan.loopback(pod_ip).unwrap_or(pod_ip), pod_ip],
            input: streams.input,
            output: broadcast::channel(ATTACHED).0,
            end: CancellationToken::new(),
            entered: AtomicBool::new(false),
        });
        let copy = copy_logs(
            log.clone(),
            running.output.clone(),
            streams.terminal,
            child.stdout.take(),
            child.stderr.take(),
        );
        let containers = &self.context.containers;
        let listed = containers.list(&namespace, &pod, &spec.name, running);
        let lifecycle = spec.lifecycle.as_ref();
        let hook = Hook {
            handler: lifecycle.and_then(|l| l.pre_stop.clone()),
            target,
        };
        let message_path = self.message_path(spec);
        let policy = spec.termination_message_policy.as_deref();
        let tells_log = policy == Some("FallbackToLogsOnError");
        let messages = self.messages.clone();
        let memory_limit = memory::limit(spec);
        tokio::spawn(async move {
            let copying = tokio::spawn(copy);
            let (exit_code, reason) = wait(child, pid, order, hook, memory_limit).await;
            // what the process left in its group ends with it, as in a container
            signal_group(pid, Signal::SIGKILL);
            let abort = copying.abort_handle();
            if tokio::time::timeout(LOG_DRAIN, copying).await.is_err() {
                abort.abort();
            }
            log.end();
            drop(listed);
            let ending = Ending {
                exit_code,
                reason,
                message: read_message(message_path)
                    .or_else(|| log.last_words().filter(|_| tells_log && exit_code != 0)),
                at: jiff::Timestamp::now(),
                ran: begun.elapsed(),
            };
            let ended = Message::Ended {
                index,
                run: id,
                ending,
            };
            // the pod's task is gone: nobody to tell
            let _ = messages.send(ended).await;
        });
        Ok(Started {
            run: Run {
                id,
                stop,
                started,
                _probes: end.drop_guard(),
            },
            id: format!("meshdojo://{run_id}"),
            since,
        })
    }

    fn target(&self, spec: &ContainerSpec, launch: &Launch, launcher: Launcher) -> Target {
        let pod_ip = self.place.pod_ip;
        let loopback = self.context.plan.loopback(pod_ip).unwrap_or(pod_ip);
        Target {
            listen_ip: addresses(&self.pod, &spec.name, pod_ip, loopback).listen,
            pod_ip,
            from: self.place.host_ip,
            ports: Target::ports_of(spec),
            launcher,
            launch: launch.clone(),
        }
    }

    #[allow(clippy::too_many_arguments)] // one caller, and each is a different thing
    fn watch_probes(
        &self,
        index: usize,
        run: u64,
        spec: &ContainerSpec,
        target: &Target,
        gate: watch::Receiver<bool>,
        order: StopOrder,
        end: &CancellationToken,
    ) {
        let probes = [
            (Kind::Startup, &spec.startup_probe),
            (Kind::Readiness, &spec.readiness_probe),
            (Kind::Liveness, &spec.liveness_probe),
        ];
        for (kind, probe) in probes {
            let Some(probe) = probe.clone() else { continue };
            let task = ProbeTask {
                index,
                run,
                kind,
                probe,
                target: target.clone(),
                gate: gate.clone(),
                order: order.clone(),
                messages: self.messages.clone(),
                recorder: self.context.recorder.clone(),
                pod: Arc::clone(&self.pod),
                field: self.field_path(index),
            };
            let end = end.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = task.run() => {}
                }
            });
        }
    }

    fn field_path(&self, index: usize) -> String {
        let list = if self.containers[index].role == super::plan::Role::App {
            "containers"
        } else {
            "initContainers"
        };
        format!("spec.{list}{{{}}}", self.containers[index].name)
    }

    fn post_start(
        &self,
        index: usize,
        run: u64,
        spec: &ContainerSpec,
        target: &Target,
        end: &CancellationToken,
    ) {
        let Some(handler) = spec.lifecycle.as_ref().and_then(|l| l.post_start.clone()) else {
            return;
        };
        let hook = Hook {
            handler: Some(handler),
            target: target.clone(),
        };
        let messages = self.messages.clone();
        let end = end.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                () = end.cancelled() => return,
                result = hook.run() => result,
            };
            if let Err(why) = result {
                let why = format!("PostStartHook failed: {why}");
                // as above
                let _ = messages.send(Message::HookFailed { index, run, why }).await;
            }
        });
    }

    fn message_path(&self, spec: &ContainerSpec) -> Option<PathBuf> {
        let path = spec.termination_message_path.as_deref()?;
        let path = self
            .folders
            .root(&spec.name)
            .join(path.trim_start_matches('/'));
        // the folder is there, so that a program can write its last words
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).ok()?;
        }
        // the last run's words are not this one's
        let _ = std::fs::remove_file(&path);
        Some(path)
    }
}

/// Numbers runs, so that a late message of one is not taken for the next one's.
fn next_run() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A container's streams besides the pipes that it writes to.
struct Streams {
    input: Option<mpsc::Sender<Input>>,
    terminal: Option<Terminal>,
}

impl Streams {
    /// Starts a container's process with the streams that its spec asks for.
    fn start(
        launcher: &Launcher,
        launch: &Launch,
        spec: &ContainerSpec,
    ) -> Result<(Child, Self), String> {
        let takes_input = spec.stdin == Some(true);
        let (sender, input) = mpsc::channel(16);
        if spec.tty == Some(true) {
            let opened = Terminal::open();
            let (terminal, theirs) = opened.map_err(|e| format!("opening a terminal: {e}"))?;
            let child = launcher.spawn_on(launch, theirs)?;
            tokio::spawn(exec::type_in(terminal.clone(), input));
            let streams = Streams {
                // without `stdin` only its size can be told
                input: Some(sender),
                terminal: Some(terminal),
            };
            return Ok((child, streams));
        }
        let mut child = launcher.spawn(launch, takes_input)?;
        if let Some(pipe) = child.stdin.take() {
            tokio::spawn(exec::write(pipe, input));
        }
        let streams = Streams {
            input: takes_input.then_some(sender),
            terminal: None,
        };
        Ok((child, streams))
    }
}

async fn copy_logs(
    log: LogWriter,
    attached: broadcast::Sender<(Output, Bytes)>,
    terminal: Option<Terminal>,
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<tokio::process::ChildStderr>,
) {
    let tell = |stream: Output| {
        let attached = &attached;
        move |piece: &[u8]| {
            if attached.receiver_count() > 0 {
                // the last one has just left
                let _ = attached.send((stream, Bytes::copy_from_slice(piece)));
            }
        }
    };
    let out = async {
        if let Some(pipe) = stdout {
            log.copy("stdout", pipe, tell(Output::Stdout)).await;
        }
        if let Some(terminal) = terminal {
            log.copy("stdout", terminal, tell(Output::Stdout)).await;
        }
    };
    let err = async {
        if let Some(pipe) = stderr {
            log.copy("stderr", pipe, tell(Output::Stderr)).await;
        }
    };
    tokio::join!(out, err);
}

/// The exit code, and why it ended.
async fn wait(
    mut child: Child,
    pid: u32,
    order: StopOrder,
    hook: Hook,
    memory_limit: Option<u64>,
) -> (i32, &'static str) {
    let hook = async {
        if let Err(why) = hook.run().await {
            tracing::info!(pid, why, "preStop hook failed");
        }
    };
    let stopping = stop_when_ordered(order, pid, hook);
    let mut exceeded = false;
    let killing = async {
        memory::exceeded(pid, memory_limit).await;
        exceeded = true;
        signal_group(pid, Signal::SIGKILL);
    };
    let waiting = child.wait();
    let mut waiting = std::pin::pin!(waiting);
    let status = tokio::select! {
        status = &mut waiting => status,
        () = stopping => waiting.await,
        () = killing => waiting.await,
    };
    // an error means that somebody else has reaped it: the code is not known
    let exit_code = status.map_or(255, exit_code);
    (exit_code, memory::reason(exit_code, exceeded))
}

fn read_message(path: Option<PathBuf>) -> Option<String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path?)
        .ok()?
        .take(MESSAGE as u64)
        .read_to_end(&mut text)
        .ok()?;
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

struct ProbeTask {
    index: usize,
    run: u64,
    kind: Kind,
    probe: Probe,
    target: Target,
    gate: watch::Receiver<bool>,
    order: StopOrder,
    messages: mpsc::Sender<Message>,
    recorder: Recorder,
    pod: Arc<Pod>,
    field: String,
}

impl ProbeTask {
    async fn run(mut self) {
        if self.kind != Kind::Startup && self.gate.wait_for(|s| *s).await.is_err() {
            return;
        }
        let (reports, mut incoming) = mpsc::channel(8);
        let kind = self.kind;
        let probing = probe::watch(kind, &self.probe, &self.target, |report| {
            // a pod that does not listen misses a repetition, not the next verdict
            let _ = reports.try_send(report);
        });
        let mut probing = std::pin::pin!(probing);
        let mut probing_ended = false;
        let mut order = self.order;
        let stopped = async move {
            // an error means that the run is over
            let _ = order.wait_for(Option::is_some).await;
        };
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut probing, if !probing_ended => probing_ended = true,
                Some(report) = incoming.recv() => {
                    let success = match report {
                        Report::Failure(why) => {
                            let text = format!("{} probe failed: {why}", kind.title());
                            self.recorder.record_field(
                                self.pod.as_ref(),
                                Some(self.field.clone()),
                                EventType::Warning,
                                "Unhealthy",
                                text,
                            );
                            continue;
                        }
                        Report::Verdict(success) => success,
                    };
                    // the pod is gone
                    let message = Message::Probe {
                        index: self.index,
                        run: self.run,
                        kind,
                        success,
                    };
                    if self.messages.send(message).await.is_err() {
                        return;
                    }
                }
                // being stopped: what it answers from now on says nothing
                () = &mut stopped => return,
            }
            if probing_ended && incoming.is_empty() {
                return;
            }
        }
    }
}
