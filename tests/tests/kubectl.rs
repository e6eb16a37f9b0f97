//! The ordinary kubectl against the embedded cluster: each verb as it is typed, and what it prints.
//!
//! One cluster for all; each trial works in a namespace of its own, so they run in parallel.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dojo_tests::{dojo::Dojo, kubectl};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    if !kubectl::available() {
        libtest_mimic::run(&arguments, Vec::new()).exit();
    }
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let dojo = Arc::new(Dojo::up(&["none"]).expect("a cluster"));
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&dojo)));
    drop(dojo);
    conclusion.exit();
}

type Step = fn(&Namespace) -> anyhow::Result<()>;

const STEPS: &[(&str, Step)] = &[
    ("apply_client_side", apply_client_side),
    ("apply_server_side", apply_server_side),
    ("create_by_flags", create_by_flags),
    ("create_from_files", create_from_files),
    ("get_in_every_form", get_in_every_form),
    ("get_watch", get_watch),
    ("describe", describe),
    ("delete_in_every_form", delete_in_every_form),
    ("label_and_annotate", label_and_annotate),
    ("patch_in_every_form", patch_in_every_form),
    ("edit", edit),
    ("scale", scale),
    ("set_env_and_image", set_env_and_image),
    ("rollout", rollout),
    ("wait", wait),
    ("logs", logs),
    ("explain_and_api_resources", explain_and_api_resources),
    (
        "strict_validation_names_the_field",
        strict_validation_names_the_field,
    ),
    ("istio_resources", istio_resources),
    ("unknown_image", unknown_image),
    ("crashing_pod", crashing_pod),
    ("refusals", refusals),
    ("sidecar_injection", sidecar_injection),
];

fn trials(dojo: Option<&Arc<Dojo>>) -> Vec<Trial> {
    let trial = |&(name, step): &(&'static str, Step)| {
        let dojo = dojo.cloned();
        Trial::test(name, move || {
            let dojo = dojo.ok_or("listed only")?;
            let namespace = Namespace::create(dojo, &name.replace('_', "-"))?;
            step(&namespace).map_err(|error| format!("{error:?}\n{}", namespace.state()))?;
            Ok(())
        })
    };
    STEPS.iter().map(trial).collect()
}

/// A namespace to work in.
struct Namespace {
    dojo: Arc<Dojo>,
    name: String,
}

impl Namespace {
    fn create(dojo: Arc<Dojo>, name: &str) -> anyhow::Result<Self> {
        kubectl::ok(&dojo.kubeconfig(), &["create", "namespace", name], "")?;
        Ok(Self {
            dojo,
            name: name.into(),
        })
    }

    fn arguments<'a>(&'a self, args: &'a str) -> Vec<&'a str> {
        [vec!["-n", &self.name], args.split(' ').collect()].concat()
    }

    /// `kubectl ARGS` here; gives what it prints.
    fn ok(&self, args: &str) -> anyhow::Result<String> {
        self.typed(args, "")
    }

    /// The same with something typed into it (`-f -`).
    fn typed(&self, args: &str, stdin: &str) -> anyhow::Result<String> {
        kubectl::ok(&self.dojo.kubeconfig(), &self.arguments(args), stdin)
    }

    /// The same with exact arguments.
    fn exact(&self, args: &[&str]) -> anyhow::Result<String> {
        kubectl::ok(
            &self.dojo.kubeconfig(),
            &[&["-n", self.name.as_str()], args].concat(),
            "",
        )
    }

    /// The command fails; gives what it says.
    fn refused(&self, args: &str, stdin: &str) -> anyhow::Result<String> {
        let output = kubectl::run(&self.dojo.kubeconfig(), &self.arguments(args), stdin)?;
        ensure!(
            !output.status.success(),
            "kubectl {args} should have been refused"
        );
        Ok(String::from_utf8(output.stderr)?)
    }

    /// What is in it, for the report of a failure.
    fn state(&self) -> String {
        let looks = [
            "get pods,replicasets,deployments -o wide",
            "get events",
            "describe pods",
        ];
        looks
            .map(|look| self.ok(look).unwrap_or_else(|error| error.to_string()))
            .join("\n")
    }

    /// A web server, `replicas` of it, with a Service.
    fn web(&self, replicas: u32) -> anyhow::Result<()> {
        self.typed("apply -f -", &web(replicas))?;
        self.ok("rollout status deployment/web --timeout=30s")
            .map(drop)
    }
}

fn web(replicas: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  selector: {{ app: web }}
  ports: [{{ name: http, port: 80, targetPort: 9080 }}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
        - name: web
          image: meshdojo/meshdojo:0.1.0
          args: [service, ratings]
          ports: [{{ name: http, containerPort: 9080 }}]
          readinessProbe: {{ httpGet: {{ path: /health, port: http }} }}
"#
    )
}

fn contains(text: &str, parts: &[&str]) -> anyhow::Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}

fn same(text: &str, expected: &str) -> anyhow::Result<()> {
    ensure!(
        text.trim() == expected.trim(),
        "expected:\n{expected}\nseen:\n{text}"
    );
    Ok(())
}

fn apply_client_side(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("apply -f -", &web(1))?,
        "service/web created\ndeployment.apps/web created",
    )?;
    same(
        &ns.typed("apply -f -", &web(1))?,
        "service/web unchanged\ndeployment.apps/web unchanged",
    )?;
    same(
        &ns.typed("apply -f -", &web(2))?,
        "service/web unchanged\ndeployment.apps/web configured",
    )?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.replicas}")?,
        "2",
    )?;
    let without_port_name = web(2).replace("name: http, port: 80", "name: renamed, port: 80");
    contains(
        &ns.typed("apply -f -", &without_port_name)?,
        &["service/web configured"],
    )?;
    same(
        &ns.ok("get service web -o jsonpath={.spec.ports[*].name}")?,
        "renamed",
    )?;
    contains(&ns.typed("diff -f -", &without_port_name)?, &[])
}

fn apply_server_side(ns: &Namespace) -> anyhow::Result<()> {
    let map = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings }}\ndata: {{ colour: {value} }}\n"
        )
    };
    same(
        &ns.typed("apply --server-side --field-manager=a -f -", &map("red"))?,
        "configmap/settings serverside-applied",
    )?;
    let conflict = ns.refused("apply --server-side --field-manager=b -f -", &map("blue"))?;
    contains(&conflict, &["conflict with \"a\"", ".data.colour"])?;
    ns.typed(
        "apply --server-side --field-manager=b --force-conflicts -f -",
        &map("blue"),
    )?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data.colour}")?,
        "blue",
    )?;
    let managers = ns.ok("get configmap settings --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}")?;
    contains(&managers, &["b"])?;
    // A field that its only owner no longer applies goes away.
    let empty = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\n";
    ns.typed("apply --server-side --field-manager=b -f -", empty)?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data.colour}")?,
        "",
    )
}

fn create_by_flags(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.ok("create configmap settings --from-literal=a=1 --from-literal=b=2")?,
        "configmap/settings created",
    )?;
    same(
        &ns.ok("get configmap settings -o jsonpath={.data}")?,
        r#"{"a":"1","b":"2"}"#,
    )?;
    same(
        &ns.ok("create serviceaccount robot")?,
        "serviceaccount/robot created",
    )?;
    let token = ns.ok("create token robot --duration=10m")?;
    ensure!(token.trim().split('.').count() == 3, "not a JWT: {token}");
    same(
        &ns.ok("create secret generic keys --from-literal=password=hush")?,
        "secret/keys created",
    )?;
    same(
        &ns.ok("get secret keys -o jsonpath={.data.password}")?,
        "aHVzaA==",
    )?;
    same(
        &ns.exact(&[
            "create",
            "deployment",
            "made",
            "--image=meshdojo/meshdojo:0.1.0",
            "--replicas=1",
            "--",
            "sleep",
            "600",
        ])?,
        "deployment.apps/made created",
    )?;
    contains(
        &ns.ok("rollout status deployment/made --timeout=30s")?,
        &["successfully rolled out"],
    )?;
    let twice = ns.refused("create serviceaccount robot", "")?;
    same(
        &twice,
        r#"error: failed to create serviceaccount: serviceaccounts "robot" already exists"#,
    )
}

fn create_from_files(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("create -f -", &web(1))?,
        "service/web created\ndeployment.apps/web created",
    )?;
    let twice = ns.refused("create -f -", &web(1))?;
    contains(
        &twice,
        &[
            r#"Error from server (AlreadyExists)"#,
            r#"services "web" already exists"#,
        ],
    )?;
    let generated = "apiVersion: v1\nkind: ConfigMap\nmetadata: { generateName: draw- }\n";
    contains(
        &ns.typed("create -f -", generated)?,
        &["configmap/draw-", "created"],
    )
}

fn get_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    let pods = ns.ok("get pods")?;
    contains(
        &pods,
        &[
            "NAME", "READY", "STATUS", "RESTARTS", "AGE", "1/1", "Running",
        ],
    )?;
    ensure!(pods.lines().count() == 3, "{pods}");
    contains(
        &ns.ok("get pods -o wide")?,
        &["IP", "NODE", "NOMINATED NODE", "READINESS GATES", "127."],
    )?;
    contains(&ns.ok("get pods -o name")?, &["pod/web-"])?;
    contains(
        &ns.ok("get deployment web -o yaml")?,
        &[
            "apiVersion: apps/v1",
            "kind: Deployment",
            "availableReplicas: 2",
        ],
    )?;
    let json: serde_json::Value = serde_json::from_str(&ns.ok("get pods -o json")?)?;
    ensure!(
        json["items"]
            .as_array()
            .is_some_and(|items| items.len() == 2),
        "{json}"
    );
    let columns =
        ns.ok("get pods -o custom-columns=N:.metadata.name,P:.status.phase --no-headers")?;
    ensure!(
        columns.lines().all(|line| line.ends_with("Running")),
        "{columns}"
    );
    ensure!(ns.ok("get pods -l app=web --no-headers")?.lines().count() == 2);
    contains(
        &ns.ok("get pods --show-labels")?,
        &["LABELS", "app=web,pod-template-hash="],
    )?;
    contains(
        &ns.ok("get pods -A")?,
        &["NAMESPACE", "istio-system", "istiod-"],
    )?;
    contains(
        &ns.ok("get all")?,
        &[
            "pod/web-",
            "service/web",
            "ClusterIP",
            "80/TCP",
            "deployment.apps/web",
            "2/2",
            "replicaset.apps/web-",
        ],
    )?;
    contains(
        &ns.ok("get endpointslices")?,
        &["ADDRESSTYPE", "IPv4", "9080"],
    )?;
    contains(&ns.ok("get nodes")?, &["Ready", "v1.36"])?;
    contains(
        &ns.ok("get namespaces")?,
        &["default", "kube-system", "Active"],
    )?;
    contains(&ns.ok("get pods --sort-by=.metadata.name")?, &["web-"])?;
    contains(
        &ns.refused("get pod nobody", "")?,
        &[r#"Error from server (NotFound): pods "nobody" not found"#],
    )?;
    contains(
        &ns.refused("get cats", "")?,
        &[r#"the server doesn't have a resource type "cats""#],
    )
}

fn get_watch(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap first --from-literal=a=1")?;
    let mut watch = std::process::Command::new("kubectl")
        .args([
            "-n",
            &ns.name,
            "get",
            "configmaps",
            "-w",
            "--output-watch-events",
            "--request-timeout=20s",
        ])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let lines = std::io::BufRead::lines(std::io::BufReader::new(
        watch.stdout.take().context("a pipe")?,
    ));
    let mut changed = false;
    let mut seen = Vec::new();
    for line in lines {
        let line = line?;
        if line.contains("first") && !changed {
            ns.ok("create configmap second --from-literal=a=1")?;
            ns.ok("delete configmap second")?;
            changed = true;
        }
        let over = line.starts_with("DELETED") && line.contains("second");
        seen.push(line);
        if over {
            break;
        }
    }
    watch.kill()?;
    watch.wait()?;
    contains(
        &seen.join("\n"),
        &[
            "EVENT",
            "ADDED      first",
            "ADDED      second",
            "DELETED    second",
        ],
    )
}

fn describe(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(
        &ns.ok("describe pod -l app=web")?,
        &[
            "Status:",
            "Running",
            "Image:",
            "meshdojo/meshdojo:0.1.0",
            "Readiness:",
            "Scheduled",
            "Started",
            "Controlled By:",
        ],
    )?;
    contains(
        &ns.ok("describe deployment web")?,
        &[
            "Replicas:",
            "1 desired | 1 updated | 1 total | 1 available",
            "RollingUpdateStrategy:",
            "ScalingReplicaSet",
        ],
    )?;
    contains(
        &ns.ok("describe service web")?,
        &["Selector:", "app=web", "Endpoints:", ":9080"],
    )?;
    contains(
        &ns.ok("describe node")?,
        &["Capacity:", "Conditions:", "Ready"],
    )?;
    contains(
        &ns.exact(&["describe", "namespace", &ns.name])?,
        &["Status:", "Active"],
    )
}

fn delete_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    contains(
        &ns.typed("delete -f -", &web(2))?,
        &[
            r#"service "web" deleted"#,
            r#"deployment.apps "web" deleted"#,
        ],
    )?;
    ns.ok("wait --for=delete pod -l app=web --timeout=40s")?;
    contains(&kubectl_err(ns, "get all")?, &["No resources found"])?;
    ns.web(1)?;
    ns.ok("delete deployment web --cascade=orphan")?;
    contains(&ns.ok("get replicasets")?, &["web-"])?;
    ns.ok("delete replicasets,pods,services --all --timeout=40s")?;
    contains(&kubectl_err(ns, "get pods")?, &["No resources found"])?;
    contains(&ns.refused("delete configmap nobody", "")?, &["NotFound"])?;
    same(&ns.ok("delete configmap nobody --ignore-not-found")?, "")
}

fn kubectl_err(ns: &Namespace, args: &str) -> anyhow::Result<String> {
    let output = kubectl::run(&ns.dojo.kubeconfig(), &ns.arguments(args), "")?;
    Ok(String::from_utf8(output.stderr)?)
}

fn label_and_annotate(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap note --from-literal=a=1")?;
    same(
        &ns.ok("label configmap note tier=front")?,
        "configmap/note labeled",
    )?;
    contains(
        &ns.refused("label configmap note tier=back", "")?,
        &["--overwrite"],
    )?;
    ns.ok("label configmap note tier=back --overwrite")?;
    same(
        &ns.ok("get configmap -l tier=back -o name")?,
        "configmap/note",
    )?;
    ensure!(
        ns.ok("get configmap -l tier!=back,tier -o name")?
            .is_empty()
    );
    same(
        &ns.ok("label configmap note tier-")?,
        "configmap/note unlabeled",
    )?;
    same(
        &ns.ok("annotate configmap note owner=ann")?,
        "configmap/note annotated",
    )?;
    same(
        &ns.ok("get configmap note -o jsonpath={.metadata.annotations.owner}")?,
        "ann",
    )
}

fn patch_in_every_form(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    let strategic = r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}"#;
    same(
        &ns.exact(&["patch", "deployment", "web", "-p", strategic])?,
        "deployment.apps/web patched",
    )?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}")?,
        "meshdojo/meshdojo:0.1.0",
    )?;
    // Once its status has come to rest, the same patch changes nothing.
    ns.ok("rollout status deployment/web --timeout=30s")?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=40s")?;
    same(
        &ns.exact(&["patch", "deployment", "web", "-p", strategic])?,
        "deployment.apps/web patched (no change)",
    )?;
    ns.exact(&[
        "patch",
        "deployment",
        "web",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"app":null,"kind":"m"}}}"#,
    ])?;
    same(
        &ns.ok("get deployment web -o jsonpath={.metadata.labels}")?,
        r#"{"kind":"m"}"#,
    )?;
    let json = r#"[{"op":"replace","path":"/spec/replicas","value":0}]"#;
    ns.exact(&["patch", "deployment", "web", "--type=json", "-p", json])?;
    same(
        &ns.ok("get deployment web -o jsonpath={.spec.replicas}")?,
        "0",
    )?;
    let bad = ns.dojo.kubeconfig();
    let output = kubectl::run(
        &bad,
        &[
            "-n",
            &ns.name,
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"replicas":-1}}"#,
        ],
        "",
    )?;
    contains(
        &String::from_utf8(output.stderr)?,
        &["spec.replicas", "Invalid value: -1"],
    )
}

fn edit(ns: &Namespace) -> anyhow::Result<()> {
    ns.ok("create configmap note --from-literal=colour=red")?;
    let output = std::process::Command::new("kubectl")
        .args(["-n", &ns.name, "edit", "configmap", "note"])
        .env("KUBECONFIG", ns.dojo.kubeconfig())
        .env("EDITOR", "sed -i s/red/blue/")
        .output()?;
    same(&String::from_utf8(output.stdout)?, "configmap/note edited")?;
    same(
        &ns.ok("get configmap note -o jsonpath={.data.colour}")?,
        "blue",
    )
}

fn scale(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    same(
        &ns.ok("scale deployment web --replicas=3")?,
        "deployment.apps/web scaled",
    )?;
    ns.ok("rollout status deployment/web --timeout=30s")?;
    ensure!(ns.ok("get pods --no-headers")?.lines().count() == 3);
    contains(
        &ns.refused("scale deployment web --replicas=1 --current-replicas=7", "")?,
        &["Expected replicas to be 7, was 3"],
    )?;
    ns.ok("scale deployment web --replicas=0")?;
    ns.ok("wait --for=delete pod -l app=web --timeout=40s")?;
    // The slice follows the pods.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ns
        .ok("get endpointslices -o jsonpath={.items[*].endpoints[*].addresses}")?
        .is_empty()
    {
        ensure!(Instant::now() < deadline, "the slice still has endpoints");
    }
    Ok(())
}

fn set_env_and_image(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    same(
        &ns.ok("set env deployment/web COLOUR=green")?,
        "deployment.apps/web env updated",
    )?;
    contains(&ns.ok("set env deployment/web --list")?, &["COLOUR=green"])?;
    ns.ok("rollout status deployment/web --timeout=30s")?;
    same(
        &ns.ok("set image deployment/web web=istio/examples-bookinfo-ratings-v1:1.20.3")?,
        "deployment.apps/web image updated",
    )?;
    ns.ok("set env deployment/web COLOUR-").map(drop)
}

fn rollout(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(2)?;
    let before = ns.ok("get pods -o name")?;
    same(
        &ns.ok("rollout restart deployment/web")?,
        "deployment.apps/web restarted",
    )?;
    contains(
        &ns.ok("rollout status deployment/web --timeout=40s")?,
        &[r#"deployment "web" successfully rolled out"#],
    )?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=40s")?;
    let after = ns.ok("get pods -o name")?;
    ensure!(
        after.lines().count() == 2 && !before.lines().any(|pod| after.contains(pod)),
        "{before}\n{after}"
    );
    contains(
        &ns.ok("rollout history deployment/web")?,
        &["REVISION", "1", "2"],
    )
}

fn wait(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(
        &ns.ok("wait --for=condition=Available deployment/web --timeout=20s")?,
        &["deployment.apps/web condition met"],
    )?;
    contains(
        &ns.ok("wait --for=condition=Ready pod -l app=web --timeout=20s")?,
        &["condition met"],
    )?;
    contains(
        &ns.refused(
            "wait --for=condition=Nonsense deployment/web --timeout=1s",
            "",
        )?,
        &["timed out waiting for the condition"],
    )
}

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

fn explain_and_api_resources(ns: &Namespace) -> anyhow::Result<()> {
    contains(
        &ns.ok("explain deployment.spec.replicas")?,
        &[
            "GROUP:",
            "apps",
            "KIND:",
            "Deployment",
            "FIELD: replicas <integer>",
        ],
    )?;
    contains(
        &ns.ok("explain pod")?,
        &["KIND:       Pod", "FIELDS:", "spec", "<PodSpec>"],
    )?;
    contains(
        &ns.ok("explain virtualservice.spec.http.fault")?,
        &["FIELDS:", "abort", "delay"],
    )?;
    contains(
        &ns.ok("api-resources")?,
        &[
            "NAME",
            "SHORTNAMES",
            "APIVERSION",
            "deployments",
            "deploy",
            "apps/v1",
            "virtualservices",
            "vs",
            "networking.istio.io/v1",
        ],
    )?;
    contains(
        &ns.ok("api-versions")?,
        &["apps/v1", "networking.istio.io/v1alpha3", "v1"],
    )?;
    contains(&ns.ok("version")?, &["Server Version: v1.36"])
}

fn strict_validation_names_the_field(ns: &Namespace) -> anyhow::Result<()> {
    let misspelt = web(1).replace("targetPort", "targetPrt");
    contains(
        &ns.refused("apply -f -", &misspelt)?,
        &[
            "strict decoding error",
            r#"unknown field "spec.ports[0].targetPrt""#,
        ],
    )?;
    let misspelt = VIRTUAL_SERVICE.replace("route:", "rout:");
    contains(
        &ns.refused("apply -f -", &misspelt)?,
        &[
            "strict decoding error",
            r#"unknown field "spec.http[0].rout""#,
        ],
    )
}

const VIRTUAL_SERVICE: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec:
  hosts: [web]
  http:
    - route: [{ destination: { host: web, port: { number: 80 } }, weight: 100 }]
"#;

fn istio_resources(ns: &Namespace) -> anyhow::Result<()> {
    same(
        &ns.typed("apply -f -", VIRTUAL_SERVICE)?,
        "virtualservice.networking.istio.io/web created",
    )?;
    same(
        &ns.typed("apply -f -", VIRTUAL_SERVICE)?,
        "virtualservice.networking.istio.io/web unchanged",
    )?;
    contains(
        &ns.ok("get vs")?,
        &["NAME", "GATEWAYS", "HOSTS", "AGE", r#"["web"]"#],
    )?;
    contains(
        &ns.ok("get virtualservices.v1alpha3.networking.istio.io web -o yaml")?,
        &["apiVersion: networking.istio.io/v1alpha3"],
    )?;
    let negative = VIRTUAL_SERVICE.replace("weight: 100", "weight: -1");
    contains(
        &ns.refused("apply -f -", &negative)?,
        &["spec.http[0].route[0].weight", "-1"],
    )?;
    let old = VIRTUAL_SERVICE
        .replace("io/v1\n", "io/v1beta1\n")
        .replace("name: web", "name: old");
    same(
        &ns.typed("apply -f -", &old)?,
        "virtualservice.networking.istio.io/old created",
    )?;
    contains(
        &ns.typed("delete -f -", VIRTUAL_SERVICE)?,
        &[r#"virtualservice.networking.istio.io "web" deleted"#],
    )
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

fn refusals(ns: &Namespace) -> anyhow::Result<()> {
    let name = "x".repeat(64);
    contains(
        &ns.refused(&format!("create namespace {name}"), "")?,
        &["metadata.name", "must be no more than 63 bytes"],
    )?;
    let huge = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: huge }}\ndata: {{ a: {} }}\n",
        "x".repeat(10_000_000)
    );
    let said = ns.refused("create -f -", &huge)?;
    ensure!(
        said.contains("too large") || said.contains("RequestEntityTooLarge"),
        "{said}"
    );
    contains(
        &ns.refused("apply -f -", &web(1).replace("port: 80,", "port: 99999,"))?,
        &["spec.ports[0].port", "99999", "between 1 and 65535"],
    )?;
    contains(
        &ns.refused(
            "apply -f -",
            &web(1).replace("matchLabels: { app: web }", "matchLabels: { app: other }"),
        )?,
        &["`selector` does not match template `labels`"],
    )?;
    contains(
        &ns.refused(
            "create -f -",
            "apiVersion: v1\nkind: Cat\nmetadata: { name: tom }\n",
        )?,
        &["no matches for kind \"Cat\""],
    )?;
    ns.web(1)?;
    contains(
        &ns.refused("exec deployment/web -- true", "")?,
        &["does not serve pods/exec yet"],
    )?;
    contains(&ns.refused("apply -f -", "not: [yaml")?, &["error"])
}

fn sidecar_injection(ns: &Namespace) -> anyhow::Result<()> {
    ns.web(1)?;
    contains(&ns.ok("get pods --no-headers")?, &["1/1"])?;
    ns.exact(&["label", "namespace", &ns.name, "istio-injection=enabled"])?;
    ns.ok("rollout restart deployment/web")?;
    ns.ok("rollout status deployment/web --timeout=40s")?;
    let pods = ns.ok("get pods -l app=web --field-selector=status.phase=Running --no-headers")?;
    contains(&pods, &["2/2"])?;
    let out = "{\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":\"false\"}}}}}";
    ns.exact(&["patch", "deployment", "web", "-p", out])?;
    ns.ok("rollout status deployment/web --timeout=40s")?;
    ns.ok("wait --for=jsonpath={.status.terminatingReplicas}=0 deployment/web --timeout=60s")?;
    contains(&ns.ok("get pods --no-headers")?, &["1/1"])
}
