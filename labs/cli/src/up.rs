//! `meshdojo up`: a cluster, the mesh on it, applications in it, serving.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use kube::Client;
use serde_json::Value;

use crate::{
    apply,
    arguments::{App, Choice, UpArgs},
    down, exit,
    home::{Cluster, DEFAULT_NAME, Home},
    kubeconfig, manifests,
    progress::{Progress, Step},
    wait,
};

const DEFAULT_GATEWAY_PORT: u16 = 8080;

/// From the gateway's HTTP port to its HTTPS port: 8080 and 8443.
const HTTPS_OFFSET: u16 = 363;

/// Looks again this often for what has no event to wait for.
const POLL: Duration = Duration::from_millis(20);

/// Starts the cluster unless it runs, applies the mesh and the applications, and waits until they
/// serve. Doing it again changes nothing that is as it should be.
pub async fn run(home: &Home, args: UpArgs) -> anyhow::Result<()> {
    let cluster = home.cluster(&args.cluster.name);
    cluster.create()?;
    let port = args
        .gateway_port
        .or_else(|| cluster.gateway_port())
        .unwrap_or(DEFAULT_GATEWAY_PORT);
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let progress = Progress::new();

    let running = cluster.process().is_some();
    if !running || cluster.gateway_port() != Some(port) {
        require_free(port, &cluster)?;
        require_free(port + HTTPS_OFFSET, &cluster)?;
    }
    let mut child = None;
    if running {
        if args.foreground {
            return Err(exit::environment(format!(
                "cluster {:?} already runs in the background; stop it first with `meshdojo down`",
                cluster.name
            )));
        }
        eprintln!("cluster {:?} is running already", cluster.name);
    } else {
        let step = progress.step("cluster");
        child = Some(start(&cluster, args.foreground)?);
        ready(&cluster, child.as_mut(), &step, deadline).await?;
        step.done();
    }
    cluster.keep_gateway_port(port)?;
    let client = kubeconfig::client(&cluster.kubeconfig()).await?;
    install_mesh(&client, port, &progress, deadline).await?;
    let apps = Choice::apps(&args.apps);
    install_apps(&client, &apps, port, &progress, deadline).await?;
    eprintln!("ready after {:.1} s", progress.elapsed().as_secs_f64());
    print_next(&cluster, &apps, port);
    match child {
        Some(child) if args.foreground => stay(&cluster, child).await,
        _ => Ok(()),
    }
}

/// Fails when something else listens on the port of the gateway.
fn require_free(port: u16, cluster: &Cluster) -> anyhow::Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        // The cluster's own forwarder, when `up` is repeated.
        Err(_)
            if cluster.process().is_some()
                && cluster.gateway_port().is_some_and(|kept| owns(kept, port)) =>
        {
            Ok(())
        }
        Err(error) => Err(exit::environment(format!(
            "the gateway cannot listen on 127.0.0.1:{port}: {error}; choose another with --gateway-port (its HTTPS port is {HTTPS_OFFSET} above)"
        ))),
    }
}

fn owns(kept: u16, port: u16) -> bool {
    port == kept || port == kept + HTTPS_OFFSET
}

fn start(cluster: &Cluster, foreground: bool) -> anyhow::Result<Child> {
    let log = cluster.log();
    if log.exists() {
        fs::rename(&log, log.with_extension("log.previous"))?;
    }
    // The marker of readiness must be this start's own.
    let _ = fs::remove_file(cluster.folder.join("ready"));
    let out = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .with_context(|| format!("opening {}", log.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["cluster", "--name", &cluster.name]);
    if !foreground {
        command.arg("--detach");
    }
    // The shell's proxies are not for what runs inside.
    for variable in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ] {
        command.env_remove(variable);
    }
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("starting the cluster's process")
}

/// Waits until the API serves.
async fn ready(
    cluster: &Cluster,
    mut child: Option<&mut Child>,
    step: &Step<'_>,
    deadline: Instant,
) -> anyhow::Result<()> {
    let marker = cluster.folder.join("ready");
    while !marker.exists() {
        if let Some(status) = child
            .as_mut()
            .map(|child| child.try_wait())
            .transpose()?
            .flatten()
        {
            return Err(exit::environment(format!(
                "the cluster did not start ({status}); its log {} ends with:\n{}",
                cluster.log().display(),
                crate::home::last_lines(&cluster.log(), 5)
            )));
        }
        if Instant::now() > deadline {
            return Err(exit::timeout(format!(
                "the API did not come up; see {}",
                cluster.log().display()
            )));
        }
        step.waiting_for("API server");
        tokio::time::sleep(POLL / 4).await;
    }
    Ok(())
}

async fn install_mesh(
    client: &Client,
    port: u16,
    progress: &Progress,
    deadline: Instant,
) -> anyhow::Result<()> {
    let step = progress.step("mesh: control plane and gateway");
    let mut objects = manifests::install()?;
    set_gateway_ports(&mut objects, port);
    apply::apply(client, &objects).await?;
    wait::deployments(
        client,
        "istio-system",
        &deployments(&objects),
        &step,
        deadline,
    )
    .await?;
    wait::webhook(client, "istio-sidecar-injector", &step, deadline).await?;
    step.done();
    Ok(())
}

/// Tells the gateway's load balancer which local ports to take. Its status port, which only a load
/// balancer in front of it would ask, is left out: two clusters could not both have it.
fn set_gateway_ports(objects: &mut [Value], port: u16) {
    let gateway = objects.iter_mut().find(|object| {
        object["kind"] == "Service" && object["metadata"]["name"] == "istio-ingressgateway"
    });
    if let Some(gateway) = gateway {
        gateway["metadata"]["annotations"]["embedded.meshdojo.dev/load-balancer-ports"] =
            format!("80={port},443={},15021=0", port + HTTPS_OFFSET).into();
    }
}

/// Applies the applications, all at once, and waits for each.
async fn install_apps(
    client: &Client,
    apps: &[App],
    port: u16,
    progress: &Progress,
    deadline: Instant,
) -> anyhow::Result<()> {
    apply::apply(client, &[injected_default_namespace()]).await?;
    let mut applied = Vec::new();
    for app in apps {
        let objects = manifests::app(*app)?;
        apply::apply(client, &objects).await?;
        applied.push((app, deployments(&objects)));
    }
    for (app, deployments) in applied {
        let step = progress.step(app.name());
        wait::deployments(client, "default", &deployments, &step, deadline).await?;
        if let Some(page) = app.page() {
            serves(&format!("http://127.0.0.1:{port}{page}"), &step, deadline).await?;
        }
        step.done();
    }
    Ok(())
}

/// The namespace of the labs gets sidecars.
fn injected_default_namespace() -> Value {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "default", "labels": { "istio-injection": "enabled" } },
    })
}

fn deployments(objects: &[Value]) -> Vec<String> {
    let all = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment");
    all.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

/// Waits until the page is answered with 200.
async fn serves(page: &str, step: &Step<'_>, deadline: Instant) -> anyhow::Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    loop {
        let seen = match http.get(page).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            return Err(exit::timeout(format!("{page} does not serve: {seen}")));
        }
        step.waiting_for(page);
        tokio::time::sleep(POLL).await;
    }
}

fn print_next(cluster: &Cluster, apps: &[App], port: u16) {
    let name = if cluster.name == DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", cluster.name)
    };
    println!();
    for page in apps.iter().filter_map(|app| app.page()) {
        println!("Open    http://127.0.0.1:{port}{page}");
    }
    println!("Type    export KUBECONFIG=$(meshdojo kubeconfig{name})");
    println!("        kubectl get pods");
    println!("Learn   labs/book/01-traffic-shifting/README.md");
    println!("Stop    meshdojo down{name}");
}

/// Keeps the cluster until Ctrl-C or until it ends by itself.
async fn stay(cluster: &Cluster, mut child: Child) -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let ended = tokio::task::spawn_blocking(move || child.wait());
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        status = ended => {
            let status = status??;
            return Err(anyhow::anyhow!("the cluster ended by itself ({status}); see {}", cluster.log().display()));
        }
    }
    down::stop_running(cluster).await
}
