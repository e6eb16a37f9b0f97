//! The installed images are those of this version, and the chart installs the same objects.

use mesh_control::world::MeshSettings;
use serde::Deserialize;
use serde_json::Value;

const ISTIOD: &str = include_str!("../../../k8s/install/istiod.yaml");
const GATEWAY: &str = include_str!("../../../k8s/install/ingressgateway.yaml");
const CHART: &str = include_str!("../../../k8s/helm/templates/install.yaml");

#[test]
fn images_are_of_this_version() {
    for text in [ISTIOD, GATEWAY] {
        let line = concat!("image: meshdojo/meshdojo:", env!("CARGO_PKG_VERSION"), "\n");
        assert!(text.contains(line), "k8s/install should say {line:?}");
    }
    let chart = include_str!("../../../k8s/helm/Chart.yaml");
    let version = concat!("appVersion: ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(chart.contains(version), "k8s/helm should say {version:?}");
}

/// The chart's template takes the files of `k8s/install` and replaces words; with its own values by
/// the words themselves.
#[test]
fn the_chart_installs_what_kustomize_does() {
    let base = include_str!("../../../k8s/install/kustomization.yaml");
    for resource in base.lines().filter_map(|line| line.strip_prefix("  - ")) {
        // The namespace is Helm's to make.
        let named = CHART.contains(&format!("{resource:?}"));
        assert_eq!(named, resource != "namespace.yaml", "{resource}");
    }
    let values = include_str!("../../../k8s/helm/values.yaml");
    let replaced: Vec<&str> = CHART
        .lines()
        .filter_map(|line| line.split_once("replace \"")?.1.split_once('"'))
        .map(|(word, _)| word)
        .collect();
    assert_eq!(replaced.len(), 4);
    let autoscaling = include_str!("../../../k8s/install/high-availability.yaml");
    let files = [ISTIOD, GATEWAY, autoscaling].concat();
    for word in replaced {
        assert!(files.contains(word), "no {word:?} in k8s/install");
        let value = word.rsplit(": ").next().unwrap_or(word);
        assert!(values.contains(&format!(": {value}\n")), "{word}");
    }
}

/// On several nodes the settings are the same but for the collector of spans, which we know how to use.
#[test]
fn a_large_mesh_has_our_settings_and_a_collector() {
    let own = mesh_of(ISTIOD);
    let large = mesh_of(include_str!("../../../k8s/large/mesh.yaml"));
    assert!(large.starts_with(&own), "{large}");
    let settings = MeshSettings::read(&large).unwrap();
    assert_eq!(settings.complaints, Vec::<String>::new());
    let spans = settings.tracing.expect("spans go somewhere");
    let to = format!("{spans:?}");
    assert!(
        to.contains("otel-collector.istio-system.svc.cluster.local"),
        "{to}"
    );
}

/// The mesh's settings in a file that has the ConfigMap `istio`.
fn mesh_of(text: &'static str) -> String {
    let own = find(&objects(text), "ConfigMap", "istio");
    own["data"]["mesh"].as_str().unwrap().to_owned()
}

fn objects(text: &'static str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn find(objects: &[Value], kind: &str, name: &str) -> Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap().clone()
}

/// Upstream Istio is installed with the settings, the ports, the labels and the account that we install.
#[test]
fn upstream_istio_is_installed_alike() {
    let values = |text: &str| -> Value { serde_norway::from_str(text).unwrap() };
    let own = values(&mesh_of(ISTIOD));
    let mut upstream = values(include_str!("../../../k8s/istio/istiod.yaml"));
    let mesh = upstream["meshConfig"].as_object_mut().unwrap();
    // Ours keep all counters.
    let defaults = mesh["defaultConfig"].as_object_mut().unwrap();
    assert!(defaults.remove("proxyStatsMatcher").is_some());
    assert_eq!(upstream["meshConfig"], own);

    let gateway = values(include_str!("../../../k8s/istio/gateway.yaml"));
    let ours = objects(GATEWAY);
    let service = find(&ours, "Service", "istio-ingressgateway");
    assert_eq!(service["spec"]["selector"], gateway["labels"]);
    assert_eq!(service["spec"]["type"], gateway["service"]["type"]);
    let ports = |ports: &Value| {
        let ports = ports.as_array().unwrap().iter();
        let of = |port: &Value| ["name", "port", "targetPort"].map(|field| port[field].clone());
        ports.map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        ports(&service["spec"]["ports"]),
        ports(&gateway["service"]["ports"])
    );
    let deployment = find(&ours, "Deployment", "istio-ingressgateway");
    assert_eq!(
        deployment["spec"]["template"]["spec"]["serviceAccountName"],
        gateway["serviceAccount"]["name"]
    );
}
