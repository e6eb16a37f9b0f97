//! A pod's containers when its task begins.

use crate::runtime::plan::{Container, Role, Termination};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, PodSpec};

fn role(container: &ContainerSpec) -> Role {
    if container.restart_policy.as_deref() == Some("Always") {
        Role::Sidecar
    } else {
        Role::Init
    }
}

/// The containers of a pod in the plan's order, with what an earlier cluster process has left in
/// the status: restarts are counted on, and what was running then has ended in an unknown way, as
/// after a reboot of a node.
pub(super) fn restore(pod: &Pod, spec: &PodSpec) -> Vec<Container> {
    let initializing = spec.init_containers.as_ref().is_some_and(|i| !i.is_empty());
    let mut containers: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| Container::new(&c.name, role(c), true))
        .chain(
            spec.containers
                .iter()
                .map(|c| Container::new(&c.name, Role::App, initializing)),
        )
        .collect();
    let Some(status) = &pod.status else {
        return containers;
    };
    let statuses = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten());
    for old in statuses {
        let Some(container) = containers.iter_mut().find(|c| c.name == old.name) else {
            continue;
        };
        let Some(id) = &old.container_id else {
            continue;
        };
        let ended = old.state.as_ref().and_then(|s| s.terminated.as_ref());
        let running = old.state.as_ref().and_then(|s| s.running.as_ref());
        container.restarts = old.restart_count + 1;
        let epoch = jiff::Timestamp::UNIX_EPOCH;
        container.last = Some(Termination {
            exit_code: ended.map_or(255, |t| t.exit_code),
            reason: ended
                .and_then(|t| t.reason.clone())
                .unwrap_or_else(|| "Unknown".into()),
            message: ended.and_then(|t| t.message.clone()),
            started_at: ended
                .and_then(|t| t.started_at.as_ref())
                .or_else(|| running.and_then(|r| r.started_at.as_ref()))
                .map_or(epoch, |t| t.0),
            finished_at: ended
                .and_then(|t| t.finished_at.as_ref())
                .map_or_else(jiff::Timestamp::now, |t| t.0),
            container_id: Some(id.clone()),
        });
    }
    containers
}
