//! `meshdojo kube-inject`: what the webhook does to pods, done to the manifests of a file.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{annotations::not_carried_out, decide::wanted, patch::changes};
use crate::InjectionArgs;

/// `meshdojo kube-inject`.
#[derive(clap::Args, Debug)]
pub struct KubeInjectArgs {
    /// File with manifests in YAML or JSON; - is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub file: PathBuf,
    /// Write to this file instead of to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Namespace of manifests that name none
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Revision of the control plane; there is one
    #[arg(short, long, default_value = "default", value_parser = ["default"])]
    pub revision: String,
    /// What is injected
    #[command(flatten)]
    pub injection: InjectionArgs,
}

/// Runs the verb. What is not injected, and why, goes to standard error.
///
/// # Errors
/// A file that cannot be read or written, is no YAML, or holds a pod template that is none.
pub fn run(args: &KubeInjectArgs) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let (injected, remarks) = inject(&text, &args.namespace, &args.injection)
        .with_context(|| args.file.display().to_string())?;
    for remark in remarks {
        eprintln!("{remark}");
    }
    match &args.output {
        Some(path) => {
            std::fs::write(path, injected).with_context(|| format!("writing {}", path.display()))
        }
        None => Ok(std::io::stdout().write_all(injected.as_bytes())?),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// The documents of a YAML text with sidecars in them, and what there is to say about it.
fn inject(
    text: &str,
    namespace: &str,
    settings: &InjectionArgs,
) -> anyhow::Result<(String, Vec<String>)> {
    let (mut injected, mut remarks) = (String::new(), Vec::new());
    for document in serde_norway::Deserializer::from_str(text) {
        let mut object = Value::deserialize(document)?;
        if object.is_null() {
            continue;
        }
        inject_into(&mut object, namespace, settings, &mut remarks)?;
        injected.push_str("---\n");
        injected.push_str(&serde_norway::to_string(&object)?);
    }
    Ok((injected, remarks))
}

fn inject_into(
    object: &mut Value,
    namespace: &str,
    settings: &InjectionArgs,
    remarks: &mut Vec<String>,
) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let namespace = match object["metadata"]["namespace"].as_str() {
        Some(own) => own.to_owned(),
        None => namespace.to_owned(),
    };
    let template = match kind.as_str() {
        "List" => {
            for item in object["items"].as_array_mut().into_iter().flatten() {
                inject_into(item, &namespace, settings, remarks)?;
            }
            return Ok(());
        }
        "Pod" => "",
        "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return Ok(()),
    };
    let who = format!("{kind} {namespace}/{name}");
    let template = object
        .pointer_mut(template)
        .with_context(|| format!("{who} has no pod template"))?;
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": template["metadata"],
        "spec": template["spec"],
    }))
    .with_context(|| format!("{who}: its pod template cannot be read"))?;
    if kind != "Pod" {
        // By its owner a pod's workload is known.
        let owner = json!([{ "apiVersion": "", "kind": kind, "name": name, "uid": "", "controller": true }]);
        pod.metadata.owner_references = Some(serde_json::from_value(owner)?);
    }
    if let Err(reason) = wanted(&pod, &namespace) {
        remarks.push(format!("{who} is not injected: {reason}"));
        return Ok(());
    }
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    remarks.extend(
        not_carried_out(&annotations)
            .into_iter()
            .map(|text| format!("Warning: {who}: {text}")),
    );
    for (path, value) in changes(&pod, settings) {
        let (_, path) = path.split_at(1);
        if let Some((parent, field)) = path.split_once('/') {
            template[parent][field] = value;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { ports: [{ port: 80 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata:
      labels: { app: web }
      annotations: { proxy.istio.io/config: '{}' }
    spec:
      containers: [{ name: web, image: web, readinessProbe: { httpGet: { port: 80 } } }]
---
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: night }
spec:
  jobTemplate:
    spec:
      template:
        metadata: { labels: { sidecar.istio.io/inject: 'false' } }
        spec: { containers: [{ name: night, image: night }] }
";

    fn settings() -> InjectionArgs {
        InjectionArgs {
            proxy_image: "istio/proxyv2:1".into(),
            native_sidecars: true,
        }
    }

    #[test]
    fn pod_templates_get_a_sidecar_and_the_rest_stays() {
        let (text, remarks) = inject(MANIFESTS, "default", &settings()).unwrap();
        let documents: Vec<Value> = serde_norway::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let kinds: Vec<_> = documents.iter().map(|d| d["kind"].clone()).collect();
        assert_eq!(kinds, ["Service", "Deployment", "CronJob"]);
        let template = &documents[1]["spec"]["template"];
        let sidecar = &template["spec"]["initContainers"][1];
        assert_eq!(sidecar["name"], "istio-proxy");
        assert!(
            sidecar
                .to_string()
                .contains(r#"{"name":"ISTIO_META_WORKLOAD_NAME","value":"web"}"#),
            "{sidecar}"
        );
        let probe = &template["spec"]["containers"][0]["readinessProbe"];
        assert_eq!(probe["httpGet"]["port"], 15020);
        assert_eq!(
            remarks,
            [
                "Warning: Deployment shop/web: annotation proxy.istio.io/config is not carried out",
                "CronJob default/night is not injected: sidecar.istio.io/inject is false",
            ]
        );
        // Once is enough.
        let (again, remarks) = inject(&text, "default", &settings()).unwrap();
        assert_eq!(again, text);
        assert_eq!(
            remarks[0],
            "Deployment shop/web is not injected: the pod has a sidecar already"
        );
    }

    #[test]
    fn what_is_no_pod_template_is_named() {
        let wrong =
            "kind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: 1}}}";
        let error = inject(wrong, "default", &settings()).unwrap_err();
        assert!(
            error.to_string().contains("Deployment default/a"),
            "{error}"
        );
        assert!(inject("a: [", "default", &settings()).is_err());
    }
}
