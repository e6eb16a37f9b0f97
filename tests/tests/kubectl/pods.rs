//! Pods: `logs`, and what is shown of those that fail.

use crate::{
    Step,
    namespace::{Namespace, contains, same},
};
use anyhow::ensure;

pub(crate) const STEPS: &[(&str, Step)] = &[
    ("logs", logs),
    ("unknown_image", unknown_image),
    ("crashing_pod", crashing_pod),
];

fn logs(ns: &Namespace) -> anyhow::Result<()> {
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: { name: talker, labels: { app: talker } }
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 1
  containers:
    - name: one
      image: meshdojo/meshdojo:0.1.0
      command: [sh, -c, "echo first; echo second; echo oops >&2; sleep 600"]
    - name: two
      image: meshdojo/meshdojo:0.1.0
      command: [sh, -c, "echo from two; exit 3"]
"#;
    ns.typed("apply -f -", pod)?;
    ns.exact(&[
        "wait",
        "--for=jsonpath={.status.containerStatuses[?(@.name=='two')].restartCount}=1",
        "pod/talker",
        "--timeout=40s",
    ])?;
    let text = ns.ok("logs talker -c one")?;
    contains(&text, &["first\n", "second\n", "oops\n"])?;
    same(&ns.ok("logs talker -c two --previous")?, "from two")?;
    ensure!(ns.ok("logs talker -c one --tail=1")?.lines().count() == 1);
    contains(
        &ns.ok("logs talker -c one --timestamps --tail=1")?,
        &["T", "Z "],
    )?;
    contains(
        &ns.ok("logs -l app=talker --all-containers --prefix")?,
        &["[pod/talker/one] first", "[pod/talker/two] from two"],
    )?;
    contains(
        &ns.refused("logs talker -c three", "")?,
        &["container three is not valid for pod talker"],
    )?;
    contains(&ns.refused("logs nobody", "")?, &["NotFound"])?;
    // Followed from the start to the end.
    ns.exact(&[
        "run",
        "counter",
        "--image=meshdojo/meshdojo:0.1.0",
        "--restart=Never",
        "--command",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 1; done",
    ])?;
    ns.ok(
        "wait --for=jsonpath={.status.containerStatuses[0].started}=true pod/counter --timeout=20s",
    )?;
    same(&ns.ok("logs -f counter")?, "1\n2\n3")
}

fn unknown_image(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create deployment odd --image=nobody/knows:1")?;
    ns.exact(&[
        "wait",
        "--for=create",
        "pod",
        "-l",
        "app=odd",
        "--timeout=20s",
    ])
    .ok();
    ns.exact(&[
        "wait",
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff",
        "pod",
        "-l",
        "app=odd",
        "--timeout=40s",
    ])?;
    contains(&ns.ok("get pods")?, &["0/1", "ImagePull"])?;
    contains(
        &ns.ok("describe pod -l app=odd")?,
        &[
            "nobody/knows:1",
            "Failed",
            "meshdojo image map nobody/knows:1 -- COMMAND",
        ],
    )?;
    // The remedy that the event gives.
    let mapped = ns
        .dojo
        .meshdojo(&["image", "map", "nobody/knows:1", "--", "sleep", "600"])?;
    ensure!(
        mapped.status.success(),
        "{}",
        String::from_utf8_lossy(&mapped.stderr)
    );
    ns.ok("wait --for=condition=Available deployment/odd --timeout=60s")
        .map(drop)
}

fn crashing_pod(ns: &Namespace) -> anyhow::Result<()> {
    ns.exact(&[
        "create",
        "deployment",
        "falls",
        "--image=meshdojo/meshdojo:0.1.0",
        "--",
        "sh",
        "-c",
        "echo bye; exit 7",
    ])?;
    ns.exact(&[
        "wait",
        "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        "pod",
        "-l",
        "app=falls",
        "--timeout=40s",
    ])?;
    contains(&ns.ok("get pods")?, &["0/1", "CrashLoopBackOff"])?;
    contains(
        &ns.ok("describe pod -l app=falls")?,
        &["Exit Code:", "7", "Back-off restarting failed container"],
    )?;
    same(&ns.ok("logs deployment/falls")?, "bye")
}
