//! The dependency rule of ARCHITECTURE.md, held against what cargo says.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// Direct dependencies within the workspace, by crate; tests' own not counted.
fn workspace() -> BTreeMap<String, Vec<Value>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let name = package["name"].as_str().expect("a name").to_owned();
            let all = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter();
            (name, all.filter(|d| d["kind"].is_null()).cloned().collect())
        })
        .collect()
}

/// Which crates of the workspace each crate may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("dojo-kit", &[]),
    ("spring", &[]),
    ("bookinfo", &["dojo-kit"]),
    ("fleetman", &["dojo-kit"]),
    ("hello", &["dojo-kit"]),
    ("delivery", &["dojo-kit", "spring"]),
    ("simple", &["dojo-kit"]),
    ("booking", &["dojo-kit", "spring"]),
    ("httpbin", &["dojo-kit"]),
    ("userlist", &["dojo-kit"]),
    ("echo", &["dojo-kit"]),
    ("dojo-tools", &["dojo-kit"]),
    ("mesh-api", &[]),
    ("mesh-config", &[]),
    ("mesh-proxy", &["mesh-config"]),
    ("mesh-redirect", &[]),
    ("mesh-control", &["mesh-api", "mesh-config"]),
    ("k8s-embedded", &[]),
    ("k8s-image", &[]),
    ("lab-runner", &[]),
];

#[test]
fn crates_use_only_what_the_rule_allows() {
    let workspace = workspace();
    for (name, dependencies) in &workspace {
        if name == "meshdojo" || name == "dojo-tests" {
            continue;
        }
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("crate {name} has no line in the dependency rule; give it one here and in ARCHITECTURE.md"));
        for dependency in dependencies {
            let used = dependency["name"].as_str().expect("a name");
            if workspace.contains_key(used) {
                assert!(allowed.contains(&used), "{name} must not use {used}");
            }
        }
    }
}

#[test]
fn the_proxy_and_the_services_know_no_kubernetes() {
    let workspace = workspace();
    for name in ["mesh-proxy", "mesh-config", "dojo-kit", "bookinfo"] {
        for dependency in &workspace[name] {
            let used = dependency["name"].as_str().expect("a name");
            assert!(
                !matches!(used, "kube" | "k8s-openapi"),
                "{name} must not use {used}"
            );
        }
    }
}

#[test]
fn versions_stand_in_one_place() {
    let root = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .expect("the root manifest");
    assert!(root.contains("[workspace.dependencies]"));
    for member in [
        "services/kit",
        "services/bookinfo",
        "mesh/api",
        "mesh/config",
        "mesh/proxy",
        "mesh/control",
        "k8s/embedded",
        "labs/runner",
        "labs/cli",
        "tests",
    ] {
        let path = format!("{}/../{member}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("a member's manifest");
        let dependencies = text.split("dependencies]").skip(1).flat_map(str::lines);
        for line in dependencies.filter(|line| line.contains('=') && !line.starts_with(['#', '[']))
        {
            assert!(
                line.contains("workspace = true")
                    || line.starts_with("name =")
                    || line.starts_with("path =")
                    || line.starts_with("test =")
                    || line.starts_with("harness ="),
                "{path}: {line:?} names a version; put it into the root Cargo.toml"
            );
        }
    }
}
