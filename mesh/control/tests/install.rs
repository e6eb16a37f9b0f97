//! The installed images are those of this version.

#[test]
fn images_are_of_this_version() {
    for text in [
        include_str!("../../../k8s/install/istiod.yaml"),
        include_str!("../../../k8s/install/ingressgateway.yaml"),
    ] {
        let line = concat!("image: meshdojo/meshdojo:", env!("CARGO_PKG_VERSION"), "\n");
        assert!(text.contains(line), "k8s/install should say {line:?}");
    }
}
