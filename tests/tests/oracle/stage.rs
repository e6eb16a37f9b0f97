//! Two sides, ours and Envoy: each with pods of its own, a sidecar and a gateway, compiled from
//! the same manifests.
//!
//! A side has its own part of 127/8, so both use the same ports and differ in nothing but the
//! first three parts of addresses.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use mesh_config::{
    Accept, Interception, Listener, NetworkFilter, ProxyId, Role, Snapshot, TrafficDirection, envoy,
};
use mesh_control::{compile::Compiler, world::World};
use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    case::{Case, Through},
    client,
    upstream::{HTTP1, HTTP2, PODS, TCP, Upstream},
};

/// Last part of the addresses of the client's pod, its loopback, and the gateway.
const CLIENT: u8 = 2;
const LOOPBACK: u8 = 3;
const GATEWAY: u8 = 4;

const GATEWAY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 15000;

/// Ports that a Service may have: name, number, port of the pods.
const PORTS: &[(&str, u16, u16)] = &[
    ("http", 80, HTTP1),
    ("http2", 81, HTTP2),
    ("grpc", 82, HTTP2),
    ("tcp", 83, TCP),
    ("auto", 84, HTTP1),
];

/// Ours or Envoy.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    net: [u8; 3],
    pub(crate) upstream: Upstream,
    sidecar: Running,
    gateway: Running,
    /// Where the sidecar's filter chains listen, by their names.
    chains: BTreeMap<String, SocketAddr>,
}

/// A proxy of a side.
struct Running {
    child: Child,
    admin: SocketAddr,
    out: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Side {
    /// Both sides, ready.
    ///
    /// # Errors
    /// When a proxy does not become ready; with what it said.
    pub(crate) async fn both(
        cases: &[Case],
        envoy: &Path,
        folder: &Path,
    ) -> anyhow::Result<[Self; 2]> {
        let (net, upstreams) = addresses().await?;
        let [ours, theirs] = upstreams;
        let theirs_net = [net[0], net[1], net[2] + 1];
        let program = std::env::current_exe()?;
        let ours = Self::start("ours", net, ours, cases, folder, |role, net, file, at| {
            let mut command = Command::new(&program);
            command
                .args(["proxy", role, "--no-agent", "--config"])
                .arg(file);
            let ip = |last| IpAddr::from([net[0], net[1], net[2], last]).to_string();
            let own = if role == "router" { GATEWAY } else { CLIENT };
            command.args(["--address", &ip(own), "--source-address", &ip(own)]);
            if role == "sidecar" {
                command.args(["--loopback", &ip(LOOPBACK)]);
            }
            command.args([
                "--admin-port",
                &at.port().to_string(),
                "--drain-seconds",
                "0",
            ]);
            command
        });
        let theirs = Self::start(
            "Envoy",
            theirs_net,
            theirs,
            cases,
            folder,
            |_, _, file, _| {
                let mut command = Command::new(envoy);
                command.arg("-c").arg(file);
                command.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]);
                command.args(["--file-flush-interval-msec", "50", "--drain-time-s", "1"]);
                command
            },
        );
        let (ours, theirs) = tokio::join!(ours, theirs);
        Ok([ours?, theirs?])
    }

    async fn start(
        name: &'static str,
        net: [u8; 3],
        upstream: Upstream,
        cases: &[Case],
        folder: &Path,
        command: impl Fn(&str, [u8; 3], &Path, SocketAddr) -> Command,
    ) -> anyhow::Result<Self> {
        let compiler = Compiler::new(Arc::new(world(net, cases)?), 1);
        let at = |last| IpAddr::V4(Ipv4Addr::new(net[0], net[1], net[2], last));
        let id = |role, pod: &str, last, interception| ProxyId {
            role,
            pod: pod.into(),
            namespace: "default".into(),
            address: at(last),
            interception,
        };
        let door = Interception::Door {
            loopback: at(LOOPBACK),
        };
        let sidecar = id(Role::Sidecar, "client", CLIENT, door);
        let gateway = id(Role::Router, "gateway", GATEWAY, Interception::None);
        let mut started = Vec::new();
        let mut chains = BTreeMap::new();
        for (proxy, role, admin) in [(sidecar, "sidecar", LOOPBACK), (gateway, "router", GATEWAY)] {
            let mut snapshot = compiler.snapshot(&proxy).context("the pod of the proxy")?;
            if role == "sidecar" {
                chains = open_door(&mut snapshot, at(LOOPBACK));
            }
            let admin = SocketAddr::new(at(admin), ADMIN_PORT);
            let config = match name {
                "Envoy" => envoy::bootstrap(&snapshot, admin),
                _ => serde_json::to_value(&snapshot)?,
            };
            let file = folder.join(format!("{name}-{role}.json"));
            std::fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
            let out = folder.join(format!("{name}-{role}.out"));
            let err = folder.join(format!("{name}-{role}.err"));
            let mut command = command(role, net, &file, admin);
            for variable in [
                "http_proxy",
                "DOJO_POD_IP",
                "DOJO_LOOPBACK_IP",
                "INSTANCE_IP",
            ] {
                command.env_remove(variable);
            }
            command
                .stdin(Stdio::null())
                .stdout(File::create(&out)?)
                .stderr(File::create(&err)?);
            let child = command
                .spawn()
                .with_context(|| format!("starting {name}"))?;
            started.push((Running { child, admin, out }, err));
        }
        for (running, err) in &mut started {
            if let Err(error) = running.ready().await {
                let said = std::fs::read_to_string(err).unwrap_or_default();
                bail!("{name}: {error:#}\n{said}");
            }
        }
        let mut started = started.into_iter().map(|(running, _)| running);
        let (Some(sidecar), Some(gateway)) = (started.next(), started.next()) else {
            bail!("two proxies were started");
        };
        Ok(Self {
            name,
            net,
            upstream,
            sidecar,
            gateway,
            chains,
        })
    }

    /// Where the requests of a case go.
    pub(crate) fn door(&self, case: &Case, port: u16) -> SocketAddr {
        let ip = |last| IpAddr::from([self.net[0], self.net[1], self.net[2], last]);
        match case.through {
            Through::Gateway => SocketAddr::new(ip(GATEWAY), GATEWAY_PORT),
            Through::Inbound => {
                let target = PORTS.iter().find(|(_, number, _)| *number == port);
                SocketAddr::new(ip(CLIENT), target.map_or(port, |(_, _, target)| *target))
            }
            Through::Sidecar => {
                let own = format!("{}.default.svc.cluster.local:{port}", case.name);
                let chain = self
                    .chains
                    .get(&own)
                    .or(self.chains.get(&format!("0.0.0.0_{port}")));
                *chain.unwrap_or_else(|| panic!("{}: no chain for port {port}", case.name))
            }
        }
    }

    /// The admin interface of the proxy that a case goes through.
    pub(crate) fn admin(&self, case: &Case) -> SocketAddr {
        self.running(case.through).admin
    }

    /// What the proxy wrote to its access log.
    pub(crate) fn log(&self, through: Through) -> String {
        let bytes = std::fs::read(&self.running(through).out).unwrap_or_default();
        self.common(&String::from_utf8_lossy(&bytes))
    }

    fn running(&self, through: Through) -> &Running {
        match through {
            Through::Gateway => &self.gateway,
            Through::Sidecar | Through::Inbound => &self.sidecar,
        }
    }

    /// Takes out of a text what only this side's addresses make different.
    pub(crate) fn common(&self, text: &str) -> String {
        let [a, b, c] = self.net;
        text.replace(&format!("{a}.{b}.{c}."), "net.")
    }
}

impl Running {
    async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}");
            }
            if let Ok((200, _)) = client::admin(self.admin, "GET", "/ready").await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not ready within 30 s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A part of 127/8 that nobody uses, and its neighbour.
async fn addresses() -> anyhow::Result<([u8; 3], [Upstream; 2])> {
    let mut last = None;
    for _ in 0..20 {
        let mut random = rand::rng();
        let net = [
            127,
            random.random_range(200..250),
            2 * random.random_range(0..120),
        ];
        let both = tokio::try_join!(
            Upstream::start(net),
            Upstream::start([net[0], net[1], net[2] + 1])
        );
        match both {
            Ok((one, other)) => return Ok((net, [one, other])),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("tried")?).context("no free addresses on loopback")
}

/// On the embedded network all outbound traffic of a pod comes through one door, an HTTP proxy,
/// which Envoy has no word for. So each of the door's filter chains gets a listener of its own, as
/// on a real cluster each port has.
fn open_door(snapshot: &mut Snapshot, loopback: IpAddr) -> BTreeMap<String, SocketAddr> {
    let Some(door) = snapshot.listeners.remove("virtualOutbound") else {
        return BTreeMap::new();
    };
    let mut chains = BTreeMap::new();
    let mut next = 20_000;
    for chain in &door.filter_chains {
        let Some(port) = chain.destination_port else {
            continue;
        };
        let shared = matches!(chain.filter, NetworkFilter::Http(_));
        let port = if shared {
            10_000 + port
        } else {
            next += 1;
            next
        };
        let mut chain = chain.clone();
        chain.destination_port = None;
        chain.destinations.clear();
        let listener = Listener {
            name: chain.name.clone(),
            address: SocketAddr::new(loopback, port),
            direction: TrafficDirection::Outbound,
            accept: Accept::Direct,
            filter_chains: vec![chain],
        };
        chains.insert(listener.name.clone(), listener.address);
        snapshot
            .listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }
    chains
}

fn world(net: [u8; 3], cases: &[Case]) -> anyhow::Result<World> {
    let ip = |last: u8| IpAddr::from([net[0], net[1], net[2], last]).to_string();
    let pod = |name: &str, labels: Value, last: u8, ports: Value| {
        json!({
            "kind": "Pod", "metadata": { "name": name, "namespace": "default", "labels": labels },
            "spec": { "containers": [{ "name": "app", "ports": ports }] },
            "status": { "podIP": ip(last), "phase": "Running" },
        })
    };
    let mut objects = vec![
        json!({ "kind": "ConfigMap", "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": "accessLogFile: /dev/stdout\nenableAutoMtls: false\n" } }),
        // An Envoy without a control plane has no certificate.
        json!({ "kind": "PeerAuthentication", "metadata": { "name": "default", "namespace": "istio-system" },
            "spec": { "mtls": { "mode": "DISABLE" } } }),
        pod("client", json!({ "app": "client" }), CLIENT, json!([])),
        pod(
            "gateway",
            json!({ "istio": "ingressgateway" }),
            GATEWAY,
            json!([]),
        ),
        json!({ "kind": "Gateway", "metadata": { "name": "gateway", "namespace": "default" }, "spec": {
            "selector": { "istio": "ingressgateway" },
            "servers": [{ "port": { "number": GATEWAY_PORT, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] }],
        } }),
        // The workload beside the client's sidecar, for what comes in.
        service("client", json!({ "app": "client" }), PORTS),
    ];
    for &(name, last) in PODS {
        objects.push(pod(
            name,
            json!({ "app": "web", "version": name }),
            last,
            json!([]),
        ));
    }
    for case in cases {
        objects.extend(objects_of(case, &ip));
    }
    let mut world = World::default();
    for object in &objects {
        world
            .insert(object)
            .with_context(|| object["metadata"]["name"].to_string())?;
    }
    Ok(world)
}

fn service(name: &str, selector: Value, ports: &[(&str, u16, u16)]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, target)| json!({ "name": name, "port": port, "targetPort": target }))
        .collect();
    json!({
        "kind": "Service", "metadata": { "name": name, "namespace": "default" },
        "spec": { "clusterIP": "None", "selector": selector, "ports": ports },
    })
}

fn objects_of(case: &Case, ip: &impl Fn(u8) -> String) -> Vec<Value> {
    let name = &case.name;
    let metadata = json!({ "name": name, "namespace": "default" });
    let used: Vec<_> = PORTS
        .iter()
        .copied()
        .filter(|(port, _, _)| *port == "http" || case.ports.iter().any(|other| other == port))
        .collect();
    let mut objects = vec![service(name, json!({ "app": "nobody" }), &used)];
    for (pod, last) in PODS.iter().filter(|(pod, _)| case.pods().contains(pod)) {
        let ports: Vec<Value> = used
            .iter()
            .map(|(name, _, target)| json!({ "name": name, "port": target }))
            .collect();
        objects.push(json!({
            "kind": "EndpointSlice",
            "metadata": { "name": format!("{name}-{pod}"), "namespace": "default",
                "labels": { "kubernetes.io/service-name": name } },
            "ports": ports,
            "endpoints": [{ "addresses": [ip(*last)], "conditions": { "ready": *pod != "not-ready" },
                "targetRef": { "kind": "Pod", "name": pod } }],
        }));
    }
    let subset = |version: &str| json!({ "name": version, "labels": { "version": version } });
    // Only what the rules name: each costs both proxies a cluster.
    let rules = case.http.as_ref().map(Value::to_string).unwrap_or_default();
    let named = |version: &&str| rules.contains(&format!("\"subset\":\"{version}\""));
    let subsets = ["v1", "v2", "v3", "empty"].into_iter().filter(named);
    let mut rule = json!({ "host": name, "subsets": subsets.map(subset).collect::<Vec<_>>() });
    if let Some(policy) = &case.policy {
        rule["trafficPolicy"] = policy.clone();
    }
    objects.push(json!({ "kind": "DestinationRule", "metadata": metadata, "spec": rule }));
    let everything = json!([{ "route": [{ "destination": { "host": "web" } }] }]);
    let (host, gateways, http) = match case.through {
        Through::Gateway => (
            format!("{name}.test"),
            "gateway",
            case.http.clone().or(Some(everything)),
        ),
        _ => (name.clone(), "mesh", case.http.clone()),
    };
    if let Some(http) = http {
        let mut http = http;
        own_service(&mut http, name);
        objects.push(json!({ "kind": "VirtualService", "metadata": metadata,
            "spec": { "hosts": [host], "gateways": [gateways], "http": http } }));
    }
    objects.extend(case.with.clone());
    objects
}

/// Host `web` in rules is the case's own Service.
fn own_service(rules: &mut Value, name: &str) {
    match rules {
        Value::Array(all) => all.iter_mut().for_each(|value| own_service(value, name)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == "host" && value == "web" {
                    *value = name.into();
                }
                own_service(value, name);
            }
        }
        _ => {}
    }
}
