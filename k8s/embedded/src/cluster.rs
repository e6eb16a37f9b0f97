//! The cluster process: API server, controllers, network and pods, started in this order and ended
//! in the opposite one.
//!
//! State folder: `cluster.json` (addresses and port, chosen at the first start), `pki/`,
//! `state.redb` (the objects), `pods/` (logs, volumes), `kubeconfig`, and `ready`, which exists
//! while the API is served.

mod place;

use crate::auth::Authority;
use crate::controllers::{self, ControllersConfig};
use crate::images::Catalogue;
use crate::informers::Informers;
use crate::network;
use crate::runtime::{self, RuntimeConfig, kubelet::Kubelet};
use crate::server::{ApiServer, Config as ServerConfig, serve};
use crate::store::Store;
use anyhow::{Context, anyhow};
use place::Place;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long pods get to end when the cluster is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster: of its node, and of the context in its kubeconfig.
    pub name: String,
    /// Where everything is kept. Made if it is not there. One process at a time: the caller holds
    /// a lock.
    pub state_dir: PathBuf,
    /// The images that pods can run.
    pub images: Catalogue,
}

/// Runs a cluster until SIGTERM or SIGINT.
///
/// # Errors
/// When the state folder cannot be used, the addresses or the port are taken, or a part fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let shutdown = CancellationToken::new();
    let mut cluster = start(config, shutdown.clone()).await?;
    tokio::select! {
        () = &mut cluster.parts => tracing::error!("the controllers have ended"),
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        () = shutdown.cancelled() => tracing::error!("a part of the cluster has ended"),
    }
    cluster.stop().await
}

/// A running cluster.
struct Cluster {
    shutdown: CancellationToken,
    api: tokio::task::JoinHandle<()>,
    /// Controllers and network: polled here, as they are not `Send`.
    parts: Pin<Box<dyn Future<Output = ()>>>,
    pods: tokio::task::JoinHandle<Result<(), runtime::RuntimeError>>,
    marker: PathBuf,
    _place: Place,
}

async fn start(config: Config, shutdown: CancellationToken) -> anyhow::Result<Cluster> {
    let folder = &config.state_dir;
    let marker = folder.join("ready");
    let kubeconfig = folder.join("kubeconfig");
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    // left by a cluster that was killed
    let _ = std::fs::remove_file(&marker);
    let mut place = Place::take(folder).await?;
    let addresses = place.addresses;

    let names = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(addresses.node()),
        IpAddr::V4(addresses.kubernetes_service()),
    ];
    let pki = folder.join("pki");
    let authority = Authority::load_or_generate(&pki, &names)
        .with_context(|| format!("certificates in {}", pki.display()))?;
    let server = ApiServer::new(
        Store::open(&folder.join("state.redb"))?,
        ServerConfig {
            addresses,
            authority,
        },
    );
    let failed = |error: crate::status::ApiError| anyhow!(error.message);
    server.bootstrap().await.map_err(failed)?;
    let listener = place.listener()?;
    let api_address = listener.local_addr()?;
    server.publish(api_address).await.map_err(failed)?;

    let text = server
        .authority()
        .kubeconfig(&config.name, api_address.port());
    crate::auth::write_private(&kubeconfig, &text)
        .with_context(|| format!("writing {}", kubeconfig.display()))?;

    let kubelet = Kubelet::default();
    server.set_node(std::sync::Arc::new(kubelet.clone()));
    let client = server.client();
    let ca_pem = server.authority().ca.clone();
    let api = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            if let Err(error) = serve(server, listener).await {
                tracing::error!(%error, "the API is no longer served");
                shutdown.cancel();
            }
        }
    });
    // the caches go on while pods are being stopped
    let informers_end = CancellationToken::new();
    let informers = Informers::start(&client, &informers_end);
    let controllers = controllers::run(
        client.clone(),
        informers.clone(),
        ControllersConfig {
            node_name: config.name.clone(),
            ca_pem,
        },
        shutdown.clone(),
    );
    let network = network::run(
        client.clone(),
        informers.clone(),
        addresses,
        shutdown.clone(),
    );
    let guard = informers_end.drop_guard();
    let parts = Box::pin(async move {
        let _guard = guard;
        tokio::join!(controllers, network);
    });
    let program = std::env::current_exe().context("finding this program")?;
    let pods = tokio::spawn(runtime::run(
        client,
        informers,
        RuntimeConfig {
            state_dir: folder.clone(),
            address_index: addresses.index(),
            images: config.images,
            node_name: config.name,
            api_address,
            self_exe: program.clone(),
            shim_exe: program,
        },
        kubelet,
        shutdown.clone(),
    ));
    crate::auth::write_private(&marker, &format!("{}\n", std::process::id()))
        .with_context(|| format!("writing {}", marker.display()))?;
    tracing::info!(address = %api_address, index = addresses.index(), "the API is served");
    Ok(Cluster {
        shutdown,
        api,
        parts,
        pods,
        marker,
        _place: place,
    })
}

impl Cluster {
    /// Ends the pods, then the rest.
    async fn stop(self) -> anyhow::Result<()> {
        // it may have been removed with the folder
        let _ = std::fs::remove_file(&self.marker);
        self.shutdown.cancel();
        let pods = tokio::time::timeout(STOP_TIMEOUT, self.pods).await;
        drop(self.parts);
        self.api.abort();
        match pods {
            Ok(ended) => Ok(ended.context("the pod runtime has failed")??),
            // what is left is killed with this process
            Err(_) => {
                tracing::warn!("pods did not end in {STOP_TIMEOUT:?}");
                Ok(())
            }
        }
    }
}
