//! `kubectl exec`, `attach`, `cp`, `port-forward`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use dojo_tests::kubectl;

use crate::{
    Step,
    namespace::{Namespace, contains, same},
};

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("exec_runs_a_command_in_the_container", exec),
    ("exec_with_a_terminal", terminal),
    ("exec_ends_with_the_container", ends),
    ("exec_of_older_kubectls", spdy),
    ("attach_and_run", attach),
    ("cp", cp),
    ("port_forward", port_forward),
];

const SHELL: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: box, labels: { app: box } }
spec:
  selector: { matchLabels: { app: box } }
  template:
    metadata:
      labels: { app: box }
      annotations: { kubectl.kubernetes.io/default-container: main }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: other
          image: meshdojo/meshdojo:0.1.0
          command: [sleep, "600"]
        - name: main
          image: meshdojo/meshdojo:0.1.0
          command: [sh, -c, "exec sleep 600"]
          env: [{ name: COLOUR, value: blue }]
          volumeMounts: [{ name: settings, mountPath: /etc/settings }]
      volumes: [{ name: settings, configMap: { name: settings } }]
"#;

/// A pod `box` with two containers; its name.
fn shell(ns: &Namespace) -> anyhow::Result<String> {
    ns.ok("create configmap settings --from-literal=key=value")?;
    ns.typed("apply -f -", SHELL)?;
    ns.ok("rollout status deployment/box --timeout=60s")?;
    ns.ok("get pods -l app=box -o jsonpath={.items[0].metadata.name}")
}

fn exec(ns: &Namespace) -> anyhow::Result<()> {
    let pod = shell(ns)?;
    // the annotation chooses the container, and nothing is said about it
    same(&ns.ok(&format!("exec {pod} -- printenv COLOUR"))?, "blue")?;
    same(&ns.ok("exec deploy/box -- printenv COLOUR")?, "blue")?;
    same(
        &ns.ok(&format!("exec {pod} -- cat /etc/settings/key"))?,
        "value",
    )?;
    contains(
        &ns.ok(&format!("exec {pod} -- printenv"))?,
        &["http_proxy=http://127.", "DOJO_POD_IP=127.", "DOJO_ROOT=/"],
    )?;
    // input, and its end
    same(
        &ns.typed(&format!("exec -i {pod} -- cat"), "abc\ndef\n")?,
        "abc\ndef",
    )?;
    same(&ns.typed(&format!("exec -it {pod} -- echo x"), "")?, "x")?;
    // a megabyte there and back
    let much = "0123456789abcdef".repeat(1 << 16);
    ensure!(ns.typed(&format!("exec -i {pod} -- cat"), &much)? == much);
    // exit codes, both streams
    let output = kubectl::run(
        &ns.dojo.kubeconfig(),
        &[
            "-n",
            &ns.name,
            "exec",
            &pod,
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ],
        "",
    )?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(output.stdout == b"out\n", "{output:?}");
    contains(
        &String::from_utf8(output.stderr)?,
        &["err\n", "command terminated with exit code 7"],
    )?;
    contains(
        &ns.refused(&format!("exec {pod} -- nosuchcommand"), "")?,
        &["executable file not found in $PATH"],
    )?;
    contains(
        &ns.refused(&format!("exec {pod} -c nosuch -- ls"), "")?,
        &[&format!("container nosuch is not valid for pod {pod}")],
    )?;
    contains(
        &ns.refused("exec nosuch -- ls", "")?,
        &["(NotFound): pods \"nosuch\" not found"],
    )?;
    ns.ok("run waiting --image=nosuch/image")?;
    contains(
        &ns.refused("exec waiting -- ls", "")?,
        &["container not found (\"waiting\")"],
    )
}

/// `kubectl ARGS` on a terminal of `script`, which is what a student's window is.
fn on_terminal(ns: &Namespace, command: &str) -> anyhow::Result<Child> {
    let typed = format!(
        "stty cols 100 rows 30; exec kubectl --cache-dir={} -n {} {command}",
        ns.dojo
            .kubeconfig()
            .with_file_name("kubectl-cache")
            .display(),
        ns.name
    );
    Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--echo",
            "never",
            "--command",
            &typed,
            "/dev/null",
        ])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("script (util-linux)")
}

fn terminal(ns: &Namespace) -> anyhow::Result<()> {
    let pod = shell(ns)?;
    let mut child = on_terminal(ns, &format!("exec -it {pod} -c main -- sh -i"))?;
    let mut keys = child.stdin.take().context("a pipe")?;
    let mut screen = Screen::of(&mut child)?;
    keys.write_all(b"echo rea''dy; stty size\n")?;
    screen.wait_for("ready")?;
    screen.wait_for("30 100")?;
    // Ctrl-C ends the command and not the shell
    keys.write_all(b"echo wai''ting; sleep 500; echo not-in''terrupted\n")?;
    screen.wait_for("waiting")?;
    keys.write_all(&[3])?;
    keys.write_all(b"echo still he''re\n")?;
    screen.wait_for("still here")?;
    ensure!(!screen.seen.contains("not-interrupted"), "{}", screen.seen);
    keys.write_all(b"exit 5\n")?;
    let status = child.wait()?;
    ensure!(status.code() == Some(5), "{status}: {}", screen.seen);
    Ok(())
}

/// What has appeared on a terminal.
struct Screen {
    from: std::process::ChildStdout,
    seen: String,
}

impl Screen {
    fn of(child: &mut Child) -> anyhow::Result<Self> {
        Ok(Self {
            from: child.stdout.take().context("a pipe")?,
            seen: String::new(),
        })
    }

    /// Reads until `text` appears; the test's own time is the limit.
    fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let mut piece = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.from.read(&mut piece)?;
            ensure!(
                count > 0,
                "the terminal ended without {text:?}: {}",
                self.seen
            );
            self.seen
                .push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        Ok(())
    }
}

fn ends(ns: &Namespace) -> anyhow::Result<()> {
    let pod = shell(ns)?;
    // what is left in the background lives as long as the container, and no longer
    let mark = format!("sleep {}", 7_000_000 + std::process::id());
    ns.exact(&[
        "exec",
        &pod,
        "-c",
        "main",
        "--",
        "sh",
        "-c",
        &format!("{mark} >/dev/null 2>&1 &"),
    ])?;
    ensure!(runs(&mark)?, "the background command should go on");
    ns.ok("delete deployment box --wait")?;
    ns.ok(&format!("wait --for=delete pod/{pod} --timeout=30s"))?;
    ensure!(!runs(&mark)?, "{mark} has outlived its container");
    Ok(())
}

fn runs(command: &str) -> anyhow::Result<bool> {
    let processes = Command::new("ps").args(["-eo", "args"]).output()?;
    Ok(String::from_utf8_lossy(&processes.stdout)
        .lines()
        .any(|line| line == command))
}

fn spdy(ns: &Namespace) -> anyhow::Result<()> {
    let pod = shell(ns)?;
    let mut child = Command::new("kubectl")
        .args([
            "-n",
            &ns.name,
            "exec",
            "-i",
            &pod,
            "--",
            "sh",
            "-c",
            "cat; exit 3",
        ])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(b"hi\n")?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    ensure!(output.stdout == b"hi\n", "{output:?}");
    Ok(())
}

fn attach(ns: &Namespace) -> anyhow::Result<()> {
    // the seeds' way to a throw-away pod
    let image = "--image=meshdojo/meshdojo:0.1.0";
    let mut child = on_terminal(
        ns,
        &format!("run -it --rm --restart=Never {image} once --command -- sh -i"),
    )?;
    let mut keys = child.stdin.take().context("a pipe")?;
    let mut screen = Screen::of(&mut child)?;
    screen.wait_for("try pressing enter")?;
    keys.write_all(b"echo at''tached\n")?;
    screen.wait_for("attached")?;
    keys.write_all(b"exit\n")?;
    screen.wait_for("deleted")?;
    ensure!(child.wait()?.success());
    // without a terminal
    let counted = kubectl::ok(
        &ns.dojo.kubeconfig(),
        &[
            "-n",
            &ns.name,
            "run",
            "-i",
            "--rm",
            "--restart=Never",
            image,
            "count",
            "--command",
            "--",
            "wc",
            "-l",
        ],
        "a\nb\n",
    )?;
    contains(&counted, &["2\n"])
}

fn cp(ns: &Namespace) -> anyhow::Result<()> {
    let pod = shell(ns)?;
    let folder = ns.dojo.kubeconfig().with_file_name("cp");
    std::fs::create_dir_all(folder.join("there/below"))?;
    std::fs::write(folder.join("there/below/file"), "text\n")?;
    let here = folder.join("there").display().to_string();
    ns.ok(&format!("cp -c main {here} {pod}:/tmp/copied"))?;
    same(
        &ns.ok(&format!("exec {pod} -- cat /tmp/copied/below/file"))?,
        "text",
    )?;
    ensure!(
        !std::path::Path::new("/tmp/copied").exists(),
        "written to the host's /tmp"
    );
    let back = folder.join("back").display().to_string();
    ns.ok(&format!("cp {pod}:/tmp/copied {back}"))?;
    same(
        &std::fs::read_to_string(folder.join("back/below/file"))?,
        "text",
    )?;
    ns.ok(&format!("cp {pod}:/etc/settings/key {back}/key"))?;
    same(&std::fs::read_to_string(folder.join("back/key"))?, "value")
}

fn port_forward(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    for (websockets, target) in [("true", "svc/web :80"), ("false", "deploy/web :9080")] {
        let mut arguments = vec!["-n", &ns.name, "port-forward"];
        arguments.extend(target.split(' '));
        let mut child = Command::new("kubectl")
            .args(arguments)
            .env("KUBECONFIG", ns.dojo.kubeconfig())
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .stdout(Stdio::piped())
            .spawn()?;
        let forwarded = forwarded(&mut child);
        // its errors say less than ours
        let _ = child.kill();
        child.wait()?;
        forwarded.with_context(|| format!("{target}, WebSockets: {websockets}"))?;
    }
    Ok(())
}

fn forwarded(child: &mut Child) -> anyhow::Result<()> {
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let address = line
        .strip_prefix("Forwarding from ")
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("kubectl said {line:?}"))?
        .to_owned();
    // several, of which some at once
    let curl = || -> anyhow::Result<Child> {
        Ok(Command::new("curl")
            .args([
                "-sS",
                "--noproxy",
                "*",
                &format!("http://{address}/ratings/7"),
            ])
            .stdout(Stdio::piped())
            .spawn()?)
    };
    for _ in 0..2 {
        for one in [curl()?, curl()?, curl()?] {
            contains(
                &String::from_utf8(one.wait_with_output()?.stdout)?,
                &["\"id\":7"],
            )?;
        }
    }
    Ok(())
}
