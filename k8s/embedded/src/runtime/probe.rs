//! Probes: whether a container has started, is ready, is alive.
//!
//! A probe that has not succeeded yet is tried every 100 ms at first, so that a pod is ready as
//! soon as its program is; after [`EAGER`] and after the first success it keeps to its period.
//! What counts against the failure threshold is time: one failure per period, however often it
//! was tried.

use super::privilege::bindable;
use super::process::{Launch, Launcher};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// Pause between tries before the first success.
const EAGER_PAUSE: Duration = Duration::from_millis(100);
/// How long a probe is tried eagerly.
pub const EAGER: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has it started?
    Startup,
    /// May it be sent requests?
    Readiness,
    /// Does it have to be restarted?
    Liveness,
}

impl Kind {
    /// The word in events.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

fn seconds(n: Option<i32>, default: u64, least: u64) -> Duration {
    let n = n.and_then(|n| u64::try_from(n).ok()).unwrap_or(default);
    Duration::from_secs(n.max(least))
}

fn threshold(n: Option<i32>, default: u32) -> u32 {
    n.and_then(|n| u32::try_from(n).ok())
        .unwrap_or(default)
        .max(1)
}

/// The verdict over a row of answers.
#[derive(Debug, Clone)]
pub struct Verdict {
    success: u32,
    failure: u32,
    row: (bool, u32),
    verdict: Option<bool>,
}

impl Verdict {
    /// The verdict of a probe that has not been tried.
    pub fn new(probe: &Probe) -> Self {
        Self {
            success: threshold(probe.success_threshold, 1),
            failure: threshold(probe.failure_threshold, 3),
            row: (false, 0),
            verdict: None,
        }
    }

    /// Takes an answer; returns the verdict when this one settles or changes it. A failed verdict
    /// is repeated with each further failure, since the container may have been spared so far.
    pub fn take(&mut self, success: bool) -> Option<bool> {
        self.row = match self.row {
            (same, n) if same == success => (same, n.saturating_add(1)),
            _ => (success, 1),
        };
        let needed = if success { self.success } else { self.failure };
        if self.row.1 < needed || (self.verdict == Some(success) && success) {
            return None;
        }
        let changed = self.verdict != Some(success);
        self.verdict = Some(success);
        (changed || !success).then_some(success)
    }

    fn has_succeeded(&self) -> bool {
        self.verdict == Some(true)
    }
}

/// Where and how a container is probed.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the container listens.
    pub listen_ip: Ipv4Addr,
    /// The pod's address, for ports that are not the container's own.
    pub pod_ip: Ipv4Addr,
    /// Where probes come from.
    pub from: Ipv4Addr,
    /// Its ports by name.
    pub ports: Vec<(String, u16)>,
    /// How commands are run in it.
    pub launcher: Launcher,
    /// Its environment and folder.
    pub launch: Launch,
}

impl Target {
    /// Named ports of a container.
    pub fn ports_of(container: &Container) -> Vec<(String, u16)> {
        container
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let number = u16::try_from(p.container_port).ok()?;
                Some((p.name.clone().unwrap_or_default(), number))
            })
            .collect()
    }

    fn address(&self, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
        let number = match port {
            IntOrString::Int(n) => u16::try_from(*n).map_err(|_| format!("invalid port {n}"))?,
            IntOrString::String(name) => self
                .ports
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, port)| *port)
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("couldn't find port {name:?} in the container"))?,
        };
        let ip = match host.filter(|h| !h.is_empty()) {
            // in a pod with a door the container listens behind it, and the kubelet asks the
            // container itself; a port that is not its own is the pod's (a sidecar's agent)
            None | Some("localhost" | "127.0.0.1")
                if self.ports.iter().any(|(_, own)| *own == number) =>
            {
                self.listen_ip
            }
            None => self.pod_ip,
            Some("localhost" | "127.0.0.1") => self.listen_ip,
            Some(host) => host
                .parse()
                .map_err(|_| format!("probe host {host:?} is not an IPv4 address"))?,
        };
        Ok(SocketAddr::new(IpAddr::V4(ip), bindable(number)))
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let refused = |error: std::io::Error| {
            let why = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                _ => error.to_string(),
            };
            format!("dial tcp {address}: connect: {why}")
        };
        let socket = TcpSocket::new_v4().map_err(refused)?;
        socket
            .bind(SocketAddr::new(IpAddr::V4(self.from), 0))
            .map_err(refused)?;
        socket.connect(address).await.map_err(refused)
    }

    /// Sends an HTTP request as the kubelet does; fails unless the answer is 2xx or 3xx.
    ///
    /// # Errors
    /// The kubelet's words.
    pub async fn http_get(&self, get: &HTTPGetAction, agent: &str) -> Result<(), String> {
        let address = self.address(get.host.as_deref(), &get.port)?;
        let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
        let url = format!("http://{address}{path}");
        let failed = |why: String| format!("Get {url:?}: {why}");
        if get.scheme.as_deref() == Some("HTTPS") {
            return Err(
                "HTTPS probes are not supported by this cluster: use HTTP, tcpSocket or exec"
                    .into(),
            );
        }
        let mut stream = self.connect(address).await.map_err(failed)?;
        let mut host = address.to_string();
        let mut extra = String::new();
        for header in get.http_headers.iter().flatten() {
            let clean = |s: &str| s.replace(['\r', '\n'], " ");
            if header.name.eq_ignore_ascii_case("host") {
                host = clean(&header.value);
            } else {
                extra.push_str(&format!(
                    "{}: {}\r\n",
                    clean(&header.name),
                    clean(&header.value)
                ));
            }
        }
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{extra}Connection: close\r\n\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
        // enough for the status line, "HTTP/1.1 200"
        let mut head = [0; 12];
        stream
            .read_exact(&mut head)
            .await
            .map_err(|_| failed("EOF".into()))?;
        let code = std::str::from_utf8(&head)
            .ok()
            .and_then(|h| h.strip_prefix("HTTP/1.")?.get(2..)?.parse::<u16>().ok())
            .ok_or_else(|| failed("malformed HTTP response".into()))?;
        // the rest is read, within bounds, so that the server does not see a reset
        let mut rest = [0; 2048];
        for _ in 0..8 {
            match stream.read(&mut rest).await {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
        if (200..400).contains(&code) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {code}"))
        }
    }

    async fn try_once(&self, probe: &Probe, limit: Duration) -> Result<(), String> {
        if let Some(get) = &probe.http_get {
            return self.http_get(get, "kube-probe/1.36").await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let address = self.address(tcp.host.as_deref(), &tcp.port)?;
            return self.connect(address).await.map(|_| ());
        }
        if let Some(exec) = &probe.exec {
            let launch = Launch {
                argv: exec.command.clone().unwrap_or_default(),
                ..self.launch.clone()
            };
            let (code, output) = self.launcher.run(&launch, limit).await?;
            return if code == 0 { Ok(()) } else { Err(output) };
        }
        Err("gRPC probes are not supported by this cluster: use httpGet, tcpSocket or exec".into())
    }
}

/// One answer of a probe that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It failed; to be told in an event.
    Failure(String),
    /// The verdict is settled or has changed.
    Verdict(bool),
}

/// Probes until dropped, or, for a startup probe, until it has succeeded.
pub async fn watch(kind: Kind, probe: &Probe, target: &Target, mut report: impl FnMut(Report)) {
    let period = seconds(probe.period_seconds, 10, 1);
    let limit = seconds(probe.timeout_seconds, 1, 1);
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0, 0)).await;
    let begun = Instant::now();
    let mut counted = begun;
    let mut verdict = Verdict::new(probe);
    loop {
        let result = tokio::time::timeout(limit, target.try_once(probe, limit))
            .await
            .unwrap_or_else(|_| Err(format!("command or request timed out after {limit:?}")));
        let eager = kind != Kind::Liveness
            && !verdict.has_succeeded()
            && begun.elapsed() < EAGER.min(period * threshold(probe.failure_threshold, 3));
        match result {
            Ok(()) => {
                if verdict.take(true) == Some(true) {
                    report(Report::Verdict(true));
                    if kind == Kind::Startup {
                        return;
                    }
                }
            }
            Err(message) => {
                if !eager || counted.elapsed() >= period {
                    counted = Instant::now();
                    let verdict = verdict.take(false);
                    report(Report::Failure(message));
                    if verdict == Some(false) {
                        report(Report::Verdict(false));
                    }
                }
            }
        }
        let eager = eager && !verdict.has_succeeded();
        tokio::time::sleep(if eager { EAGER_PAUSE } else { period }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(success: i32, failure: i32) -> Verdict {
        Verdict::new(&Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            ..Probe::default()
        })
    }

    #[test]
    fn thresholds_count_rows() {
        let mut v = verdict(1, 3);
        assert_eq!(v.take(false), None);
        assert_eq!(v.take(true), Some(true));
        assert_eq!(v.take(true), None);
        assert_eq!(v.take(false), None);
        assert_eq!(v.take(false), None);
        assert_eq!(v.take(true), None);
        assert_eq!(
            (v.take(false), v.take(false), v.take(false)),
            (None, None, Some(false))
        );
        assert_eq!(v.take(true), Some(true));
        let mut v = verdict(2, 1);
        assert_eq!((v.take(true), v.take(true)), (None, Some(true)));
    }

    fn target(port: u16) -> Target {
        Target {
            listen_ip: Ipv4Addr::LOCALHOST,
            pod_ip: Ipv4Addr::LOCALHOST,
            from: Ipv4Addr::LOCALHOST,
            ports: vec![("http".into(), port)],
            launcher: Launcher {
                program: "/nonexistent".into(),
            },
            launch: Launch {
                argv: Vec::new(),
                env: Default::default(),
                dir: "/".into(),
                programs: Default::default(),
            },
        }
    }

    #[tokio::test]
    async fn http_status_decides() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for code in ["204 No Content", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let n = stream.read(&mut buffer).await.unwrap();
                assert!(buffer[..n].starts_with(b"GET /ready HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 {code}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let probe = Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/ready".into()),
                port: IntOrString::String("http".into()),
                ..HTTPGetAction::default()
            }),
            ..Probe::default()
        };
        let target = target(port);
        let limit = Duration::from_secs(5);
        assert_eq!(target.try_once(&probe, limit).await, Ok(()));
        assert_eq!(
            target.try_once(&probe, limit).await.unwrap_err(),
            "HTTP probe failed with statuscode: 503"
        );
    }

    #[test]
    fn a_port_that_is_not_the_containers_own_is_the_pods() {
        let target = Target {
            listen_ip: Ipv4Addr::new(127, 20, 192, 2),
            pod_ip: Ipv4Addr::new(127, 20, 0, 2),
            ..target(9080)
        };
        let at = |port: i32| {
            target
                .address(None, &IntOrString::Int(port))
                .unwrap()
                .to_string()
        };
        assert_eq!(at(9080), "127.20.192.2:9080");
        assert_eq!(at(15020), "127.20.0.2:15020");
    }
}
