//! The installed images are those of this version.

#[test]
fn images_are_of_this_version() {
    for (text, image) in [
        (
            include_str!("../../../k8s/install/istiod.yaml"),
            "istio/pilot",
        ),
        (
            include_str!("../../../k8s/install/ingressgateway.yaml"),
            "istio/proxyv2",
        ),
    ] {
        let line = format!("image: {image}:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&line), "k8s/install should say {line:?}");
    }
}
