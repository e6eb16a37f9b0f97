//! The control plane of the mesh.
//!
//! ```text
//! Kubernetes API ── watch ──► registry ──► World ──► Compiler ──► push: a stream per proxy
//!   ▲         │                                        │            (authenticated)
//!   │         └── admission ──► inject                 └─► debug: what was told, and why
//!   └── status, Events ◄── report: what is wrong, or not carried out
//! ```
//!
//! Decisions are pure functions of values ([`world::World`], [`compile`]); watching, pushing and
//! writing are thin tasks around them. A change reaches every proxy a few milliseconds after the
//! API server tells us of it: changes are gathered for 5 ms of quiet, 50 ms at most; what is equal
//! to the version before is shared with it; a proxy gets only what differs.

pub mod analyze;
mod args;
mod authenticate;
mod ca;
pub mod certs;
pub mod compile;
mod confine;
mod debug;
pub mod explain;
mod inject;
mod jwks;
mod leader;
mod metrics;
mod pod_admin;
pub mod proxy_config;
pub mod proxy_status;
mod push;
mod registry;
mod report;
mod rest;
mod serve;
pub mod tap;
mod watch;
pub mod world;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::task::JoinSet;

use serve::Transport;

pub use args::{Args, InjectionArgs};
pub use compile::compile;
pub use inject::kube_inject;

/// Namespace of the control plane; rules there hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// Whose identities the mesh's certificates are.
pub const TRUST_DOMAIN: &str = "cluster.local";

/// SPIFFE identity of a ServiceAccount.
pub(crate) fn identity(namespace: &str, service_account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{service_account}")
}

/// An API server that does not even connect within this is away...
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// ...and one that is silent for so long; longer than its watches last.
const SILENT_FOR: Duration = Duration::from_secs(75);

/// An API server that is away must not hold up our end.
const RESIGN_WITHIN: Duration = Duration::from_secs(1);

/// Runs the control plane until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// No Kubernetes API can be found, or a port cannot be listened on.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = kube::Config::infer().await.context(
        "no Kubernetes API: set KUBECONFIG, or run in a pod with a ServiceAccount token",
    )?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.read_timeout = Some(SILENT_FOR);
    config.reset_reader_on_write = true;
    let client = kube::Client::try_from(config)?;
    let authority = Arc::new(ca::Authority::obtain(&client).await?);
    let serving = inject::serving(authority.clone(), args.serving_cert_ttl)?;
    let (show, shown) = tokio::sync::watch::channel(serving.tls.clone());
    let (signing, authority) = tokio::sync::watch::channel(authority);
    let metrics = Arc::new(metrics::Metrics::default());
    let (to, versions) = tokio::sync::watch::channel(registry::nothing());
    let hub = Arc::new(push::Hub {
        versions: versions.clone(),
        authenticator: authenticate::Authenticator::new(client.clone()),
        metrics: metrics.clone(),
        connections: Default::default(),
        authority: authority.clone(),
    });

    let mut tasks = JoinSet::new();
    let ip = args.address()?;
    let at = |port| SocketAddr::new(ip, port);
    let tls = || Transport::Tls(shown.clone());
    let signer = Arc::new(ca::Signer {
        hub: hub.clone(),
        life: args.workload_cert_ttl,
    });
    let stream = push::router(hub.clone())
        .merge(ca::router(signer))
        .merge(rest::router(hub.clone()));
    let monitoring = debug::router(hub);
    let webhooks = inject::router(args.injection.clone(), metrics.clone());
    serve::listen(
        &mut tasks,
        "webhooks",
        at(args.webhook_port),
        webhooks,
        tls(),
    )
    .await?;
    serve::listen(
        &mut tasks,
        "configuration stream",
        at(args.config_port),
        stream.clone(),
        Transport::PlainHere,
    )
    .await?;
    serve::listen(
        &mut tasks,
        "configuration stream (TLS)",
        at(args.secure_config_port),
        stream,
        tls(),
    )
    .await?;
    serve::listen(
        &mut tasks,
        "monitoring",
        at(args.monitoring_port),
        monitoring.clone(),
        Transport::Plain,
    )
    .await?;
    serve::listen(
        &mut tasks,
        "readiness",
        at(args.ready_port),
        monitoring,
        Transport::Plain,
    )
    .await?;

    let (keys, changes) = watch::start(&client, &mut tasks);
    tasks.spawn(jwks::follow(versions.clone(), keys));
    tasks.spawn(registry::run(changes, to, metrics));
    let (leads, leading) = tokio::sync::watch::channel(false);
    let name = args.identity();
    tasks.spawn(leader::campaign(client.clone(), name.clone(), leads));
    tasks.spawn(report::publish(client.clone(), versions, leading));
    tasks.spawn(ca::follow(client.clone(), signing, args.workload_cert_ttl));
    tasks.spawn(ca::publish(client.clone(), authority.clone()));
    tasks.spawn(inject::keep(
        client.clone(),
        authority,
        serving,
        show,
        args.serving_cert_ttl,
    ));

    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
        ended = tasks.join_next() => return Err(match ended {
            Some(Err(error)) => anyhow::anyhow!("a task of the control plane failed: {error}"),
            _ => anyhow::anyhow!("a task of the control plane ended"),
        }),
    }
    tasks.shutdown().await;
    // Without an answer the next leader waits a little longer.
    let _ = tokio::time::timeout(RESIGN_WITHIN, leader::resign(client, &name)).await;
    Ok(())
}
