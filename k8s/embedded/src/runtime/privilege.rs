//! Ports that an ordinary user may not listen on.
//!
//! A container has a network of its own on a real cluster and may listen on port 80 there. Here it
//! is a process of the user's. One that will fail for that is told so before it does.

use k8s_openapi::api::core::v1::Container;
use std::sync::OnceLock;

/// The lowest port that processes of this user may listen on: 0 for root, else what the kernel is
/// set to, 1024 mostly.
pub fn lowest_port() -> u16 {
    static LOWEST: OnceLock<u16> = OnceLock::new();
    *LOWEST.get_or_init(|| {
        if nix::unistd::Uid::effective().is_root() {
            return 0;
        }
        let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        setting
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1024)
    })
}

/// What to tell of a container that declares a port below `lowest`; `None` when it has none.
pub fn warning(container: &Container, lowest: u16) -> Option<String> {
    let mut ports = container
        .ports
        .iter()
        .flatten()
        .map(|port| port.container_port);
    let port = ports.find(|port| *port < i32::from(lowest))?;
    Some(format!(
        "port {port} of container {} needs a privilege that you do not have: let the program listen on {lowest} or above \
         and the Service's targetPort name that, or allow it with: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
        container.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerPort;

    fn container(ports: &[i32]) -> Container {
        let port = |port: &i32| ContainerPort {
            container_port: *port,
            ..ContainerPort::default()
        };
        Container {
            name: "web".into(),
            ports: Some(ports.iter().map(port).collect()),
            ..Container::default()
        }
    }

    #[test]
    fn only_ports_below_the_lowest_are_told() {
        assert_eq!(warning(&container(&[8080, 1024]), 1024), None);
        assert_eq!(warning(&container(&[80]), 0), None);
        let told = warning(&container(&[8080, 80]), 1024).unwrap();
        assert!(
            told.starts_with("port 80 of container web") && told.contains("=80"),
            "{told}"
        );
    }
}
