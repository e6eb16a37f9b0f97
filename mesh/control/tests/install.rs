//! The installed images are those of this version, and the chart installs the same objects.

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
