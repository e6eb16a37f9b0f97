//! Starting a container, and what is shown when that is not possible.

use super::{Worker, policy};
use crate::controllers::events::EventType;
use crate::informers::uid_of;
use crate::runtime::launch::{self, Refusal};
use crate::runtime::plan::{State, Termination, book_end};
use crate::runtime::run::{Message, Started, new_id};
use crate::runtime::{backoff, privilege};
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

impl Worker {
    pub(super) async fn start(&mut self, index: usize) {
        let Some(spec) = self.spec_of(index).cloned() else {
            return;
        };
        let image = spec.image.clone().unwrap_or_default();
        let context = Arc::clone(&self.context);
        let prepared =
            launch::prepare(&context, &self.pod, &spec, &self.place, &self.folders).await;
        let launch = match prepared {
            Ok(launch) => launch,
            Err(refusal) => return self.refuse(index, refusal),
        };
        self.tell(
            index,
            EventType::Normal,
            "Pulled",
            format!("Container image {image:?} already present on machine and can be accessed by the pod"),
        );
        self.tell(
            index,
            EventType::Normal,
            "Created",
            "Container created".into(),
        );
        if let Some(notice) = privilege::notice(&spec, privilege::lowest_port()) {
            self.tell(index, EventType::Normal, "PortMapped", notice);
        }
        let again = {
            let container = &mut self.containers[index];
            let last = match &container.state {
                State::Terminated(t) => Some(t.clone()),
                _ => None,
            };
            let again = last.is_some() || container.last.is_some();
            if let Some(last) = last {
                container.last = Some(last);
            }
            // a restart is counted when it is tried; a restored container was counted when found
            if again && container.ended.is_some() {
                container.restarts += 1;
            }
            again
        };
        tracing::debug!(
            pod = self.pod.name_any(),
            container = spec.name,
            again,
            "starting"
        );
        match self.spawn(index, &spec, launch) {
            Ok(Started { run, id, since }) => {
                self.tell(
                    index,
                    EventType::Normal,
                    "Started",
                    "Container started".into(),
                );
                let container = &mut self.containers[index];
                container.container_id = Some(id);
                container.state = State::Running { since };
                container.started = spec.startup_probe.is_none();
                container.ready = container.started && spec.readiness_probe.is_none();
                container.not_before = None;
                self.runs[index] = Some(run);
            }
            Err(message) => self.failed_to_start(index, message),
        }
    }

    fn failed_to_start(&mut self, index: usize, message: String) {
        self.tell(
            index,
            EventType::Warning,
            "Failed",
            format!("Error: {message}"),
        );
        let now = std::time::Instant::now();
        let policy = policy(&self.spec);
        let container = &mut self.containers[index];
        let id = format!("meshdojo://{}", new_id());
        container.container_id = Some(id.clone());
        let termination = Termination {
            exit_code: 128,
            reason: "StartError".into(),
            message: Some(message.clone()),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: jiff::Timestamp::now(),
            container_id: Some(id),
        };
        book_end(container, policy, termination.clone(), Duration::ZERO, now);
        if !container.is_over(policy) {
            container.state = State::Waiting {
                reason: "RunContainerError".into(),
                message: Some(message),
            };
            container.last = Some(termination);
        }
    }

    /// A container that could not even be tried: shown as waiting, and looked at again later.
    fn refuse(&mut self, index: usize, refusal: Refusal) {
        let pause = |failures: u32| backoff::delay(failures + 1);
        let failures = self.containers[index].failures;
        let image = |name: &str, absent: Option<String>| {
            let why = absent.unwrap_or_else(|| "it is not in the image catalogue".to_owned());
            format!(
                "image {name:?}: {why}; map it to a host command with: \
                 meshdojo image map {name} -- COMMAND [ARG...]"
            )
        };
        let (reason, message, delay) = match refusal {
            Refusal::InvalidImage(message) => {
                self.tell(index, EventType::Warning, "InspectFailed", message.clone());
                let event = "Error: InvalidImageName".to_owned();
                self.tell(index, EventType::Warning, "Failed", event);
                ("InvalidImageName", message, pause(failures))
            }
            Refusal::UnknownImage(name, absent) => {
                let never = self
                    .spec_of(index)
                    .and_then(|s| s.image_pull_policy.as_deref())
                    == Some("Never");
                let why = image(&name, absent);
                if never {
                    let message = format!(
                        "Container image {name:?} is not present with pull policy of Never; {why}"
                    );
                    self.tell(
                        index,
                        EventType::Warning,
                        "ErrImageNeverPull",
                        message.clone(),
                    );
                    ("ErrImageNeverPull", message, pause(failures))
                } else {
                    let text = format!("Pulling image {name:?}");
                    self.tell(index, EventType::Normal, "Pulling", text);
                    let text = format!("Failed to pull image {name:?}: {why}");
                    self.tell(index, EventType::Warning, "Failed", text);
                    let text = "Error: ErrImagePull".to_owned();
                    self.tell(index, EventType::Warning, "Failed", text);
                    ("ErrImagePull", why, pause(failures))
                }
            }
            Refusal::Config(message) => {
                let text = format!("Error: {message}");
                self.tell(index, EventType::Warning, "Failed", text);
                // what is missing may be created any moment
                let delay = Duration::from_secs(1 << failures.min(4));
                ("CreateContainerConfigError", message, delay)
            }
        };
        let now = std::time::Instant::now();
        let key = self.name();
        let container = &mut self.containers[index];
        container.failures += 1;
        container.not_before = Some(now + delay);
        container.state = State::Waiting {
            reason: reason.into(),
            message: Some(message),
        };
        let logs = &self.context.logs;
        logs.note_waiting((&key.0, &key.1), &self.containers[index].name, reason);
        if reason == "ErrImagePull" {
            self.show_pull_back_off(index);
        }
    }

    /// After a moment an image that cannot be had is shown to be waited for.
    fn show_pull_back_off(&self, index: usize) {
        let messages = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            // the pod is gone: nobody to show it to
            let _ = messages.send(Message::PullBackOff { index }).await;
        });
    }

    pub(super) fn back_off(&mut self, index: usize) {
        let (namespace, pod) = self.name();
        let uid = uid_of(self.pod.as_ref());
        let container = &mut self.containers[index];
        let State::Terminated(termination) = &container.state else {
            return;
        };
        let name = container.name.clone();
        let seconds = backoff::delay(container.failures.saturating_sub(1)).as_secs();
        let shown = if seconds >= 60 && seconds.is_multiple_of(60) {
            format!("{}m0s", seconds / 60)
        } else if seconds > 60 {
            format!("{}m{}s", seconds / 60, seconds % 60)
        } else {
            format!("{seconds}s")
        };
        container.last = Some(termination.clone());
        container.state = State::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: Some(format!(
                "back-off {shown} restarting failed container={name} pod={pod}_{namespace}({uid})"
            )),
        };
        self.tell(
            index,
            EventType::Warning,
            "BackOff",
            format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"),
        );
    }
}
