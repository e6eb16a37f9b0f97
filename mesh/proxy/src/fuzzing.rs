//! What the fuzz targets call: one function for each way that bytes come in.

use std::{cell::OnceCell, net::SocketAddr, rc::Rc, sync::Arc};

use arc_swap::ArcSwap;
use mesh_config::{Interception, ProxyId, Role, Snapshot, Update};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::LocalRuntime,
};

use crate::{
    access_log::{self, Sink},
    codec,
    config::{Config, Listener},
    downstream::Downstream,
    grpc::Messages,
    metadata, path,
    proxy::{Options, Proxy},
    sni,
    stats::{Registry, istio::Labels},
    worker::Worker,
};

/// Routes with something of everything that needs no upstream.
const SNAPSHOT: &str = r#"{
    "version": 1,
    "node": { "accessLog": true, "traceSampling": 1000000 },
    "listeners": { "all": { "name": "all", "address": "127.0.0.1:0", "direction": "gateway", "accept": "direct",
        "filterChains": [{ "name": "any", "filter": { "sniff": {
            "http": { "statPrefix": "http", "routeConfig": "table" },
            "tcp": { "statPrefix": "tcp", "clusters": [{ "name": "nobody", "weight": 1 }] } } } }] } },
    "clusters": { "nobody": { "name": "nobody", "discovery": "eds", "connectTimeout": "1s" } },
    "routes": { "table": { "name": "table", "virtualHosts": [{ "name": "any", "domains": ["*"], "routes": [
        { "name": "r", "match": { "path": { "regex": "/re/[a-z]+(/.*)?" } },
          "action": { "redirect": { "status": 301, "host": "other" } } },
        { "name": "n", "match": { "path": { "prefix": "/nobody" } },
          "action": { "forward": { "clusters": [{ "name": "nobody", "weight": 1 }] } } },
        { "name": "d", "match": { "path": { "prefix": "/" } },
          "action": { "directResponse": { "status": 200, "body": "ok" } } } ] }] } }
}"#;

struct Stage {
    runtime: LocalRuntime,
    worker: Rc<Worker>,
    listener: Arc<ArcSwap<Listener>>,
    _proxy: Proxy,
}

thread_local! {
    static STAGE: OnceCell<Stage> = const { OnceCell::new() };
}

impl Stage {
    fn new() -> Self {
        let registry = Arc::new(Registry::default());
        // Lines are made and dropped.
        let (log, _) = Sink::channel(registry.clone());
        let mut proxy = Proxy::start(Options {
            identity: ProxyId {
                role: Role::Router,
                pod: "fuzz".into(),
                namespace: "default".into(),
                address: [127, 0, 0, 1].into(),
                interception: Interception::None,
            },
            source_address: None,
            concurrency: 1,
            max_connections: 16,
            log,
            registry,
            seed: Some(1),
        })
        .expect("a thread starts");
        let snapshot: Snapshot = serde_json::from_str(SNAPSHOT).expect("the snapshot is one");
        assert_eq!(proxy.apply(snapshot), Vec::<String>::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .expect("the system gives a thread an event queue");
        Self {
            worker: Worker::new(proxy.shared.clone()),
            listener: Arc::new(ArcSwap::new(proxy.config.listeners["all"].clone())),
            runtime,
            _proxy: proxy,
        }
    }

    fn serve(&self, bytes: &[u8]) {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Rc::new(Downstream {
            worker: self.worker.clone(),
            listener: self.listener.clone(),
            remote: address,
            local: address,
            destination: None,
            hello: OnceCell::new(),
            peer: None,
            principal: crate::stats::istio::PrincipalId::NONE,
            encrypted: false,
        });
        self.runtime.block_on(async {
            let (mut client, server) = duplex(64 * 1024);
            let asking = async {
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let mut answer = Vec::new();
                let _ = client.read_to_end(&mut answer).await;
            };
            tokio::join!(codec::serve(server, connection), asking);
        });
        assert_eq!(self.worker.active.get(), 0, "every request ends");
    }
}

/// Carries a connection with these bytes to its end.
pub fn http(bytes: &[u8]) {
    STAGE.with(|stage| stage.get_or_init(Stage::new).serve(bytes));
}

/// Reads what is read by hand.
pub fn first_bytes(bytes: &[u8]) {
    let _ = sni::read(bytes);
    let mut messages = Messages::default();
    bytes.chunks(3).for_each(|chunk| messages.read(chunk));
    let _ = metadata::protobuf::decode(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(normal) = path::normalize(text) {
            let again = path::normalize(&normal).map(|again| again.into_owned());
            assert!(
                text.contains('%') || again.as_deref() == Some(&*normal),
                "{text:?}"
            );
        }
        let _ = crate::door::parse(text, 80);
        let _ = access_log::Format::compile(&mesh_config::AccessLogFormat::Text(text.into()));
    }
}

/// Decodes a line of the configuration stream, compiles it and prints it for Envoy.
pub fn config(bytes: &[u8]) {
    let Ok(update) = serde_json::from_slice::<Update>(bytes) else {
        return;
    };
    let Ok(snapshot) = Snapshot::default().apply(update) else {
        return;
    };
    let _ = mesh_config::envoy::dump::config_dump(&snapshot, &Default::default());
    let _ = Config::default().apply(snapshot, &Registry::default(), &Labels::default());
}
