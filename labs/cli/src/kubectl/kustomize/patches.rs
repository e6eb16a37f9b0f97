//! Patches of a kustomization: strategic ones, and lists of JSON patch operations.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_embedded::{gvk::Gvk, patch};
use serde::Deserialize;
use serde_json::Value;

use super::super::objects::name;

/// One of `patches`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patch {
    path: Option<PathBuf>,
    patch: Option<String>,
    target: Option<Target>,
}

/// One of `patchesStrategicMerge`: a file, or the patch itself.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Strategic(String);

impl From<Strategic> for Patch {
    fn from(Strategic(text): Strategic) -> Self {
        let is_patch = text.contains('\n');
        Self {
            path: (!is_patch).then(|| PathBuf::from(&text)),
            patch: is_patch.then_some(text),
            target: None,
        }
    }
}

/// Which objects are patched; what is not said does not matter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Target {
    group: Option<String>,
    version: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    label_selector: Option<String>,
}

impl Target {
    /// The object that a patch is made like.
    fn of(patch: &Value) -> anyhow::Result<Self> {
        let gvk = gvk(patch);
        if gvk.kind.is_empty() || name(patch).is_empty() {
            bail!("a patch without a target needs kind and metadata.name");
        }
        Ok(Self {
            group: Some(gvk.group),
            version: Some(gvk.version),
            kind: Some(gvk.kind),
            name: Some(name(patch).to_owned()),
            ..Self::default()
        })
    }

    fn fits(&self, object: &Value) -> bool {
        let gvk = gvk(object);
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|w| w == value);
        let namespace = object["metadata"]["namespace"].as_str();
        let labels = self.label_selector.iter().flat_map(|text| text.split(','));
        let mut pairs = labels.filter_map(|pair| pair.split_once('='));
        is(&self.group, &gvk.group)
            && is(&self.version, &gvk.version)
            && is(&self.kind, &gvk.kind)
            && is(&self.name, name(object))
            && is(&self.namespace, namespace.unwrap_or("default"))
            && pairs.all(|(key, value)| object["metadata"]["labels"][key.trim()] == value.trim())
    }
}

fn gvk(object: &Value) -> Gvk {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    Gvk::from_api_version(text("apiVersion"), text("kind"))
}

impl Patch {
    /// Patches the objects that are meant. `folder` is the kustomization's.
    ///
    /// # Errors
    /// When the patch cannot be read, no object is meant, or it does not fit one.
    pub(super) fn apply(&self, objects: &mut Vec<Value>, folder: &Path) -> anyhow::Result<()> {
        let (text, source) = match (&self.patch, &self.path) {
            (Some(text), None) => (text.clone(), "an inline patch".to_owned()),
            (None, Some(path)) => {
                let source = folder.join(path).display().to_string();
                let text = std::fs::read_to_string(folder.join(path));
                (text.with_context(|| source.clone())?, source)
            }
            _ => bail!("patches: each needs one of path and patch"),
        };
        for document in serde_norway::Deserializer::from_str(&text) {
            let patch = Value::deserialize(document).with_context(|| source.clone())?;
            if !patch.is_null() {
                self.apply_one(&patch, objects)
                    .with_context(|| source.clone())?;
            }
        }
        Ok(())
    }

    fn apply_one(&self, patch: &Value, objects: &mut Vec<Value>) -> anyhow::Result<()> {
        let own;
        let target = match &self.target {
            Some(target) => target,
            None if patch.is_array() => bail!("a list of operations needs a target"),
            None => {
                own = Target::of(patch)?;
                &own
            }
        };
        let mut found = false;
        for object in objects.iter_mut().filter(|object| target.fits(object)) {
            found = true;
            *object = patched(object, patch)?;
        }
        if !found {
            bail!(
                "no object is its target: {}/{}",
                target.kind.as_deref().unwrap_or("*"),
                target.name.as_deref().unwrap_or("*")
            );
        }
        objects.retain(|object| !object.is_null());
        Ok(())
    }
}

/// The object after the patch; null when the patch deletes it.
fn patched(object: &Value, patch: &Value) -> anyhow::Result<Value> {
    if patch.is_array() {
        // json_patch knows where; the server's words say only that it does not fit.
        return patch::json(object, patch).map_err(|error| match error {
            patch::PatchError::Rejected(why) => anyhow::anyhow!(why),
            error => error.into(),
        });
    }
    if patch["$patch"] == "delete" {
        return Ok(Value::Null);
    }
    // The name says which object it is, or, with a target, nothing.
    let mut patch = patch.clone();
    if let Some(metadata) = patch["metadata"].as_object_mut() {
        metadata.shift_remove("name");
        metadata.shift_remove("namespace");
    }
    for field in ["apiVersion", "kind"] {
        if let Some(fields) = patch.as_object_mut() {
            fields.shift_remove(field);
        }
    }
    Ok(patch::strategic(object, &patch, &gvk(object))?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "replicas": 1, "template": { "spec": { "containers": [
                { "name": "web", "image": "a" }, { "name": "side", "image": "b" }] } } } })
    }

    fn apply(patch: Value) -> anyhow::Result<Vec<Value>> {
        let service =
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" } });
        let mut objects = vec![deployment(), service];
        let patch: Patch = serde_json::from_value(patch)?;
        patch.apply(&mut objects, Path::new("/"))?;
        Ok(objects)
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_keys() {
        let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { template: { spec: { containers: [{ name: side, image: c }] } } }\n";
        let objects = apply(json!({ "patch": patch })).unwrap();
        let containers = &objects[0]["spec"]["template"]["spec"]["containers"];
        let image = |name: &str| {
            let mut all = containers.as_array().unwrap().iter();
            all.find(|c| c["name"] == name).unwrap()["image"].clone()
        };
        assert_eq!((image("web"), image("side")), (json!("a"), json!("c")));
    }

    #[test]
    fn operations_go_to_their_target() {
        let patch = "[{ op: replace, path: /spec/replicas, value: 3 }]";
        let target = json!({ "kind": "Deployment" });
        let objects = apply(json!({ "patch": patch, "target": target })).unwrap();
        assert_eq!(objects[0]["spec"]["replicas"], 3);
        let told = |patch: Value| format!("{:#}", apply(patch).unwrap_err());
        assert!(told(json!({ "patch": patch })).contains("needs a target"));
        let nobody = json!({ "patch": patch, "target": { "kind": "Pod" } });
        assert!(told(nobody).contains("no object is its target: Pod/*"));
        let bad = patch.replace("replicas", "none/x");
        assert!(told(json!({ "patch": bad, "target": target })).contains("none"));
    }

    #[test]
    fn a_patch_can_delete() {
        let patch = "$patch: delete\napiVersion: v1\nkind: Service\nmetadata: { name: web }\n";
        let objects = apply(json!({ "patch": patch })).unwrap();
        assert_eq!(objects, [deployment()]);
    }
}
