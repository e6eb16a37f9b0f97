//! Ports that an ordinary user may not listen on.
//!
//! A container has a network of its own on a real cluster and may listen on port 80 there. Here it
//! is a process of the user's. So a port below the lowest that the user may have is mapped to one
//! [`SHIFT`] higher: programs of ours listen there (they are told [`LOWEST_PORT`]), and so do
//! EndpointSlices, probes and doors lead there. Manifests, and what `kubectl get` shows of Pods and
//! Services, stay as they are.

use k8s_openapi::api::core::v1::Container;
use std::sync::OnceLock;

/// The variable that tells a container the lowest port that it may listen on. In the environment
/// of the cluster itself it goes over what the kernel says.
pub const LOWEST_PORT: &str = "DOJO_LOWEST_PORT";
/// How much higher a port is that stands for one below the lowest.
pub const SHIFT: u16 = 10_000;

/// The lowest port that processes of this user may listen on: 0 for root, else what the kernel is
/// set to, 1024 mostly.
pub fn lowest_port() -> u16 {
    static LOWEST: OnceLock<u16> = OnceLock::new();
    *LOWEST.get_or_init(|| {
        let told = std::env::var(LOWEST_PORT).ok();
        if let Some(lowest) = told.and_then(|text| text.trim().parse().ok()) {
            return lowest;
        }
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

/// The port that a program which wants `port` listens on.
pub fn bindable(port: u16) -> u16 {
    mapped(port, lowest_port())
}

fn mapped(port: u16, lowest: u16) -> u16 {
    if port > 0 && port < lowest {
        port.saturating_add(SHIFT)
    } else {
        port
    }
}

/// What to tell of a container that declares a port below `lowest`; `None` when it has none.
pub fn notice(container: &Container, lowest: u16) -> Option<String> {
    let ports = container.ports.iter().flatten();
    let mut ports = ports.filter_map(|port| u16::try_from(port.container_port).ok());
    let port = ports.find(|port| mapped(*port, lowest) != *port)?;
    Some(format!(
        "port {port} of container {} needs a privilege that you do not have and is served on {} instead; a program of your own \
         has to listen there, or allow it the port with: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
        container.name,
        mapped(port, lowest)
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
        assert_eq!(notice(&container(&[8080, 1024]), 1024), None);
        assert_eq!(notice(&container(&[80]), 0), None);
        let told = notice(&container(&[8080, 80]), 1024).unwrap();
        assert!(
            told.starts_with("port 80 of container web") && told.contains("on 10080"),
            "{told}"
        );
    }

    #[test]
    fn ports_below_the_lowest_are_mapped() {
        let ports = [0, 80, 1023, 1024, 8080];
        assert_eq!(
            ports.map(|port| mapped(port, 1024)),
            [0, 10_080, 11_023, 1024, 8080]
        );
        assert_eq!(ports.map(|port| mapped(port, 0)), ports);
    }
}
