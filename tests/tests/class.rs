//! A class on the embedded cluster: from `class create` to `class delete`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::dojo::{Dojo, binary, eventually, root};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration,
    core::v1::{ConfigMap, Namespace, Pod},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

/// Longer than a busy machine takes.
const SOON: Duration = Duration::from_secs(180);
/// The label of all that is a class's.
const LABEL: &str = "class.meshdojo.dev/student";

/// A student: the kubeconfig, and a home of the student's own.
struct Student {
    kubeconfig: PathBuf,
    home: tempfile::TempDir,
}

impl Student {
    fn lab(&self, args: &[&str]) -> anyhow::Result<Output> {
        Command::new(binary())
            .args([&["lab"], args].concat())
            .args(["--lang", "en", "--book"])
            .arg(root().join("labs/book"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("MESHDOJO_HOME", self.home.path())
            .output()
            .context("meshdojo lab")
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig)?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await?;
        config.proxy_url = None;
        Ok(config.try_into()?)
    }
}

fn student(folder: &Path, name: &str) -> anyhow::Result<Student> {
    Ok(Student {
        kubeconfig: folder.join(format!("{name}.kubeconfig")),
        home: tempfile::tempdir()?,
    })
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What a command printed; it must have ended well.
fn well(output: &Output) -> anyhow::Result<String> {
    let (out, err) = texts(output);
    ensure!(output.status.success(), "{out}{err}");
    Ok(out)
}

/// The code of an API server's refusal.
fn refusal<T>(outcome: Result<T, kube::Error>) -> anyhow::Result<(u16, String)> {
    match outcome {
        Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
        Err(error) => Err(error.into()),
        Ok(_) => anyhow::bail!("it was not refused"),
    }
}

async fn apply(client: &Client, namespace: &str, object: Value) -> Result<(), kube::Error> {
    let group = GroupVersionKind::gvk(
        "networking.istio.io",
        "v1",
        object["kind"].as_str().unwrap_or_default(),
    );
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&group));
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let parameters = PatchParams::apply("student").force();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .map(drop)
}

fn gateway(host: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "door" },
        "spec": { "selector": { "istio": "ingressgateway" }, "servers": [
            { "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": [host] } ] },
    })
}

fn row(status: &Value, student: &str) -> anyhow::Result<Value> {
    let rows = status["students"].as_array().context("students")?;
    let found = rows.iter().find(|row| row["student"] == student);
    found.cloned().context("no such student")
}

#[tokio::test]
async fn a_class_from_its_beginning_to_its_end() -> anyhow::Result<()> {
    let dojo = Dojo::up(&["none"])?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("class");
    let roster = folder.path().join("roster.csv");
    std::fs::write(&roster, "Kim Minsu,1\nlee@example.com\n# nobody\npark\n")?;
    let create = [
        "class",
        "create",
        "--apps",
        "httpbin",
        "--roster",
        roster.to_str().context("UTF-8")?,
        "--out",
        out.to_str().context("UTF-8")?,
    ];
    let class = |args: &[&str]| dojo.meshdojo(&[&["class"], args].concat());

    let before = class(&["status"])?;
    assert_eq!(before.status.code(), Some(4), "{:?}", texts(&before));
    let preflight = class(&["preflight", "--students", "3", "--apps", "httpbin"])?;
    let found = texts(&preflight).0;
    for line in [
        "ok       Kubernetes 1.",
        "Mesh Dojo's control plane",
        "you may make everything",
        "3 students x",
    ] {
        assert!(found.contains(line), "{found}");
    }

    // Twice: what is there already is completed.
    well(&dojo.meshdojo(&create)?)?;
    let made = well(&dojo.meshdojo(&create)?)?;
    assert!(
        made.contains(&format!(
            "kim-minsu\thttp://kim-minsu.localhost:{}",
            dojo.port
        )),
        "{made}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &out.join("park.kubeconfig").metadata()?.permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let kim = student(&out, "kim-minsu")?;
    let client = kim.client().await?;
    bounds_hold(&client).await?;
    progress_is_seen(&dojo, &kim, &client).await?;

    // What a student made goes, and what the student began with comes back; the account stays.
    well(&class(&["reset", "kim-minsu"])?)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kim-minsu");
    assert!(maps.get_opt("lab-progress").await?.is_none());
    httpbin_is_ready(&client).await?;
    // Kim's own file knows nothing more either, and says why, once.
    let begun = texts(&kim.lab(&["show"])?).1;
    assert!(
        begun.contains("back to its beginning") && begun.contains("no lab is begun"),
        "{begun}"
    );
    let begun = texts(&kim.lab(&["show"])?).1;
    assert!(!begun.contains("back to its beginning"), "{begun}");

    // A later student, with another application, does labs one after the other.
    let later = folder.path().join("later.txt");
    std::fs::write(&later, "choi\n")?;
    let (later, to) = (
        later.to_str().context("UTF-8")?,
        out.to_str().context("UTF-8")?,
    );
    let create = ["create", "--apps", "bookinfo", "--roster", later, "--out"];
    well(&class(&[&create[..], &[to]].concat())?)?;
    let choi = student(&out, "choi")?;
    for lab in ["2", "8"] {
        finishes(&choi, lab).await.with_context(|| lab.to_owned())?;
    }
    let unknown = class(&["reset", "nobody"])?;
    assert_eq!(unknown.status.code(), Some(4));

    well(&class(&["delete"])?)?;
    nothing_is_left(&dojo).await?;
    let refused = refusal(maps.list(&ListParams::default()).await)?;
    assert_eq!(refused.0, 401, "{}", refused.1);
    Ok(())
}

/// The student may work in the own namespace, and only there.
async fn bounds_hold(client: &Client) -> anyhow::Result<()> {
    let pods = |namespace| Api::<Pod>::namespaced(client.clone(), namespace);
    pods("kim-minsu").list(&ListParams::default()).await?;
    assert_eq!(
        refusal(pods("lee").list(&ListParams::default()).await)?.0,
        403
    );
    assert_eq!(
        refusal(pods("default").list(&ListParams::default()).await)?.0,
        403
    );
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(
        refusal(namespaces.list(&ListParams::default()).await)?.0,
        403
    );
    let patch = json!({ "metadata": { "labels": { LABEL: null } } });
    let free = namespaces
        .patch("kim-minsu", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    assert_eq!(refusal(free)?.0, 403);

    let (code, message) = refusal(apply(client, "kim-minsu", gateway("*")).await)?;
    assert_eq!(code, 403, "{message}");
    assert!(
        message.contains("use kim-minsu.localhost or NAME.kim-minsu.localhost"),
        "{message}"
    );
    let mesh_wide = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": "all" },
        "spec": { "hosts": ["httpbin.lee.svc.cluster.local"], "http": [{ "fault": { "abort": {
            "httpStatus": 503, "percentage": { "value": 100 } } }, "route": [{ "destination": { "host": "httpbin" } }] }] },
    });
    assert_eq!(refusal(apply(client, "kim-minsu", mesh_wide).await)?.0, 403);
    apply(client, "kim-minsu", gateway("shop.kim-minsu.localhost")).await?;
    Ok(())
}

/// A lab runs in the student's namespace, under the student's host, and the instructor sees how far it is.
async fn progress_is_seen(dojo: &Dojo, kim: &Student, client: &Client) -> anyhow::Result<()> {
    let class = |args: &[&str]| dojo.meshdojo(&[&["class"], args].concat());
    well(&class(&["broadcast", "ten minutes left"])?)?;
    // The applications were installed by the instructor and are on their way.
    httpbin_is_ready(client).await?;

    let started = kim.lab(&["start", "9"])?;
    let (shown, said) = texts(&started);
    assert!(started.status.success(), "{shown}{said}");
    assert!(said.contains("ten minutes left"), "{said}");
    assert!(
        shown.contains(&format!("kim-minsu.localhost:{}", dojo.port)),
        "{shown}"
    );
    let checked = kim.lab(&["check"])?;
    assert_eq!(checked.status.code(), Some(3), "{:?}", texts(&checked));
    let status: Value = serde_json::from_str(&well(&class(&["status", "-o", "json"])?)?)?;
    let stuck = row(&status, "kim-minsu")?;
    assert_eq!(stuck["lab"], "09-circuit-breaking-connections", "{stuck}");
    assert_eq!(
        (&stuck["step"], &stuck["passed"]),
        (&json!(1), &json!(0)),
        "{stuck}"
    );
    assert!(
        stuck["reason"].is_string() && stuck["stuckSeconds"].is_number(),
        "{stuck}"
    );
    assert_eq!(
        row(&status, "park")?,
        json!({ "student": "park", "passed": 0, "total": 0 })
    );

    // The student's way in answers under the student's host alone.
    let get = |host: &str| {
        let client = reqwest::Client::builder().no_proxy().build();
        let url = format!("http://127.0.0.1:{}/get", dojo.port);
        let host = host.to_owned();
        async move {
            anyhow::Ok(
                client?
                    .get(url)
                    .header("host", host)
                    .send()
                    .await?
                    .status()
                    .as_u16(),
            )
        }
    };
    eventually("the student's host answers", SOON, || async {
        let status = get("kim-minsu.localhost").await?;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await?;
    assert_eq!(get("lee.localhost").await?, 404);

    eventually("the machine's solution passes", SOON, || async {
        well(&kim.lab(&["solve"])?).map(drop)
    })
    .await?;
    let status: Value = serde_json::from_str(&well(&class(&["status", "-o", "json"])?)?)?;
    let passed = row(&status, "kim-minsu")?;
    assert_eq!(passed["passed"], 1, "{passed}");
    assert!(passed.get("reason").is_none(), "{passed}");
    let csv = well(&class(&["export", "--format", "csv"])?)?;
    let step = "kim-minsu,09-circuit-breaking-connections,1,2";
    assert!(
        csv.lines()
            .any(|line| line.starts_with(step) && line.ends_with("true")),
        "{csv}"
    );

    // Labs that need more than one namespace say so and do nothing.
    let beyond = kim.lab(&["start", "0"])?;
    assert!(!beyond.status.success());
    assert!(
        texts(&beyond).1.contains("works in the namespaces user02"),
        "{:?}",
        texts(&beyond)
    );
    Ok(())
}

/// The student does a lab from its first step to its last, with the machine's hands.
async fn finishes(student: &Student, lab: &str) -> anyhow::Result<()> {
    well(&student.lab(&["start", lab])?)?;
    loop {
        let typed = student.lab(&["solve"])?;
        // The last effect may take longer to show than it waits for.
        ensure!(
            matches!(typed.status.code(), Some(0 | 3)),
            "{:?}",
            texts(&typed)
        );
        eventually("the step passes", SOON, async || {
            well(&student.lab(&["check"])?).map(drop)
        })
        .await?;
        if well(&student.lab(&["next"])?)?.contains("The lab is done.") {
            return Ok(());
        }
    }
}

/// A pod of httpbin that is not on its way out is ready in Kim's namespace.
async fn httpbin_is_ready(client: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kim-minsu");
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
        let mut all = conditions.into_iter().flatten();
        pod.metadata.deletion_timestamp.is_none()
            && all.any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let of_httpbin = ListParams::default().labels("app=httpbin");
    eventually("httpbin is ready", SOON, || async {
        let list = pods.list(&of_httpbin).await?;
        ensure!(list.items.iter().any(ready), "no pod is ready");
        Ok(())
    })
    .await
}

async fn nothing_is_left(dojo: &Dojo) -> anyhow::Result<()> {
    let client = dojo.client().await?;
    let of_class = ListParams::default().labels(LABEL);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert!(namespaces.list(&of_class).await?.items.is_empty());
    let bindings: Api<RoleBinding> = Api::all(client.clone());
    assert!(bindings.list(&of_class).await?.items.is_empty());
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    assert!(webhooks.list(&of_class).await?.items.is_empty());
    let pods: Api<Pod> = Api::all(client);
    let namespaces: Vec<String> = pods
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter_map(|pod| pod.metadata.namespace)
        .collect();
    assert!(
        namespaces.iter().all(|name| name == "istio-system"),
        "{namespaces:?}"
    );
    Ok(())
}
