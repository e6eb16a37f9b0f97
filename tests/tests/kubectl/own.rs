//! `meshdojo kubectl`: what it prints is what the ordinary kubectl prints; and what both say about the slips of courses.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Step,
    namespace::{Namespace, contains, web},
};
use anyhow::{Context, ensure};
use dojo_tests::{dojo::binary, kubectl};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("own_kubectl_prints_the_same", prints_the_same),
    ("own_kubectl_changes_the_same", changes_the_same),
    ("own_kubectl_in_containers", in_containers),
    ("own_kubectl_watches", watches),
    ("slips_lead_to_the_right_command", slips),
];

/// `meshdojo kubectl ARGS` in the namespace.
pub(crate) fn own(ns: &Namespace, args: &[&str], stdin: &str) -> anyhow::Result<Output> {
    let mut child = Command::new(binary())
        .args(["kubectl", "-n", &ns.name])
        .args(args)
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    input.write_all(stdin.as_bytes())?;
    drop(input);
    Ok(child.wait_with_output()?)
}

pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It must succeed; gives what it printed.
pub(crate) fn own_ok(ns: &Namespace, line: &str, stdin: &str) -> anyhow::Result<String> {
    let output = own(ns, &words(line), stdin)?;
    ensure!(
        output.status.success(),
        "{line}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Without what changes from moment to moment: ages, and the blanks that follow from their length.
pub(crate) fn still(text: &str) -> String {
    let age = regex::Regex::new(r"\b([0-9]+[dhms])+\b").expect("a constant that parses");
    let blanks = regex::Regex::new(" +").expect("a constant that parses");
    blanks
        .replace_all(&age.replace_all(text, "AGE"), " ")
        .into_owned()
}

fn prints_the_same(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    let pod = ns.ok("get pods -o jsonpath={.items[0].metadata.name}")?;
    let wide = format!("get pod {pod} -o wide");
    for line in [
        "get pods",
        "get pods -o wide",
        "get pods -o name",
        "get pods --show-labels",
        "get pods -l app=web --no-headers",
        "get pods -L app,none",
        "get deploy,svc",
        "get all",
        "get deployment.apps/web -o yaml",
        "get svc web -o yaml",
        "get svc web -o json",
        "get pods -o yaml",
        "get deploy web -o jsonpath={.spec.template.spec.containers[*].name}",
        "get configmaps -o name",
        "get pods --sort-by=.metadata.name",
        "get pods -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName,NONE:.spec.none",
        "api-resources",
        "api-resources --namespaced=false -o name",
        "auth can-i create deployments",
        "auth can-i get pods --subresource=log --as=system:serviceaccount:default:default",
        "auth whoami",
        "create configmap one --from-literal=a=b --dry-run=server",
        "create secret generic one --from-literal=a=b --dry-run=client",
        "get endpointslices",
        "get crd virtualservices.networking.istio.io",
        "get ns kube-system -o yaml",
        "get vs",
        "rollout status deployment/web",
        "rollout history deployment/web",
        "logs deployment/web --tail=2",
        &wide,
    ] {
        // What controllers write between the two calls is no difference.
        let deadline = Instant::now() + Duration::from_secs(30);
        let (theirs, ours) = loop {
            let theirs = kubectl::run(&ns.dojo.kubeconfig(), &ns.arguments(line), "")?;
            let ours = own(ns, &words(line), "")?;
            let same = still(&text(&theirs.stdout)) == still(&text(&ours.stdout));
            if same || Instant::now() > deadline {
                break (theirs, ours);
            }
        };
        ensure!(
            still(&text(&theirs.stdout)) == still(&text(&ours.stdout)),
            "{line}\n--- kubectl\n{}\n--- meshdojo kubectl\n{}{}",
            text(&theirs.stdout),
            text(&ours.stdout),
            text(&ours.stderr)
        );
        ensure!(
            theirs.status.code() == ours.status.code(),
            "{line}: {} and {}",
            theirs.status,
            ours.status
        );
    }
    for line in [
        "get pods none",
        "get nothing",
        "delete svc none",
        "get pod web svc/web",
        "label svc web a=b c",
    ] {
        let theirs = kubectl::run(&ns.dojo.kubeconfig(), &ns.arguments(line), "")?;
        let ours = own(ns, &words(line), "")?;
        let first = |output: &Output| {
            text(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .chars()
                .take(40)
                .collect::<String>()
        };
        ensure!(theirs.status.code() == ours.status.code(), "{line}");
        if !line.starts_with("label") {
            ensure!(
                first(&theirs) == first(&ours),
                "{line}: {} {}",
                text(&theirs.stderr),
                text(&ours.stderr)
            );
        }
    }
    let described = own_ok(ns, &format!("describe pod {pod}"), "")?;
    contains(
        &described,
        &[
            "Name:",
            &pod,
            "Containers:",
            "  web:",
            "Image:",
            "Ready:",
            "Conditions:",
            "Events:",
        ],
    )?;
    contains(
        &own_ok(ns, "describe svc web", "")?,
        &["Selector:", "app=web", "Endpoints:", ":9080,"],
    )?;
    Ok(())
}

fn changes_the_same(ns: &Namespace) -> anyhow::Result<()> {
    let told = own_ok(ns, "apply -f -", &web(1))?;
    ensure!(
        told == "service/web created\ndeployment.apps/web created\n",
        "{told}"
    );
    let told = own_ok(ns, "apply -f -", &web(1))?;
    ensure!(
        told == "service/web unchanged\ndeployment.apps/web unchanged\n",
        "{told}"
    );
    own_ok(ns, "rollout status deployment/web --timeout=60s", "")?;
    for (line, wanted) in [
        (
            "scale deploy web --replicas=2",
            "deployment.apps/web scaled",
        ),
        (
            "wait --for=condition=Available deployment/web --timeout=60s",
            "deployment.apps/web condition met",
        ),
        ("label svc web tier=x", "service/web labeled"),
        ("label svc web tier-", "service/web unlabeled"),
        ("annotate svc web note=x", "service/web annotated"),
        (
            "set env deployment/web A=1",
            "deployment.apps/web env updated",
        ),
        (
            "set env deployment/web A-",
            "deployment.apps/web env updated",
        ),
        (
            "rollout restart deployment/web",
            "deployment.apps/web restarted",
        ),
        (
            "rollout undo deployment/web",
            "deployment.apps/web rolled back",
        ),
        (
            "expose deploy web --name=other --port=80 --target-port=9080",
            "service/other exposed",
        ),
        (
            "autoscale deploy web --min=1 --max=2 --cpu-percent=50",
            "horizontalpodautoscaler.autoscaling/web autoscaled",
        ),
        (
            "create deploy second --image=curlimages/curl -- sleep 1d",
            "deployment.apps/second created",
        ),
        (
            "run one --image=curlimages/curl -- sleep 1d",
            "pod/one created",
        ),
        ("delete svc other", "service \"other\" deleted"),
        (
            "delete hpa/web pod/one",
            "horizontalpodautoscaler.autoscaling \"web\" deleted\npod \"one\" deleted",
        ),
        (
            "delete deploy --all",
            "deployment.apps \"second\" deleted\ndeployment.apps \"web\" deleted",
        ),
    ] {
        let told = own_ok(ns, line, "")?;
        ensure!(told.trim() == wanted, "{line}: {told}");
    }
    let patch = own(
        ns,
        &[
            "patch",
            "svc",
            "web",
            "-p",
            r#"{"spec": {"type": "NodePort"}}"#,
        ],
        "",
    )?;
    ensure!(text(&patch.stdout) == "service/web patched\n", "{patch:?}");
    ensure!(ns.ok("get svc web -o jsonpath={.spec.type}")? == "NodePort");
    let told = own_ok(ns, "delete -f -", &web(1));
    ensure!(told.is_err_and(|error| {
        error
            .to_string()
            .contains("(NotFound): error when deleting \"STDIN\"")
    }));
    Ok(())
}

fn in_containers(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    let told = own_ok(ns, "exec deploy/web -- echo hello", "")?;
    ensure!(told == "hello\n", "{told}");
    let told = own_ok(ns, "exec -i deploy/web -- cat", "typed\n")?;
    ensure!(told == "typed\n", "{told}");
    let failed = own(
        ns,
        &[
            "exec",
            "deploy/web",
            "--",
            "sh",
            "-c",
            "echo no >&2; exit 3",
        ],
        "",
    )?;
    ensure!(failed.status.code() == Some(3), "{failed:?}");
    ensure!(
        text(&failed.stderr) == "no\ncommand terminated with exit code 3\n",
        "{failed:?}"
    );
    Ok(())
}

fn watches(ns: &Namespace) -> anyhow::Result<()> {
    use std::io::BufRead;
    let mut child = Command::new(binary())
        .args(["kubectl", "-n", &ns.name, "get", "configmaps", "-w"])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = std::io::BufReader::new(child.stdout.take().context("a pipe")?).lines();
    ns.ok("create configmap one")?;
    // The namespace's own comes too, before or after.
    let seen = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.starts_with("one "));
    child.kill()?;
    child.wait()?;
    ensure!(seen, "the watch ended");
    Ok(())
}

/// What courses get wrong, typed as they have it: somebody must say what is right.
fn slips(ns: &Namespace) -> anyhow::Result<()> {
    let rule = "---\n{ apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: { name: hello-dr }, spec: { host: svc-hello } }";
    ns.typed("apply -f -", rule)?;
    // What is about to be made need not be there yet.
    let alike = rule.replace("hello-dr", "hello-ds");
    let line = ["-n", &ns.name, "apply", "-f", "-"];
    let made = kubectl::run(&ns.dojo.kubeconfig(), &line, &alike)?;
    let told = text(&made.stderr);
    ensure!(
        made.status.success() && !told.contains("did you mean"),
        "{told}"
    );
    ns.typed("delete -f -", &alike)?;
    // The name turned round, and the right name in the wrong namespace: NotFound, and what may be meant.
    let told = ns.refused("delete dr/dr-hello", "")?;
    contains(&told, &["(NotFound)", "did you mean \"hello-dr\"?"])?;
    let elsewhere = kubectl::run(
        &ns.dojo.kubeconfig(),
        &["delete", "dr/hello-dr", "-n", "default"],
        "",
    )?;
    contains(
        &text(&elsewhere.stderr),
        &["(NotFound)", &format!("add -n {}", ns.name)],
    )?;
    let told = own(ns, &["delete", "dr/dr-hello"], "")?;
    contains(
        &text(&told.stderr),
        &["(NotFound)", "did you mean \"hello-dr\"?"],
    )?;
    // A condition of retries that is none.
    let retries = "---\n{ apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: { name: a }, spec: { hosts: [a], http: [{ route: [{ destination: { host: a } }], retries: { attempts: 2, retryOn: 5x } }] } }";
    contains(
        &ns.refused("apply -f -", retries)?,
        &["\"5x\" is not a valid retryOn policy; did you mean \"5xx\"?"],
    )?;
    // The type left out.
    let told = own(ns, &["label", &ns.name, "istio-injection=enabled"], "")?;
    contains(
        &text(&told.stderr),
        &[&format!(
            "kubectl label namespace {} istio-injection=enabled",
            ns.name
        )],
    )?;
    // and another name where the type's name should stand
    let told = own(
        ns,
        &["label", &ns.name, "tutorial", "istio-injection=enabled"],
        "",
    )?;
    contains(
        &text(&told.stderr),
        &[&format!(
            "kubectl label namespace {} istio-injection=enabled",
            ns.name
        )],
    )?;
    Ok(())
}
