//! What happens to containers that were started: probes, ends, and stopping them.

use super::{Worker, policy};
use crate::controllers::events::EventType;
use crate::runtime::plan::{State, Termination, book_end};
use crate::runtime::probe::Kind;
use crate::runtime::run::{Ending, Message};
use std::time::Duration;
use tokio::time::Instant;

impl Worker {
    pub(super) fn stop(&mut self, index: usize) {
        let deadline = self
            .deadline
            .unwrap_or_else(|| Instant::now() + self.grace());
        let name = self.containers[index].name.clone();
        self.tell(
            index,
            EventType::Normal,
            "Killing",
            format!("Stopping container {name}"),
        );
        self.containers[index].stopping = true;
        if let Some(run) = &self.runs[index] {
            run.stop(deadline);
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self.spec.termination_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(30))
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Ended { index, run, ending } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.runs[index] = None;
                self.ended(index, ending);
            }
            Message::Probe {
                index,
                run,
                kind,
                success,
            } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.probed(index, kind, success);
            }
            Message::HookFailed { index, run, why } => {
                if self.runs[index].as_ref().is_none_or(|r| r.id != run) {
                    return;
                }
                self.tell(index, EventType::Warning, "FailedPostStartHook", why);
                self.restart(index, "FailedPostStartHook");
            }
            Message::PullBackOff { index } => {
                let image = self
                    .spec_of(index)
                    .and_then(|s| s.image.clone())
                    .unwrap_or_default();
                let State::Waiting { reason, message } = &self.containers[index].state else {
                    return;
                };
                if reason != "ErrImagePull" {
                    return;
                }
                let why = message.clone().unwrap_or_default();
                self.tell(
                    index,
                    EventType::Normal,
                    "BackOff",
                    format!("Back-off pulling image {image:?}"),
                );
                let text = "Error: ImagePullBackOff".to_owned();
                self.tell(index, EventType::Warning, "Failed", text);
                self.containers[index].state = State::Waiting {
                    reason: "ImagePullBackOff".into(),
                    message: Some(format!(
                        "Back-off pulling image {image:?}: ErrImagePull: {why}"
                    )),
                };
                let (namespace, pod) = self.name();
                let name = self.containers[index].name.clone();
                self.context
                    .logs
                    .note_waiting((&namespace, &pod), &name, "ImagePullBackOff");
            }
        }
    }

    fn ended(&mut self, index: usize, ending: Ending) {
        let policy = policy(&self.spec);
        let container = &mut self.containers[index];
        let since = match container.state {
            State::Running { since } => since,
            _ => ending.at,
        };
        let termination = Termination {
            exit_code: ending.exit_code,
            reason: ending.reason.into(),
            message: ending.message,
            started_at: since,
            finished_at: ending.at,
            container_id: container.container_id.clone(),
        };
        let now = std::time::Instant::now();
        book_end(container, policy, termination, ending.ran, now);
    }

    fn probed(&mut self, index: usize, kind: Kind, success: bool) {
        match (kind, success) {
            (Kind::Startup, true) => {
                let plain = self
                    .spec_of(index)
                    .is_none_or(|s| s.readiness_probe.is_none());
                self.containers[index].started = true;
                self.containers[index].ready |= plain;
                if let Some(run) = &self.runs[index] {
                    run.set_started();
                }
            }
            (Kind::Readiness, ready) => self.containers[index].ready = ready,
            (Kind::Liveness, true) => {}
            (Kind::Startup, false) => self.restart(index, "startup"),
            (Kind::Liveness, false) => self.restart(index, "liveness"),
        }
    }

    /// Stops a container because of a probe or hook; its end restarts it.
    fn restart(&mut self, index: usize, probe: &str) {
        if self.containers[index].stopping {
            return;
        }
        let name = self.containers[index].name.clone();
        let message = if probe == "FailedPostStartHook" {
            probe.to_owned()
        } else {
            format!("Container {name} failed {probe} probe, will be restarted")
        };
        self.tell(index, EventType::Normal, "Killing", message);
        self.containers[index].stopping = true;
        let deadline = Instant::now() + self.grace();
        if let Some(run) = &self.runs[index] {
            run.stop(deadline);
        }
    }

    /// Stops every process within `grace`.
    pub(super) async fn kill_all(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for run in self.runs.iter().flatten() {
            run.stop(deadline);
        }
        let last = deadline + Duration::from_secs(1);
        while self.runs.iter().any(Option::is_some) {
            match tokio::time::timeout_at(last, self.incoming.recv()).await {
                Ok(Some(message)) => self.take(message),
                _ => break,
            }
        }
    }
}
