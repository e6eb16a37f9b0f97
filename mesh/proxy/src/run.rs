//! From start to end of a proxy process.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::{Method, StatusCode};
use mesh_config::{Snapshot, Update};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, Receiver},
    task::{LocalSet, spawn_local},
    time::sleep_until,
};

use crate::{
    access_log::Sink,
    admin::{self, Lifecycle},
    agent::Agent,
    args::Args,
    client,
    discovery::Discovery,
    identity,
    proxy::{Options, Proxy},
    serve::{self, Ends, Page},
    spans,
    stats::Registry,
};

/// Updates that wait for the control thread.
const WAITING_UPDATES: usize = 4;

/// The control thread's state, which its tasks share.
struct Control {
    proxy: RefCell<Option<Proxy>>,
    lifecycle: Arc<Lifecycle>,
    agent: Agent,
    localhost: IpAddr,
}

/// Runs a proxy until SIGTERM, SIGINT or `/quitquitquit`, then drains it.
///
/// # Errors
/// When the static configuration cannot be read or carried out, or a port of the proxy's own cannot
/// be bound.
pub async fn run(args: Args) -> anyhow::Result<()> {
    LocalSet::new().run_until(run_local(args)).await
}

async fn run_local(args: Args) -> anyhow::Result<()> {
    let lifecycle = Arc::new(Lifecycle::default());
    let components = args.component_levels();
    lifecycle
        .logging
        .start(args.proxy_log_level.as_deref(), components.as_deref())?;
    let registry = Arc::new(Registry::default());
    let identity = args.identity();
    let suffix = format!("{}.svc.cluster.local", identity.namespace);
    if let Some(other) = args.domain.as_ref().filter(|domain| **domain != suffix) {
        tracing::warn!("--domain={other} has no effect: the mesh has one domain, {suffix}");
    }
    let pod = identity.address;
    let mut proxy = Proxy::start(Options {
        identity: identity.clone(),
        source_address: args.source_address,
        concurrency: args.concurrency.into(),
        max_connections: args.max_connections,
        log: Sink::stdout(registry.clone())?,
        registry,
        seed: None,
    })?;
    if let Some(spans) = proxy.spans.take() {
        spawn_local(spans::export::export(proxy.shared.clone(), spans));
    }
    if let Some(path) = &args.config {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let snapshot: Snapshot = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a snapshot", path.display()))?;
        if let Some(message) = proxy.apply(snapshot).into_iter().next() {
            anyhow::bail!("{}: {message}", path.display());
        }
        lifecycle.configured.store(true, Relaxed);
    }
    // A gateway of the embedded network has no loopback of its own; its address stands for it.
    let localhost = match (args.loopback, args.source_address) {
        (Some(loopback), _) => loopback,
        (None, Some(own)) => own,
        (None, None) => IpAddr::from([127, 0, 0, 1]),
    };
    let control = Rc::new(Control {
        proxy: RefCell::new(Some(proxy)),
        lifecycle: lifecycle.clone(),
        agent: Agent::from_environment(),
        localhost,
    });
    let admin = SocketAddr::new(localhost, args.admin_port);
    serve_admin(&control, admin, pod.is_loopback()).await?;
    if !args.no_agent {
        serve_agent(&control, pod).await?;
    }
    if args.config.is_none() {
        let (updates, received) = mpsc::channel(WAITING_UPDATES);
        let discovery = Discovery {
            address: args.discovery_address(),
            roots: args.root_cert_path(),
            through: client::through(),
            identity,
            token: args.token_path(),
        };
        lifecycle.awaits_certificate.store(true, Relaxed);
        let secrets = control
            .proxy
            .borrow()
            .as_ref()
            .map(|proxy| proxy.shared.secrets.clone());
        if let Some(secrets) = secrets {
            spawn_local(identity::keep(
                discovery.clone(),
                secrets,
                lifecycle.clone(),
            ));
        }
        spawn_local(async move { discovery.run(updates).await });
        spawn_local(follow(control.clone(), received));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = lifecycle.quit.cancelled() => {}
    }
    let leave = leave(&control, args.drain());
    tokio::select! {
        () = leave => {}
        // Asked twice: at once.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Not ready any more; clients are asked to go elsewhere, for `limit` at most; then what is still
/// under way is given the rest of that time. `/quitquitquit` asks nobody.
async fn leave(control: &Control, limit: Duration) {
    let deadline = Instant::now() + limit;
    control.lifecycle.draining.store(true, Relaxed);
    if !control.lifecycle.quit.is_cancelled() {
        let drained = control
            .proxy
            .borrow()
            .as_ref()
            .map(|proxy| proxy.drain(limit));
        if let Some(drained) = drained {
            drained.await;
        }
    }
    let proxy = control.proxy.borrow_mut().take();
    if let Some(proxy) = proxy {
        let rest = deadline.saturating_duration_since(Instant::now());
        proxy.shut_down(rest).await;
    }
}

/// Applies updates as they come.
async fn follow(control: Rc<Control>, mut updates: Receiver<Update>) {
    loop {
        let due = control.proxy.borrow().as_ref().and_then(Proxy::settles_at);
        let update = tokio::select! {
            update = updates.recv() => update,
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                if let Some(proxy) = &mut *control.proxy.borrow_mut() {
                    proxy.settle();
                }
                continue;
            }
        };
        let mut proxy = control.proxy.borrow_mut();
        let (Some(update), Some(proxy)) = (update, &mut *proxy) else {
            return;
        };
        // Before the first complete update there is nothing to change.
        if !update.complete && !control.lifecycle.configured.load(Relaxed) {
            continue;
        }
        let snapshot = match proxy.config.snapshot.apply(update) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!("configuration: {error}; the last good one stays in use");
                continue;
            }
        };
        for message in proxy.apply(snapshot) {
            tracing::error!("configuration: {message}");
        }
        if !control.lifecycle.configured.swap(true, Relaxed) {
            tracing::info!("ready: the first configuration is in effect");
        }
    }
}

/// `shared`: pods share the loopback interface with the users of the machine.
async fn serve_admin(
    control: &Rc<Control>,
    address: SocketAddr,
    shared: bool,
) -> anyhow::Result<()> {
    let listener = serve::bind(address).await?;
    let control = control.clone();
    spawn_local(serve::serve(listener, move |request| {
        let control = control.clone();
        async move {
            if admin::is_stranger(request.headers()) {
                let text = "this interface answers under loopback addresses and the name localhost, and no web page\n";
                return Page::text(text.into()).status(StatusCode::FORBIDDEN);
            }
            let ends = request.extensions().get::<Ends>();
            if shared && ends.is_none_or(|ends| admin::is_another(ends.peer, ends.local)) {
                let text = "this interface answers its pod: processes of the user who runs it, and of root\n";
                return Page::text(text.into()).status(StatusCode::FORBIDDEN);
            }
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
            match &mut *control.proxy.borrow_mut() {
                Some(proxy) => {
                    admin::answer(proxy, &control.lifecycle, request.method(), path, query)
                }
                None => unavailable("DRAINING\n"),
            }
        }
    }));
    Ok(())
}

/// On all addresses of a pod that is alone with them; on its own and its localhost where pods share
/// the loopback interface.
async fn serve_agent(control: &Rc<Control>, pod: IpAddr) -> anyhow::Result<()> {
    let mut addresses = if pod.is_loopback() {
        vec![pod, control.localhost]
    } else {
        vec![Ipv4Addr::UNSPECIFIED.into()]
    };
    addresses.dedup();
    let ports = [15020, 15021, 15090];
    for (address, port) in addresses
        .into_iter()
        .flat_map(|address| ports.map(|port| (address, port)))
    {
        let listener = serve::bind(SocketAddr::new(address, port)).await?;
        let control = control.clone();
        spawn_local(serve::serve(listener, move |request| {
            let control = control.clone();
            async move {
                let path = request.uri().path();
                agent_page(&control, port, request.method(), path).await
            }
        }));
    }
    Ok(())
}

async fn agent_page(control: &Control, port: u16, method: &Method, path: &str) -> Page {
    let metrics = || match &*control.proxy.borrow() {
        Some(proxy) => admin::prometheus::all(proxy),
        None => String::new(),
    };
    match (port, path) {
        (15020 | 15021, "/healthz/ready") => {
            if control.lifecycle.is_ready() {
                Page::text(String::new())
            } else {
                unavailable("not ready: waiting for configuration, or draining\n")
            }
        }
        (15090, "/stats/prometheus") => Page::text(metrics()),
        (15020, "/stats/prometheus" | "/metrics") => {
            let own = metrics();
            let application = control.agent.application_metrics(control.localhost).await;
            Page::text(own + application.as_deref().unwrap_or(""))
        }
        (15020, "/quitquitquit" | "/drain") if method == Method::POST => {
            control.lifecycle.quit.cancel();
            Page::text("OK\n".into())
        }
        (15020, path) if path.starts_with("/app-health/") => {
            control.agent.probe(path, control.localhost).await
        }
        _ => Page::text("404 page not found\n".into()).status(StatusCode::NOT_FOUND),
    }
}

fn unavailable(text: &str) -> Page {
    Page::text(text.into()).status(StatusCode::SERVICE_UNAVAILABLE)
}
