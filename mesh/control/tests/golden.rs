//! Manifest in, configuration out: `golden/NAME/input.yaml` is compiled for the proxies that it
//! lists and compared with `golden/NAME/snapshot.yaml`. A case that starts with `# on: OTHER` adds
//! to the objects of another case, and its snapshot holds only what differs from that one's.
//! `BLESS=1 cargo test -p mesh-control --test golden` writes the snapshots anew.

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf, sync::Arc};

use mesh_config::{ProxyId, Snapshot};
use mesh_control::{compile::Compiler, world::World};
use serde::Deserialize;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Objects and proxies of a case, those that it is based on first.
fn read(case: &str, world: &mut World, proxies: &mut Vec<ProxyId>) -> Option<String> {
    let path = folder().join(case).join("input.yaml");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let base = text
        .strip_prefix("# on: ")
        .and_then(|rest| rest.lines().next())
        .map(str::to_owned);
    if let Some(base) = &base {
        read(base, world, proxies);
    }
    for document in serde_norway::Deserializer::from_str(&text) {
        let mut object = Value::deserialize(document)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if object["kind"] == "ProxyId" {
            proxies.push(serde_json::from_value(object).unwrap());
        } else if !object.is_null() {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .entry("namespace")
                .or_insert("default".into());
            world.insert(&object).unwrap();
        }
    }
    base
}

fn compiled(case: &str) -> (BTreeMap<String, Snapshot>, Option<String>) {
    let (mut world, mut proxies) = Default::default();
    let base = read(case, &mut world, &mut proxies);
    let compiler = Compiler::new(Arc::new(world), 1);
    let snapshot = |proxy: &ProxyId| {
        (
            proxy.pod.clone(),
            compiler.snapshot(proxy).expect("pod of the proxy"),
        )
    };
    (proxies.iter().map(snapshot).collect(), base)
}

/// Through JSON: YAML would need tags for enums within enums.
fn yaml(value: &impl serde::Serialize) -> String {
    serde_norway::to_string(&serde_json::to_value(value).unwrap()).unwrap()
}

#[test]
fn snapshots_are_as_blessed() {
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    cases.sort();
    for case in cases.iter().map(|case| case.to_str().unwrap()) {
        let (snapshots, base) = compiled(case);
        let text = match base {
            None => yaml(&snapshots),
            Some(base) => {
                let (before, _) = compiled(&base);
                let changes: BTreeMap<_, _> = snapshots
                    .iter()
                    .map(|(pod, snapshot)| {
                        (
                            pod,
                            before
                                .get(pod)
                                .unwrap_or(&Snapshot::default())
                                .diff(snapshot),
                        )
                    })
                    .filter(|(_, update)| !update.is_empty())
                    .collect();
                yaml(&changes)
            }
        };
        let path = folder().join(case).join("snapshot.yaml");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(case.to_owned());
        }
    }
    assert!(
        wrong.is_empty(),
        "snapshots differ: {wrong:?}; bless them and look at the difference in git"
    );
}
