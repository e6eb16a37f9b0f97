//! Kustomizations, as far as teaching material uses them: resources, patches, namespace, labels, images, name prefixes, replicas.

mod patches;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{manifest, output};
use patches::{Patch, Strategic};

/// `kubectl kustomize`.
#[derive(Args)]
pub struct KustomizeArgs {
    /// A folder with a kustomization.yaml
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Prints the objects.
pub fn run(args: &KustomizeArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    for object in build(&args.folder)? {
        text.push(output::yaml(&output::sorted(&object))?);
    }
    std::io::stdout()
        .lock()
        .write_all(text.join("---\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What is carried out; any other field is refused by its name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    resources: Vec<PathBuf>,
    namespace: Option<String>,
    name_prefix: String,
    name_suffix: String,
    common_labels: Pairs,
    common_annotations: Pairs,
    labels: Vec<Labels>,
    images: Vec<Image>,
    replicas: Vec<Replicas>,
    patches: Vec<Patch>,
    patches_strategic_merge: Vec<Strategic>,
    patches_json6902: Vec<Patch>,
}

type Pairs = std::collections::BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Labels {
    pairs: Pairs,
    #[serde(default)]
    include_selectors: bool,
    #[serde(default)]
    include_templates: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replicas {
    name: String,
    count: u32,
}

/// The objects of a folder.
///
/// # Errors
/// When a file is missing, or the kustomization asks for something that is not carried out.
pub fn build(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let file = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file());
    let Some(file) = file else {
        bail!(
            "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory {:?}",
            folder.display().to_string()
        );
    };
    let told = || file.display().to_string();
    let text = std::fs::read_to_string(&file).with_context(told)?;
    let mut read: Kustomization = serde_norway::from_str(&text).with_context(|| {
        format!(
            "{}: not carried out here; the whole of kustomize is in the ordinary kubectl",
            told()
        )
    })?;
    let mut objects = Vec::new();
    for resource in &read.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            objects.extend(build(&path)?);
        } else {
            objects.extend(manifest::of_path(&path)?.into_iter().map(|m| m.object));
        }
    }
    let strategic = std::mem::take(&mut read.patches_strategic_merge);
    let patches = strategic.into_iter().map(Patch::from);
    let patches = patches.chain(std::mem::take(&mut read.patches));
    for patch in patches.chain(std::mem::take(&mut read.patches_json6902)) {
        patch.apply(&mut objects, folder).with_context(told)?;
    }
    for object in &mut objects {
        change(object, &read);
    }
    objects.sort_by_key(place);
    Ok(objects)
}

/// Kinds without a namespace, among those that manifests of the mesh and of applications have.
const CLUSTER_SCOPED: [&str; 7] = [
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "PersistentVolume",
];

/// What others need comes first, webhooks last.
const FIRST: [&str; 15] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PersistentVolumeClaim",
];

fn place(object: &Value) -> (usize, String, String) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let rank = if kind.ends_with("WebhookConfiguration") {
        FIRST.len() + 2
    } else if matches!(kind, "Deployment" | "StatefulSet" | "CronJob") {
        FIRST.len()
    } else {
        FIRST
            .iter()
            .position(|first| *first == kind)
            .unwrap_or(FIRST.len() + 1)
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    (rank, kind.to_owned(), name.to_owned())
}

fn change(object: &mut Value, by: &Kustomization) {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let own = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if let (Some(namespace), false) = (&by.namespace, CLUSTER_SCOPED.contains(&kind.as_str())) {
        object["metadata"]["namespace"] = namespace.clone().into();
    }
    let has_template = object["spec"]["template"].is_object();
    for (key, value) in &by.common_annotations {
        object["metadata"]["annotations"][key] = value.clone().into();
        if has_template {
            object["spec"]["template"]["metadata"]["annotations"][key] = value.clone().into();
        }
    }
    let common = Labels {
        pairs: by.common_labels.clone(),
        include_selectors: true,
        include_templates: true,
    };
    for labels in by.labels.iter().chain([&common]) {
        for (key, value) in &labels.pairs {
            object["metadata"]["labels"][key] = value.clone().into();
            if has_template && (labels.include_templates || labels.include_selectors) {
                object["spec"]["template"]["metadata"]["labels"][key] = value.clone().into();
            }
            if labels.include_selectors && object["spec"]["selector"]["matchLabels"].is_object() {
                object["spec"]["selector"]["matchLabels"][key] = value.clone().into();
            } else if labels.include_selectors
                && kind == "Service"
                && object["spec"]["selector"].is_object()
            {
                object["spec"]["selector"][key] = value.clone().into();
            }
        }
    }
    for replicas in by.replicas.iter().filter(|r| r.name == own) {
        object["spec"]["replicas"] = replicas.count.into();
    }
    for list in ["containers", "initContainers"] {
        for at in ["/spec/", "/spec/template/spec/"] {
            let containers = object.pointer_mut(&format!("{at}{list}"));
            for container in containers
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                let image = container["image"].as_str().unwrap_or_default();
                if let Some(new) = by.images.iter().find_map(|change| change.of(image)) {
                    container["image"] = new.into();
                }
            }
        }
    }
    if !by.name_prefix.is_empty() || !by.name_suffix.is_empty() {
        object["metadata"]["name"] = format!("{}{own}{}", by.name_prefix, by.name_suffix).into();
    }
}

impl Image {
    /// The image that stands for `image`, if this is about it.
    fn of(&self, image: &str) -> Option<String> {
        let slash = image.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match image[slash..].rfind(':') {
            Some(colon) => image.split_at(slash + colon),
            None => (image, ""),
        };
        (name == self.name).then(|| {
            let name = self.new_name.as_deref().unwrap_or(name);
            let tag = self
                .new_tag
                .as_ref()
                .map_or(tag.to_owned(), |tag| format!(":{tag}"));
            format!("{name}{tag}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "kustomization.yaml",
            "resources: [a.yaml]\nnamespace: n\nnamePrefix: my-\nlabels:\n  - { pairs: { team: x }, includeSelectors: true }\nimages:\n  - { name: r/i, newTag: v2 }\nreplicas:\n  - { name: a, count: 3 }\n",
        );
        write(
            "a.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\nspec:\n  selector: { matchLabels: { app: a } }\n  template:\n    metadata: { labels: { app: a } }\n    spec: { containers: [{ name: c, image: 'r/i:v1' }] }\n",
        );
        let built = build(folder.path()).unwrap();
        let at = |pointer: &str| built[0].pointer(pointer).unwrap().clone();
        assert_eq!(at("/metadata/name"), "my-a");
        assert_eq!(at("/metadata/namespace"), "n");
        assert_eq!(at("/spec/selector/matchLabels/team"), "x");
        assert_eq!(at("/spec/template/metadata/labels/team"), "x");
        assert_eq!(at("/spec/template/spec/containers/0/image"), "r/i:v2");
        assert_eq!(at("/spec/replicas"), 3);

        write(
            "kustomization.yaml",
            "resources: []\nconfigMapGenerator: []\n",
        );
        let refused = format!("{:#}", build(folder.path()).unwrap_err());
        assert!(
            refused.contains("not carried out here") && refused.contains("configMapGenerator"),
            "{refused}"
        );
    }

    #[test]
    fn the_bases_of_the_project_are_built() {
        let k8s = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s");
        assert!(build(&k8s.join("install")).unwrap().len() > 10);
        assert!(build(&k8s.join("apps/bookinfo")).unwrap().len() > 10);
        assert!(build(&k8s).is_err());
    }
}
