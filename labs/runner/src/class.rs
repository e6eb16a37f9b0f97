//! A student's place in a class: a namespace of a shared cluster and a host at its gateway.
//!
//! The instructor's `meshdojo class create` writes it into the annotations of the namespace; the labs
//! read it there, are rendered for it, and keep the student's progress beside it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    lab::Lab,
    parse::{ALONE, parse},
    progress::{Progress, write_whole},
};

/// Annotation of a student's namespace: the host at the gateway, `kim.class.example`.
pub const HOST: &str = "class.meshdojo.dev/host";
/// Annotation: the gateway under that host, `http://kim.class.example`.
pub const GATEWAY: &str = "class.meshdojo.dev/gateway";
/// Annotation: what the instructor has to say.
pub const MESSAGE: &str = "class.meshdojo.dev/message";
/// Annotation: when the instructor last put the namespace back to its beginning.
pub const RESET: &str = "class.meshdojo.dev/reset";
/// Label of the ConfigMap that holds a student's progress.
pub const PROGRESS_LABEL: &str = "class.meshdojo.dev/progress";
/// Its name.
pub const PROGRESS_NAME: &str = "lab-progress";
/// Its key with the whole progress, as the student's own file has it.
pub const PROGRESS_KEY: &str = "progress.yaml";

/// Under this name the progress is written.
const FIELD_MANAGER: &str = "meshdojo-lab";
/// A cluster that is slow or away must not keep a student from reading.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long what the instructor has installed may take to serve.
const INSTALLING: Duration = Duration::from_secs(60);
/// How labs point kubectl at the embedded cluster.
const OWN_CLUSTER: &str = "export KUBECONFIG=$(meshdojo kubeconfig)";
/// Domains of the labs' own hosts, which become a student's.
const LAB_DOMAINS: [&str; 2] = ["example.com", "istioinaction.io"];
/// What of the project a student types from.
const RENDERED: [&str; 2] = ["labs/book", "k8s/apps"];

/// A student's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The student's namespace.
    pub namespace: String,
    /// The student's host at the gateway.
    pub host: String,
    /// `http://kim.class.example:8080`
    pub gateway: String,
    /// What the instructor says to everybody.
    pub message: Option<String>,
    /// Another one after each reset, and in each class: the progress of an earlier one is over.
    pub beginning: String,
}

impl Class {
    /// What the annotations of a namespace say; `None` for one that is no student's.
    pub fn of(namespace: &Namespace) -> Option<Self> {
        let annotations = namespace.annotations();
        let host = annotations.get(HOST)?;
        let gateway = annotations.get(GATEWAY).cloned();
        Some(Self {
            namespace: namespace.name_any(),
            gateway: gateway.unwrap_or_else(|| format!("http://{host}")),
            host: host.clone(),
            message: annotations.get(MESSAGE).filter(|m| !m.is_empty()).cloned(),
            beginning: [namespace.uid(), annotations.get(RESET).cloned()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("/"),
        })
    }

    /// Asks the cluster about the namespace of the kubeconfig's context. Who may not read it is in no class.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn find(client: &Client, namespace: &str) -> anyhow::Result<Option<Self>> {
        if namespace == "default" {
            return Ok(None);
        }
        let api: Api<Namespace> = Api::all(client.clone());
        match tokio::time::timeout(PATIENCE, api.get_opt(namespace)).await {
            Ok(Ok(found)) => Ok(found.as_ref().and_then(Self::of)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(None),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => anyhow::bail!("no answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// A text of the labs for this student: the namespace in the place of `default`, the student's host where the labs
    /// take any, and below it those that they name. The cluster and its kubeconfig are there already.
    pub fn render(&self, text: &str) -> String {
        let mut inside = false;
        let mut text: String = text
            .split_inclusive('\n')
            .map(|line| match line.trim_end() {
                OWN_CLUSTER => "# the cluster is your class's\n".into(),
                create if create.starts_with("kubectl create namespace ") => {
                    "# your namespace is there already\n".into()
                }
                label if label.starts_with("kubectl label namespace ") => {
                    "# and has its label\n".into()
                }
                up if up == "meshdojo up" || (up.starts_with("meshdojo up ") && !inside) => {
                    "# what runs here is your instructor's matter\n".into()
                }
                // Within a lab it brings the application's way in back.
                up if up.starts_with("meshdojo up ") => {
                    let app = &up["meshdojo up ".len()..];
                    format!("kubectl apply -f ../../../k8s/apps/{app}/gateway.yaml\n")
                }
                into if into.starts_with("cd labs/book/") => {
                    inside = true;
                    line.into()
                }
                _ => line.into(),
            })
            .collect();
        text = text
            .replace(" -A\n", "\n")
            .replace(" -A\"", "\"")
            .replace(".default.svc", &format!(".{}.svc", self.namespace))
            .replace("ns/default/", &format!("ns/{}/", self.namespace))
            .replace(
                "hosts: [\"*\"]",
                &format!("hosts: [{0}, \"*.{0}\"]", self.host),
            );
        for domain in LAB_DOMAINS {
            text = text.replace(domain, &format!("{domain}.{}", self.host));
        }
        text
    }

    /// A text of a lab whose namespaces `own` are the student's, which its introduction says.
    fn render_lab(&self, text: &str, own: &[String]) -> String {
        let mut text = text.to_owned();
        for name in own {
            let said = format!(
                "\n---\n\n> {name} → {}: in a class this namespace of the lab is your own. 수업에서는 이 실습의 네임스페이스가 자신의 것입니다.\n",
                self.namespace
            );
            text = text.replace(name, &self.namespace);
            if text.starts_with("---\n") {
                text = text.replacen("\n---\n", &said, 1);
            }
        }
        text
    }

    /// Writes the labs and applications of the project in `root`, rendered, below `folder`.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_rendered(&self, root: &Path, folder: &Path) -> anyhow::Result<()> {
        for part in RENDERED {
            for file in files(&root.join(part))? {
                let told = || format!("reading {}", file.display());
                let relative = file.strip_prefix(root).with_context(told)?;
                let to = folder.join(relative);
                match String::from_utf8(std::fs::read(&file).with_context(told)?) {
                    Ok(text) => {
                        let own = own_of(&file);
                        let text = self.render_lab(&without_alone(&text), &own);
                        write_if_new(&to, self.render(&text).as_bytes())?;
                    }
                    Err(picture) => write_if_new(&to, picture.as_bytes())?,
                }
            }
        }
        Ok(())
    }
}

/// Which namespaces of the lab that a file belongs to are the student's own.
fn own_of(file: &Path) -> Vec<String> {
    let script = file.with_file_name("README.md");
    let text = std::fs::read_to_string(&script).unwrap_or_default();
    parse(&script, &text).map_or(Vec::new(), |lab| lab.front.own)
}

/// A text without the blocks that are for a cluster of one's own.
fn without_alone(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        let fence = line.trim_end().strip_prefix("```");
        let begins = fence.is_some_and(|info| info.split(' ').nth(1) == Some(ALONE));
        if !inside && !begins {
            kept.push_str(line);
        }
        inside = begins || (inside && fence.is_none());
    }
    kept
}

/// Waits until what the instructor has installed serves; `false` when it does not in a minute.
///
/// # Errors
/// When the cluster does not answer.
pub async fn applications_serve(client: &Client, class: &Class) -> anyhow::Result<bool> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &class.namespace);
    let end = tokio::time::Instant::now() + INSTALLING;
    loop {
        let all = api.list(&ListParams::default()).await?;
        if all.iter().all(serves) {
            return Ok(true);
        }
        if tokio::time::Instant::now() > end {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn serves(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    let ready = deployment.status.as_ref().and_then(|s| s.ready_replicas);
    ready.unwrap_or(0) >= wanted.unwrap_or(1)
}

/// The files below a folder; none when it is not there.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn write_if_new(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    match std::fs::read(file) {
        Ok(there) if there == content => Ok(()),
        _ => write_whole(file, content),
    }
}

/// The ConfigMap that tells an instructor how far a student is: the current lab in keys of its own, and the whole file.
///
/// # Errors
/// When the progress has no form in YAML.
pub fn progress_object(class: &Class, progress: &Progress, labs: &[Lab]) -> anyhow::Result<Value> {
    let steps = |id: &str| labs.iter().find(|lab| lab.id == id).map(|l| l.steps.len());
    let passed = |id: &str, of: usize| progress.labs.get(id).map_or(0, |known| known.passed(of));
    let mut data = BTreeMap::from([
        (PROGRESS_KEY, serde_norway::to_string(progress)?),
        (
            "passed",
            labs.iter()
                .map(|lab| passed(&lab.id, lab.steps.len()))
                .sum::<usize>()
                .to_string(),
        ),
        (
            "total",
            labs.iter()
                .map(|lab| lab.steps.len())
                .sum::<usize>()
                .to_string(),
        ),
    ]);
    let current = progress.current.as_deref();
    if let Some((id, known)) = current.and_then(|id| Some((id, progress.labs.get(id)?))) {
        data.insert("lab", id.to_owned());
        data.insert("step", known.step.to_string());
        data.insert("steps", steps(id).unwrap_or(known.step).to_string());
        data.insert("since", known.at_step_since().to_string());
        if let Some(reason) = known.steps.get(&known.step).and_then(|s| s.reason.clone()) {
            data.insert("reason", reason);
        }
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": PROGRESS_NAME, "namespace": class.namespace,
            "labels": { PROGRESS_LABEL: "true" },
        },
        "data": data,
    }))
}

/// Writes the progress into the student's namespace.
///
/// # Errors
/// When the cluster does not take it.
pub async fn publish(
    client: &Client,
    class: &Class,
    progress: &Progress,
    labs: &[Lab],
) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &class.namespace);
    let object = progress_object(class, progress, labs)?;
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&object);
    let patching = api.patch(PROGRESS_NAME, &parameters, &patch);
    tokio::time::timeout(PATIENCE, patching)
        .await
        .context("no answer in time")??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn kim() -> Class {
        Class::of(
            &serde_json::from_value(json!({ "metadata": {
                "name": "kim",
                "annotations": { HOST: "kim.localhost", GATEWAY: "http://kim.localhost:8080", MESSAGE: "" },
            } }))
            .unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn a_namespace_without_annotations_is_no_students() {
        assert_eq!(Class::of(&Namespace::default()), None);
        assert_eq!(kim().message, None);
        assert_eq!(kim().gateway, "http://kim.localhost:8080");
    }

    #[test]
    fn a_reset_and_another_class_are_beginnings() {
        let beginning = |uid: &str, reset: Option<&str>| {
            let mut annotations = json!({ HOST: "kim.localhost" });
            if let Some(reset) = reset {
                annotations[RESET] = json!(reset);
            }
            let namespace =
                json!({ "metadata": { "name": "kim", "uid": uid, "annotations": annotations } });
            Class::of(&serde_json::from_value(namespace).unwrap())
                .unwrap()
                .beginning
        };
        assert_eq!(beginning("1", None), "1");
        assert_eq!(beginning("1", Some("now")), "1/now");
        assert_ne!(beginning("2", Some("now")), beginning("1", Some("now")));
    }

    #[test]
    fn labs_are_rendered_for_the_students_namespace_and_host() {
        let text = "hosts: [\"*\"]\nhost: a.default.svc.cluster.local\nprincipals: [cluster.local/ns/default/sa/x]\n\
                    hosts: [fleet.example.com, next.fleet.example.com]\nthis is the default\n";
        assert_eq!(
            kim().render(text),
            "hosts: [kim.localhost, \"*.kim.localhost\"]\nhost: a.kim.svc.cluster.local\nprincipals: [cluster.local/ns/kim/sa/x]\n\
             hosts: [fleet.example.com.kim.localhost, next.fleet.example.com.kim.localhost]\nthis is the default\n"
        );
        assert_eq!(
            kim().render("meshdojo up httpbin\nexport KUBECONFIG=$(meshdojo kubeconfig)\ncd labs/book/a\n  - meshdojo up\nmeshdojo up httpbin\n"),
            "# what runs here is your instructor's matter\n# the cluster is your class's\ncd labs/book/a\n  - meshdojo up\n\
             kubectl apply -f ../../../k8s/apps/httpbin/gateway.yaml\n"
        );
        let lab = "---\nown: [tutorial]\n---\n\n```sh\nkubectl create namespace tutorial\nkubectl get pa -A\n```\n\
                   ```sh alone\nkubectl delete namespace tutorial\n```\n```check alone\n- a\n```\nend\n";
        let lab = kim().render(&kim().render_lab(&without_alone(lab), &["tutorial".into()]));
        assert!(lab.contains("> tutorial → kim: "), "{lab}");
        assert!(
            lab.ends_with("```sh\n# your namespace is there already\nkubectl get pa\n```\nend\n"),
            "{lab}"
        );
        let (root, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let lab = root.path().join("labs/book/01-a");
        std::fs::create_dir_all(&lab).unwrap();
        std::fs::write(lab.join("a.yaml"), text).unwrap();
        kim().write_rendered(root.path(), to.path()).unwrap();
        let rendered = std::fs::read_to_string(to.path().join("labs/book/01-a/a.yaml")).unwrap();
        assert_eq!(rendered, kim().render(text));
    }

    #[test]
    fn progress_tells_where_the_student_is() {
        let text = "---\ntitle: T\ntime: five\nlearn: [a]\nneeds: [b]\n---\n\n## 1. A\n\n## 2. B\n";
        let labs = [crate::parse::parse(Path::new("01-a/README.md"), text).unwrap()];
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut progress = Progress {
            current: Some("01-a".into()),
            ..Progress::default()
        };
        let lab = progress.lab("01-a", at("2026-01-02T03:00:00Z"));
        lab.checked(1, None, at("2026-01-02T03:05:00Z"));
        lab.step = 2;
        lab.checked(2, Some("404".into()), at("2026-01-02T03:06:00Z"));
        let object = progress_object(&kim(), &progress, &labs).unwrap();
        assert_eq!(object["metadata"]["namespace"], "kim");
        let data = &object["data"];
        for (key, value) in [
            ("lab", "01-a"),
            ("step", "2"),
            ("steps", "2"),
            ("passed", "1"),
            ("total", "2"),
            ("since", "2026-01-02T03:05:00Z"),
            ("reason", "404"),
        ] {
            assert_eq!(data[key], value, "{key}");
        }
        let read: Progress = serde_norway::from_str(data[PROGRESS_KEY].as_str().unwrap()).unwrap();
        assert_eq!(read, progress);
    }
}
