//! `k8s/install/crds.yaml` is what the types say. `BLESS=1 cargo test -p mesh-api --test install`
//! writes it anew.

use std::path::Path;

const HEADER: &str = "# Generated from the types of mesh/api; see mesh/api/tests/install.rs.\n";

#[test]
fn installed_definitions_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/install/crds.yaml");
    let mut wanted = HEADER.to_owned();
    for crd in mesh_api::crds() {
        wanted.push_str("---\n");
        wanted.push_str(&serde_norway::to_string(&crd).unwrap());
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let installed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        installed == wanted,
        "{} is out of date: run with BLESS=1",
        path.display()
    );
}
