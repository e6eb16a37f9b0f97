//! Pods as real processes, on a whole cluster in this process.

use k8s_embedded::auth::Authority;
use k8s_embedded::controllers::{self, ControllersConfig};
use k8s_embedded::images::Catalogue;
use k8s_embedded::informers::Informers;
use k8s_embedded::network::{self, addresses::AddressPlan};
use k8s_embedded::runtime::{self, RuntimeConfig, kubelet::Kubelet};
use k8s_embedded::server::{ApiServer, Config};
use k8s_embedded::store::Store;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const IMAGES: &str = r#"[{"name": "busybox"}]"#;
const NODE: &str = "node";

/// Runs `test` on a cluster with address index `index`, then stops the cluster.
async fn on_cluster<F: Future<Output = ()>>(index: u8, test: impl FnOnce(Client) -> F) {
    // shown for a test that fails; another test may have been first
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let folder = tempfile::tempdir().unwrap();
    let plan = AddressPlan::new(index).unwrap();
    let server = server(folder.path(), plan);
    server.bootstrap().await.map_err(|e| e.message).unwrap();
    let kubelet = Kubelet::default();
    server.set_node(Arc::new(kubelet.clone()));
    let client = server.client();
    let (shutdown, caches) = (CancellationToken::new(), CancellationToken::new());
    let informers = Informers::start(&client, &caches);
    let parts = async {
        let config = ControllersConfig {
            node_name: NODE.into(),
            ca_pem: server.authority().ca.clone(),
        };
        let config = (client.clone(), informers.clone(), config);
        tokio::join!(
            controllers::run(config.0, config.1, config.2, shutdown.clone()),
            network::run(client.clone(), informers.clone(), plan, shutdown.clone()),
        )
    };
    let shim = env!("CARGO_BIN_EXE_container-shim");
    let config = RuntimeConfig {
        state_dir: folder.path().join("node"),
        address_index: index,
        images: Catalogue::from_json(IMAGES).unwrap(),
        node_name: NODE.into(),
        api_address: "127.0.0.1:1".parse().unwrap(),
        self_exe: shim.into(),
        shim_exe: shim.into(),
    };
    let pods = runtime::run(
        client.clone(),
        informers.clone(),
        config,
        kubelet,
        shutdown.clone(),
    );
    let test = async {
        let limit = Duration::from_secs(120);
        tokio::time::timeout(limit, test(client.clone()))
            .await
            .expect("the test ends in time");
        shutdown.cancel();
    };
    let (_, pods, ()) = tokio::join!(parts, pods, test);
    pods.unwrap();
    caches.cancel();
}

fn server(folder: &Path, plan: AddressPlan) -> ApiServer {
    ApiServer::new(
        Store::open(&folder.join("state.redb")).unwrap(),
        Config {
            addresses: plan,
            authority: Authority::load_or_generate(
                &folder.join("pki"),
                &["127.0.0.1".parse().unwrap()],
            )
            .unwrap(),
        },
    )
}

/// Polls until `test` gives a value; the whole test has a deadline.
async fn until<T>(mut test: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = test().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pod(name: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn shell(script: &str) -> Value {
    json!({"name": "c", "image": "busybox", "command": ["sh", "-c", script]})
}

async fn create(pods: &Api<Pod>, pod: &Pod) {
    // the namespace may not have its ServiceAccount yet
    until(async || pods.create(&PostParams::default(), pod).await.ok()).await;
}

fn status(pod: &Pod) -> Value {
    serde_json::to_value(pod.status.clone().unwrap_or_default()).unwrap()
}

fn is_ready(pod: &Pod) -> bool {
    status(pod)["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn ready(pods: &Api<Pod>, name: &str) -> Pod {
    until(async || pods.get(name).await.ok().filter(is_ready)).await
}

async fn log_with(pods: &Api<Pod>, name: &str, text: &str) {
    until(async || {
        let log = pods.logs(name, &LogParams::default()).await.ok()?;
        log.contains(text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deployment_becomes_processes_with_logs_and_ends() {
    on_cluster(201, async |client| {
        let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
        let pods: Api<Pod> = Api::default_namespaced(client);
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [shell("echo hello; exec sleep 600")]},
                },
            },
        }))
        .unwrap();
        let params = PostParams::default();
        deployments.create(&params, &deployment).await.unwrap();
        until(async || {
            let status = deployments.get("web").await.unwrap().status?;
            (status.available_replicas == Some(2)).then_some(())
        })
        .await;
        let list = pods.list(&ListParams::default()).await.unwrap();
        let name = list.items[0].metadata.name.clone().unwrap();
        log_with(&pods, &name, "hello\n").await;
        let delete = DeleteParams::background();
        deployments.delete("web", &delete).await.unwrap();
        until(async || {
            let list = pods.list(&ListParams::default()).await.unwrap();
            list.items.is_empty().then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_is_counted_and_its_log_kept() {
    on_cluster(202, async |client| {
        let pods: Api<Pod> = Api::default_namespaced(client);
        let crash = pod("crash", json!({"containers": [shell("echo bang; exit 3")]}));
        create(&pods, &crash).await;
        until(async || {
            let status = status(&pods.get("crash").await.unwrap());
            let container = &status["containerStatuses"][0];
            let backing_off = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
            (backing_off
                && container["restartCount"] == 1
                && container["lastState"]["terminated"]["exitCode"] == 3)
                .then_some(())
        })
        .await;
        let previous = LogParams {
            previous: true,
            ..LogParams::default()
        };
        assert_eq!(pods.logs("crash", &previous).await.unwrap(), "bang\n");
    })
    .await;
}

#[tokio::test]
async fn more_memory_than_its_limit_kills_a_container() {
    on_cluster(206, async |client| {
        let pods: Api<Pod> = Api::default_namespaced(client);
        let greedy = "x=$(head -c 50000000 /dev/zero | tr '\\0' x); sleep 600";
        let mut container = shell(greedy);
        container["resources"] = json!({"limits": {"memory": "20Mi"}});
        create(&pods, &pod("greedy", json!({"containers": [container]}))).await;
        let ended = until(async || {
            let status = status(&pods.get("greedy").await.unwrap());
            let container = &status["containerStatuses"][0];
            let ended = container["lastState"]["terminated"].clone();
            (container["restartCount"].as_u64() >= Some(1) && ended.is_object()).then_some(ended)
        })
        .await;
        assert_eq!(ended["reason"], "OOMKilled", "{ended}");
        assert_eq!(ended["exitCode"], 137, "{ended}");
    })
    .await;
}

#[tokio::test]
async fn an_unknown_image_says_how_to_map_it() {
    on_cluster(203, async |client| {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let events: Api<Event> = Api::default_namespaced(client);
        let container = json!({"name": "c", "image": "nobody/knows:1"});
        create(&pods, &pod("p", json!({"containers": [container]}))).await;
        until(async || {
            let status = status(&pods.get("p").await.unwrap());
            let waiting = &status["containerStatuses"][0]["state"]["waiting"];
            (waiting["reason"] == "ImagePullBackOff").then_some(())
        })
        .await;
        until(async || {
            let list = events.list(&ListParams::default()).await.unwrap();
            let told = list.items.iter().any(|event| {
                let message = event.message.as_deref().unwrap_or_default();
                message.contains("meshdojo image map nobody/knows:1 -- COMMAND")
            });
            told.then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn init_sidecar_environment_and_volumes() {
    on_cluster(204, async |client| {
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let pods: Api<Pod> = Api::default_namespaced(client);
        let map = json!({"metadata": {"name": "cm"}, "data": {"key": "from-the-map"}});
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
        let mounts = json!([{"name": "v", "mountPath": "/etc/v"}, {"name": "e", "mountPath": "/share"}]);
        let with = |name: &str, script: &str, extra: Value| {
            let mut container = shell(script);
            container["name"] = name.into();
            container["volumeMounts"] = mounts.clone();
            json_patch::merge(&mut container, &extra);
            container
        };
        let started = json!({
            "restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["sh", "-c", "test -e $DOJO_ROOT/share/up"]}, "periodSeconds": 1},
        });
        let env = json!({"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]});
        let spec = json!({
            "volumes": [{"name": "v", "configMap": {"name": "cm"}}, {"name": "e", "emptyDir": {}}],
            "initContainers": [
                with("first", "echo init > $DOJO_ROOT/share/first", json!({})),
                with("side", "touch $DOJO_ROOT/share/up; exec sleep 600", started),
            ],
            "containers": [
                with("c", "cat $DOJO_ROOT/share/first $DOJO_ROOT/etc/v/key; echo; echo $IP $DOJO_POD_IP; exec sleep 600", env),
            ],
        });
        create(&pods, &pod("p", spec)).await;
        let pod = ready(&pods, "p").await;
        let ip = pod.status.unwrap().pod_ip.unwrap();
        until(async || {
            let of_app = LogParams { container: Some("c".into()), ..LogParams::default() };
            let log = pods.logs("p", &of_app).await.ok()?;
            (log == format!("init\nfrom-the-map\n{ip} {ip}\n")).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_door_resolves_names_and_leaves_from_the_pod() {
    on_cluster(205, async |client| {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let services: Api<Service> = Api::default_namespaced(client.clone());
        let slices: Api<EndpointSlice> = Api::default_namespaced(client);
        create(
            &pods,
            &pod("p", json!({"containers": [shell("exec sleep 600")]})),
        )
        .await;
        let ip = ready(&pods, "p").await.status.unwrap().pod_ip.unwrap();
        let backend = tokio::net::TcpListener::bind("127.205.0.1:0")
            .await
            .unwrap();
        let port = backend.local_addr().unwrap().port();
        let params = PostParams::default();
        let service = json!({"metadata": {"name": "api"}, "spec": {"ports": [{"port": 80}]}});
        let service: Service = serde_json::from_value(service).unwrap();
        services.create(&params, &service).await.unwrap();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": port}],
            "endpoints": [{"addresses": ["127.205.0.1"]}],
        }))
        .unwrap();
        slices.create(&params, &slice).await.unwrap();
        let ask = async |request: &str| {
            let mut door = tokio::net::TcpStream::connect(format!("{ip}:15099"))
                .await
                .ok()?;
            door.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            door.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        let serve = async {
            let (mut stream, from) = backend.accept().await.unwrap();
            assert_eq!(from.ip().to_string(), ip);
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            let head = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            head
        };
        let request =
            "GET http://api.default/x?y HTTP/1.1\r\nhost: api.default\r\nconnection: close\r\n\r\n";
        // until the door has seen the Service's endpoint
        let asking = until(async || ask(request).await.filter(|a| a.starts_with("HTTP/1.1 200")));
        let (head, answer) = tokio::join!(serve, asking);
        assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
        assert!(answer.ends_with("ok"), "{answer}");
        let unknown = "GET http://nosuch/ HTTP/1.1\r\nhost: nosuch\r\nconnection: close\r\n\r\n";
        let answer = ask(unknown).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 502") && answer.contains("no such service"),
            "{answer}"
        );
    })
    .await;
}
