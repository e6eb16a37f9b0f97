//! The API server as clients see it: kube-rs over the router, without a socket.

use futures::{StreamExt, TryStreamExt};
use k8s_embedded::auth::{Authority, User};
use k8s_embedded::network::addresses::AddressPlan;
use k8s_embedded::server::{ApiServer, Config};
use k8s_embedded::store::Store;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::response::StatusDetails;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest time that anything here may take.
const DEADLINE: Duration = Duration::from_secs(20);

async fn server() -> ApiServer {
    let server = ApiServer::new(
        Store::in_memory(),
        Config {
            addresses: AddressPlan::new(16).unwrap(),
            authority: Authority::generate(&[]).unwrap(),
        },
    );
    server.bootstrap().await.unwrap();
    server
}

async fn client() -> Client {
    server().await.client()
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str, data: Value) -> ConfigMap {
    parse(json!({"metadata": {"name": name}, "data": data}))
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "x:1"}]},
            },
        },
    })
}

/// The code, reason and message of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        error => panic!("no answer of the API: {error}"),
    }
}

#[tokio::test]
async fn objects_are_created_changed_and_deleted() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    let created = api
        .create(&PostParams::default(), &config_map("x", json!({"a": "1"})))
        .await
        .unwrap();
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    assert_eq!(created.namespace().as_deref(), Some("default"));

    let patch = json!({"data": {"b": "2"}});
    let patched = api
        .patch("x", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(patched.data.as_ref().unwrap().len(), 2);
    assert_ne!(patched.resource_version(), created.resource_version());
    // nothing changes: no new version
    let same = api
        .patch("x", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(same.resource_version(), patched.resource_version());

    let (code, reason, _) = refusal(api.replace("x", &PostParams::default(), &created).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    let (code, reason, message) = refusal(
        api.create(&PostParams::default(), &config_map("x", json!({})))
            .await,
    );
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(message, "configmaps \"x\" already exists");

    let status = api.delete("x", &DeleteParams::default()).await.unwrap();
    let details: Option<StatusDetails> = status.right().unwrap().details;
    assert_eq!(details.unwrap().uid, created.uid().unwrap_or_default());
    let (code, _, message) = refusal(api.get("x").await);
    assert_eq!(
        (code, message.as_str()),
        (404, "configmaps \"x\" not found")
    );
}

#[tokio::test]
async fn bad_objects_are_refused_with_the_field() {
    let client = client().await;
    let dynamic = |kind: &str| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        Api::<DynamicObject>::default_namespaced_with(client.clone(), &resource)
    };
    let strict = PostParams {
        field_manager: None,
        ..PostParams::default()
    };
    let request = |body: Value| {
        http::Request::post("/api/v1/namespaces/default/configmaps?fieldValidation=Strict")
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .unwrap()
    };
    let misspelt = json!({"metadata": {"name": "x", "lables": {}}, "dataa": {"a": "b"}});
    let (code, _, message) = refusal(client.request::<ConfigMap>(request(misspelt)).await);
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.lables\", unknown field \"dataa\""
    );
    // without strictness the field is dropped
    let lenient: DynamicObject =
        parse(json!({"metadata": {"name": "y"}, "dataa": {"a": "b"}, "data": {"c": "d"}}));
    let stored = dynamic("ConfigMap")
        .create(&strict, &lenient)
        .await
        .unwrap();
    assert!(stored.data["dataa"].is_null());

    let long = "n".repeat(254);
    let too_long = config_map(&long, json!({}));
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (code, reason, _) = refusal(api.create(&strict, &too_long).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));

    let large = config_map("large", json!({"a": "x".repeat(4 << 20)}));
    let (code, reason, _) = refusal(api.create(&strict, &large).await);
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));

    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "nosuch");
    let (code, _, message) = refusal(elsewhere.create(&strict, &config_map("x", json!({}))).await);
    assert_eq!(
        (code, message.as_str()),
        (404, "namespaces \"nosuch\" not found")
    );
}

#[tokio::test]
async fn watches_tell_every_change_and_expire() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    let start = api.list(&ListParams::default()).await.unwrap();
    let version = start.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("watched=yes");
    let mut events = api.watch(&params, &version).await.unwrap().boxed();

    let mut object = config_map("x", json!({}));
    object.labels_mut().insert("watched".into(), "yes".into());
    api.create(&PostParams::default(), &object).await.unwrap();
    api.create(&PostParams::default(), &config_map("y", json!({})))
        .await
        .unwrap();
    let unlabel = json!({"metadata": {"labels": null}});
    api.patch("x", &PatchParams::default(), &Patch::Merge(&unlabel))
        .await
        .unwrap();
    let mut next = async || {
        tokio::time::timeout(DEADLINE, events.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    };
    assert!(matches!(next().await, WatchEvent::Added(o) if o.name_any() == "x"));
    // it has stopped to match
    assert!(matches!(next().await, WatchEvent::Deleted(o) if o.name_any() == "x"));

    for n in 0..1100 {
        let patch = json!({"data": {"n": n.to_string()}});
        api.patch("y", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }
    let mut old = api
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    let event = tokio::time::timeout(DEADLINE, old.try_next())
        .await
        .unwrap();
    assert!(matches!(event.unwrap(), Some(WatchEvent::Error(e)) if e.code == 410));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let api: Api<ConfigMap> = Api::default_namespaced(client().await);
    for n in 0..7 {
        api.create(
            &PostParams::default(),
            &config_map(&format!("c{n}"), json!({})),
        )
        .await
        .unwrap();
    }
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(3);
    loop {
        let page = api.list(&params).await.unwrap();
        assert!(page.items.len() <= 3);
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_ {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names.len(), 8, "{names:?}");
    let fields = ListParams::default().fields("metadata.name=c3");
    assert_eq!(api.list(&fields).await.unwrap().items.len(), 1);
    let (code, _, _) = refusal(api.list(&ListParams::default().fields("data.x=1")).await);
    assert_eq!(code, 400);
}

#[tokio::test]
async fn server_side_apply_keeps_owners_apart() {
    let api: Api<Deployment> = Api::default_namespaced(client().await);
    let one = PatchParams::apply("one");
    api.patch("web", &one, &Patch::Apply(&deployment("web")))
        .await
        .unwrap();
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}});
    let two = PatchParams::apply("two");
    let shared = api
        .patch("web", &two, &Patch::Apply(&scaled))
        .await
        .unwrap();
    assert_eq!(shared.spec.unwrap().replicas, Some(3));
    let mut taking = deployment("web");
    taking["spec"]["replicas"] = 1.into();
    let (code, reason, message) = refusal(api.patch("web", &one, &Patch::Apply(&taking)).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("\"two\": .spec.replicas"), "{message}");
    let forced = api
        .patch("web", &one.clone().force(), &Patch::Apply(&taking))
        .await
        .unwrap();
    assert_eq!(forced.spec.unwrap().replicas, Some(1));
}

#[tokio::test]
async fn status_and_scale_are_apart_from_spec() {
    let api: Api<Deployment> = Api::default_namespaced(client().await);
    let created = api
        .create(&PostParams::default(), &parse(deployment("web")))
        .await
        .unwrap();
    assert_eq!(created.spec.as_ref().unwrap().replicas, Some(1));
    let status =
        json!({"status": {"replicas": 1, "observedGeneration": 1}, "spec": {"replicas": 9}});
    let changed = api
        .patch_status("web", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    assert_eq!(changed.spec.unwrap().replicas, Some(1));
    assert_eq!(changed.status.unwrap().replicas, Some(1));
    assert_eq!(changed.metadata.generation, Some(1));
    let scale = json!({"spec": {"replicas": 4}});
    let scaled = api
        .patch_scale("web", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(4));
    assert_eq!(scaled.status.unwrap().selector.as_deref(), Some("app=web"));
    assert_eq!(api.get("web").await.unwrap().metadata.generation, Some(2));
}

#[tokio::test]
async fn finalizers_and_namespaces_end_in_order() {
    let client = client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut object = config_map("x", json!({}));
    object.finalizers_mut().push("example.com/hold".into());
    api.create(&PostParams::default(), &object).await.unwrap();
    api.delete("x", &DeleteParams::default()).await.unwrap();
    let waiting = api.get("x").await.unwrap();
    assert!(waiting.metadata.deletion_timestamp.is_some());
    let release = json!({"metadata": {"finalizers": null}});
    api.patch("x", &PatchParams::default(), &Patch::Merge(&release))
        .await
        .unwrap();
    assert!(api.get_opt("x").await.unwrap().is_none());

    let namespaces: Api<Namespace> = Api::all(client.clone());
    let demo: Namespace = parse(json!({"metadata": {"name": "demo"}}));
    let made = namespaces
        .create(&PostParams::default(), &demo)
        .await
        .unwrap();
    assert_eq!(made.labels()["kubernetes.io/metadata.name"], "demo");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "demo");
    assert!(accounts.get_opt("default").await.unwrap().is_some());
    namespaces
        .delete("demo", &DeleteParams::default())
        .await
        .unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "demo");
    let (code, _, message) = refusal(
        inside
            .create(&PostParams::default(), &config_map("x", json!({})))
            .await,
    );
    assert_eq!(code, 403);
    assert!(
        message.ends_with("because it is being terminated"),
        "{message}"
    );
    let mut ending = namespaces.get("demo").await.unwrap();
    ending.spec.as_mut().unwrap().finalizers = Some(Vec::new());
    let body = serde_json::to_vec(&ending).unwrap();
    let finalize = http::Request::put("/api/v1/namespaces/demo/finalize")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    client.request::<Namespace>(finalize).await.unwrap();
    assert!(namespaces.get_opt("demo").await.unwrap().is_none());
}

#[tokio::test]
async fn pods_get_an_account_and_services_an_address() {
    let client = client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod: Pod = parse(json!({
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "c", "image": "x:1"}]},
    }));
    let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
    assert!(pod.name_any().starts_with("web-") && pod.name_any().len() == 9);
    let spec = pod.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!(spec.containers[0].volume_mounts.as_ref().unwrap().len(), 1);
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    let label = json!({"metadata": {"labels": {"x": "y"}}});
    let name = pod.metadata.name.unwrap();
    pods.patch(&name, &PatchParams::default(), &Patch::Merge(&label))
        .await
        .unwrap();
    let running = json!({"status": {"phase": "Running"}});
    let changed = pods
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&running))
        .await
        .unwrap();
    assert_eq!(changed.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(changed.metadata.labels.unwrap()["x"], "y");

    let services: Api<Service> = Api::default_namespaced(client);
    let service: Service = parse(json!({
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }));
    let service = services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("127.16.128.2"));
    assert_eq!(spec.ports.unwrap()[0].node_port, Some(30000));
}

fn things() -> CustomResourceDefinition {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "colour": {"type": "string", "default": "red"}}}}}});
    parse(json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema},
                {"name": "v1beta1", "served": true, "storage": false, "schema": schema}],
        },
    }))
}

#[tokio::test]
async fn custom_resources_follow_their_definition() {
    let client = client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &things())
        .await
        .unwrap();
    let api = |version: &str| {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", version, "Thing"));
        Api::<DynamicObject>::default_namespaced_with(client.clone(), &resource)
    };
    let thing = |size: Value| -> DynamicObject {
        parse(json!({"apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "a"}, "spec": {"size": size, "shape": "round"}}))
    };
    let (code, _, message) = refusal(
        api("v1")
            .create(&PostParams::default(), &thing("big".into()))
            .await,
    );
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.size in body must be of type integer: \"string\""),
        "{message}"
    );
    let made = api("v1")
        .create(&PostParams::default(), &thing(2.into()))
        .await
        .unwrap();
    assert_eq!(made.data["spec"], json!({"size": 2, "colour": "red"}));
    let other = api("v1beta1").get("a").await.unwrap();
    assert_eq!(other.types.unwrap().api_version, "example.com/v1beta1");

    definitions
        .delete("things.example.com", &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::timeout(DEADLINE, async {
        while definitions
            .get_opt("things.example.com")
            .await
            .unwrap()
            .is_some()
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let (code, _, _) = refusal(api("v1").get("a").await);
    assert_eq!(code, 404);
}

#[tokio::test]
async fn tokens_stand_for_their_account() {
    let server = server().await;
    let client = server.client();
    let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/default/token")
        .header("content-type", "application/json")
        .body(
            json!({"spec": {"audiences": ["istio-ca"]}})
                .to_string()
                .into_bytes(),
        )
        .unwrap();
    let answer: Value = client.request(request).await.unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let reviews: Api<TokenReview> = Api::all(client);
    let review = async |audience: &str, token: &str| {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let review = reviews.create(&PostParams::default(), &review).await;
        review.unwrap().status.unwrap()
    };
    let status = review("istio-ca", token).await;
    assert_eq!(status.authenticated, Some(true));
    assert_eq!(
        status.user.unwrap().username.as_deref(),
        Some("system:serviceaccount:default:default")
    );
    assert_ne!(review("other", token).await.authenticated, Some(true));
    assert_ne!(review("istio-ca", "x.y.z").await.authenticated, Some(true));

    let nobody: Api<Pod> = Api::default_namespaced(server.client_as(User::anonymous()));
    let (code, _, _) = refusal(nobody.list(&ListParams::default()).await);
    assert_eq!(code, 403);
}
