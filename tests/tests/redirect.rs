//! The kernel's redirection as on a real cluster: pods are network namespaces, `istio-iptables` sets
//! the rules, sidecars get the configuration that the control plane compiles.

use std::{
    net::IpAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dojo_tests::{
    dojo,
    namespaces::{As, Network, Pod},
};
use mesh_config::{Interception, ProxyId, Role};
use mesh_control::{compile::Compiler, world::World};
use serde_json::{Value, json};

/// The sidecar's user, and a workload's.
const PROXY: u32 = 1337;
const WORKLOAD: u32 = 1000;

/// Seconds that a request may take.
const PATIENCE: &str = "60";

/// Addresses of services: of no pod, so that only the sidecar can lead from them to one.
const WEB: &str = "10.98.0.1";
const MAIL: &str = "10.98.0.2";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two pods with sidecars and one without.
struct Mesh {
    client: Pod,
    server: Pod,
    stranger: Pod,
    _network: Network,
    _running: Vec<Running>,
    _files: tempfile::TempDir,
}

/// Services `web` (HTTP), `mail` (the server speaks first) and `headless` (TCP) on the pod `server`;
/// `client` and `server` in the mesh.
fn world(client: &Pod, server: &Pod) -> anyhow::Result<World> {
    let mut world = World::default();
    for (name, pod) in [("client", client), ("server", server)] {
        world.insert(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
            "spec": {
                "initContainers": [{ "name": "istio-proxy", "restartPolicy": "Always" }],
                "containers": [{ "name": name }],
            },
            "status": { "podIP": pod.v4, "phase": "Running" },
        }))?;
    }
    // A permissive port would wait for what the client says first.
    world.insert(&json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "mail", "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": "server" } },
            "portLevelMtls": { "2525": { "mode": "DISABLE" } },
        },
    }))?;
    for (name, address, port, port_name, target) in [
        ("web", WEB, 80, "http", 8080),
        ("mail", MAIL, 25, "tcp-mail", 2525),
        ("headless", "None", 9000, "tcp-echo", 9000),
    ] {
        let port = json!({ "name": port_name, "port": port, "targetPort": target });
        world.insert(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "clusterIP": address, "selector": { "app": "server" }, "ports": [port] },
        }))?;
        world.insert(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "default", "labels": { "kubernetes.io/service-name": name } },
            "addressType": "IPv4",
            "ports": [{ "name": port["name"], "port": target }],
            "endpoints": [{
                "addresses": [server.v4], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": "server" },
            }],
        }))?;
    }
    Ok(world)
}

impl Mesh {
    fn start(way: As) -> anyhow::Result<Self> {
        let mut network = Network::new(way)?;
        let (client, server, stranger) = (network.pod()?, network.pod()?, network.pod()?);
        let compiler = Compiler::new(Arc::new(world(&client, &server)?), 1);
        let files = tempfile::tempdir()?;
        let mut running = Vec::new();
        let mut start = |pod: &Pod, user, arguments: &[&str]| -> anyhow::Result<()> {
            let mut command = pod.command(user, dojo::binary());
            command.args(arguments).env("DOJO_LISTEN_IP", "::");
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            running.push(Running(quiet.spawn()?));
            Ok(())
        };
        for (name, pod) in [("client", &client), ("server", &server)] {
            redirect(pod, &[])?;
            let identity = ProxyId {
                role: Role::Sidecar,
                pod: name.into(),
                namespace: "default".into(),
                address: pod.v4.parse::<IpAddr>()?,
                interception: Interception::Redirect,
            };
            let snapshot = compiler.snapshot(&identity).context("the pod is known")?;
            let file = files.path().join(format!("{name}.json"));
            std::fs::write(&file, serde_json::to_vec(&snapshot)?)?;
            let line = format!(
                "proxy sidecar --pod-name {name} --address {} --config {}",
                pod.v4,
                file.display()
            );
            start(pod, PROXY, &line.split(' ').collect::<Vec<_>>())?;
        }
        let httpbin = ["service", "httpbin", "--listen-port", "8080"];
        for pod in [&client, &server, &stranger] {
            start(pod, WORKLOAD, &httpbin)?;
        }
        let echo = ["service", "tcp-echo", "9000", "echoed"];
        start(&server, WORKLOAD, &echo)?;
        let greeter = [
            "service",
            "tcp-echo",
            "2525",
            "mailed",
            "--greeting",
            "220 ready",
        ];
        start(&server, WORKLOAD, &greeter)?;
        let mesh = Self {
            client,
            server,
            stranger,
            _network: network,
            _running: running,
            _files: files,
        };
        mesh.await_ports()?;
        Ok(mesh)
    }

    /// Until everything listens. From the pod itself as root, so that no sidecar takes part.
    fn await_ports(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let until = |what: &str, serves: &dyn Fn() -> bool| -> anyhow::Result<()> {
            while !serves() {
                ensure!(Instant::now() < deadline, "{what} does not serve");
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        for pod in [&self.client, &self.server, &self.stranger] {
            until("httpbin", &|| {
                get(pod, 0, "http://127.0.0.1:8080/get").is_ok()
            })?;
        }
        for pod in [&self.client, &self.server] {
            let ready = "http://127.0.0.1:15021/healthz/ready";
            until("the sidecar", &|| curl(pod, 0, ready).is_ok())?;
        }
        for port in ["9000", "2525"] {
            until("tcp-echo", &|| {
                talk(&self.server, 0, "127.0.0.1", port, "").is_ok()
            })?;
        }
        Ok(())
    }
}

/// Connects as a user; says a line unless it is empty, and returns the first line that comes.
fn talk(pod: &Pod, user: u32, host: &str, port: &str, say: &str) -> anyhow::Result<String> {
    const SCRIPT: &str = r#"exec 3<>"/dev/tcp/$0/$1"; [ -z "$2" ] || printf '%s\n' "$2" >&3; [ -z "$3" ] || head -n 1 <&3"#;
    let listen = if user == WORKLOAD { "listen" } else { "" };
    let output = pod
        .command(user, "timeout")
        .args([PATIENCE, "bash", "-c", SCRIPT, host, port, say, listen])
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{host}:{port}: {error}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// The body of a page.
fn curl(pod: &Pod, user: u32, url: &str) -> anyhow::Result<Vec<u8>> {
    let output = pod
        .command(user, "curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(["--header", "host: web", "--max-time", PATIENCE, url])
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{url}: {error}");
    Ok(output.stdout)
}

/// The JSON of a page.
fn get(pod: &Pod, user: u32, url: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&curl(pod, user, url)?)?)
}

/// A sidecar took part: it gives requests an identifier, which the application sees.
fn by_sidecar(answer: &Value) -> bool {
    let headers = answer["headers"].as_object();
    headers.is_some_and(|headers| {
        headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case("x-request-id"))
    })
}

fn scenarios(mesh: &Mesh) -> anyhow::Result<()> {
    let Mesh {
        client,
        server,
        stranger,
        ..
    } = mesh;
    let headers = |pod: &Pod, host: &str| get(pod, WORKLOAD, &format!("http://{host}/headers"));
    let both = |pod: &Pod| [format!("{}:8080", pod.v4), format!("[{}]:8080", pod.v6)];

    let answer = headers(client, WEB)?;
    ensure!(
        by_sidecar(&answer),
        "HTTP by the service's address: {answer}"
    );
    let line = talk(client, WORKLOAD, &server.v4, "9000", "one")?;
    ensure!(
        line == "echoed one",
        "TCP through a headless service: {line}"
    );
    let line = talk(client, WORKLOAD, MAIL, "25", "")?;
    ensure!(line == "220 ready", "a server that speaks first: {line}");

    let answer = headers(server, &both(server)[0])?;
    ensure!(
        !by_sidecar(&answer),
        "a pod to its own address goes straight: {answer}"
    );
    let answer = headers(server, WEB)?;
    ensure!(
        by_sidecar(&answer),
        "a pod to itself through its service: {answer}"
    );

    for address in both(server) {
        let answer = headers(stranger, &address)?;
        ensure!(
            by_sidecar(&answer),
            "from outside of the mesh to {address}: {answer}"
        );
    }
    // No service leads to the client's port: bytes are passed through.
    for address in both(client) {
        headers(stranger, &address)?;
    }
    for address in both(stranger) {
        let answer = headers(client, &address)?;
        ensure!(
            by_sidecar(&answer),
            "out of the mesh to {address}: {answer}"
        );
    }
    // Setting the rules again replaces them.
    redirect(client, &["-o", "8080"])?;
    for address in both(stranger) {
        let answer = headers(client, &address)?;
        ensure!(
            !by_sidecar(&answer),
            "an excluded port goes straight to {address}: {answer}"
        );
    }
    Ok(())
}

/// Runs the init container's program in a pod.
fn redirect(pod: &Pod, flags: &[&str]) -> anyhow::Result<()> {
    let output = pod
        .command(0, dojo::binary())
        .arg("istio-iptables")
        .args(flags)
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "istio-iptables {flags:?}: {error}");
    Ok(())
}

#[test]
fn connections_come_to_the_sidecar_and_leave_through_it() -> anyhow::Result<()> {
    for program in ["nft", "ip", "nsenter", "setpriv", "curl", "bash"] {
        if Command::new(program).arg("--version").output().is_err() {
            ensure!(std::env::var_os("CI").is_none(), "no {program} on the PATH");
            eprintln!("SKIPPED: no {program} on the PATH");
            return Ok(());
        }
    }
    let ways = As::available();
    ensure!(
        !ways.is_empty() || std::env::var_os("CI").is_none(),
        "no network namespaces"
    );
    for way in ways {
        let mesh = Mesh::start(way).with_context(|| format!("as {way:?}"))?;
        scenarios(&mesh).with_context(|| format!("as {way:?}"))?;
    }
    Ok(())
}
