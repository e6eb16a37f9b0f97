//! `meshdojo kubectl`: the verbs that measure pods, copy files to them, type into them and edit objects.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Step,
    namespace::{Namespace, contains, web},
    own::{own, own_ok, still, text, words},
};
use anyhow::ensure;
use dojo_tests::{dojo::binary, kubectl};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("own_kubectl_measures", measures),
    ("own_kubectl_copies_files", copies_files),
    ("own_kubectl_runs_and_attaches", runs_and_attaches),
    ("own_kubectl_edits_and_compares", edits_and_compares),
];

/// Without the amounts, which are others at every moment.
fn unmeasured(text: &str) -> String {
    let amount = regex::Regex::new(r"\b[0-9]+(m\b|Mi\b|%)").expect("a constant that parses");
    still(&amount.replace_all(text, "N"))
}

fn measures(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    for line in [
        "top pods",
        "top pod -l app=web --containers",
        "top pods --no-headers --sort-by=cpu",
        "top nodes",
    ] {
        // A container that has just started has not been measured yet.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let theirs = kubectl::run(&ns.dojo.kubeconfig(), &ns.arguments(line), "")?;
            let ours = own(ns, &words(line), "")?;
            let (theirs, ours) = (text(&theirs.stdout), text(&ours.stdout));
            if !theirs.is_empty() && unmeasured(&theirs) == unmeasured(&ours) {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "{line}\n--- kubectl\n{theirs}\n--- meshdojo kubectl\n{ours}"
            );
        }
    }
    Ok(())
}

fn copies_files(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    let pod = ns.ok("get pods -o jsonpath={.items[0].metadata.name}")?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(at("sent/below"))?;
    std::fs::write(at("sent/below/file"), "deep")?;
    let copy = |from: &str, to: &str| own(ns, &["cp", from, to], "");
    // To a folder that is there goes the folder, to another name what is in it.
    for target in ["/tmp", "/tmp/named"] {
        let told = copy(&at("sent"), &format!("{pod}:{target}"))?;
        ensure!(told.status.success(), "{told:?}");
    }
    for path in ["/tmp/sent/below/file", "/tmp/named/below/file"] {
        let told = own_ok(ns, &format!("exec {pod} -- cat {path}"), "")?;
        ensure!(told == "deep", "{path}: {told}");
    }
    let told = copy(&format!("{}/{pod}:/tmp/named", ns.name), &at("back"))?;
    ensure!(told.status.success(), "{told:?}");
    ensure!(std::fs::read_to_string(at("back/below/file"))? == "deep");
    let told = copy(&format!("{pod}:/tmp/none"), &at("none"))?;
    ensure!(!told.status.success(), "{told:?}");
    let told = copy(&at("none"), &format!("{pod}:/tmp"))?;
    contains(&text(&told.stderr), &["doesn't exist in local filesystem"])
}

fn runs_and_attaches(ns: &Namespace) -> anyhow::Result<()> {
    let line = "run -i --rm --restart=Never shell --image=busybox -- sh";
    let told = own(ns, &words(line), "echo typed here; exit 3\n")?;
    ensure!(
        text(&told.stdout) == "typed here\npod \"shell\" deleted\n",
        "{told:?}"
    );
    ensure!(told.status.code() == Some(3), "{told:?}");
    let pod = "---\n{ apiVersion: v1, kind: Pod, metadata: { name: cat }, spec: { restartPolicy: Never, containers: [{ name: cat, image: busybox, stdin: true, stdinOnce: true, command: [cat] }] } }";
    ns.typed("apply -f -", pod)?;
    ns.ok("wait pod/cat --for=condition=Ready --timeout=60s")?;
    let told = own(ns, &["attach", "-i", "cat"], "typed\n")?;
    ensure!(text(&told.stdout) == "typed\n", "{told:?}");
    Ok(())
}

fn edits_and_compares(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    let edit = |editor: &str| {
        Command::new(binary())
            .args(["kubectl", "-n", &ns.name, "edit", "deployment/web"])
            .env("KUBECONFIG", ns.dojo.kubeconfig())
            .env("KUBE_EDITOR", editor)
            .output()
    };
    let told = edit("sed -i 's/replicas: 1/replicas: 2/'")?;
    ensure!(
        text(&told.stdout) == "deployment.apps/web edited\n",
        "{told:?}"
    );
    ensure!(ns.ok("get deployment web -o jsonpath={.spec.replicas}")? == "2");
    let told = edit("true")?;
    ensure!(
        text(&told.stdout) == "Edit cancelled, no changes made.\n",
        "{told:?}"
    );
    let told = edit("sed -i 's/replicas: 2/replicas: none/'")?;
    ensure!(!told.status.success(), "{told:?}");
    contains(&text(&told.stderr), &["A copy of your changes"])?;

    let told = own(ns, &["diff", "-f", "-"], &web(1))?;
    ensure!(told.status.code() == Some(1), "{told:?}");
    contains(&text(&told.stdout), &["-  replicas: 2", "+  replicas: 1"])?;
    ensure!(own_ok(ns, "diff -f -", &web(2))?.is_empty());
    for (how, note) in [("client", "dry run"), ("server", "server dry run")] {
        let told = own_ok(ns, &format!("apply --dry-run={how} -f -"), &web(1))?;
        contains(
            &told,
            &[&format!("deployment.apps/web configured ({note})")],
        )?;
    }
    ensure!(ns.ok("get deployment web -o jsonpath={.spec.replicas}")? == "2");
    Ok(())
}
