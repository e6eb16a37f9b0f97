//! Objects from files, folders and stdin.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{
    kinds::{Kind, Kinds},
    kustomize,
    objects::{name, namespace},
    server::Server,
};

/// `-f FILE...` or `-k FOLDER`.
#[derive(Args, Clone, Debug, Default)]
pub struct Sources {
    /// Files or folders with manifests; - for stdin
    #[arg(short, long = "filename", value_delimiter = ',')]
    filename: Vec<PathBuf>,
    /// A folder with a kustomization.yaml
    #[arg(short = 'k', long)]
    kustomize: Option<PathBuf>,
}

/// An object of a manifest, and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file, or `STDIN`.
    pub source: String,
    /// The object.
    pub object: Value,
}

impl Sources {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.filename.is_empty() && self.kustomize.is_none()
    }

    /// The objects, in their order.
    ///
    /// # Errors
    /// When a file cannot be read, or is not made of objects.
    pub fn read(&self) -> anyhow::Result<Vec<Manifest>> {
        let mut all = Vec::new();
        for file in &self.filename {
            if file.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                all.extend(parse("STDIN", &text)?);
            } else {
                all.extend(of_path(file)?);
            }
        }
        if let Some(folder) = &self.kustomize {
            let source = folder.display().to_string();
            let objects = kustomize::build(folder)?.into_iter();
            all.extend(objects.map(|object| Manifest {
                source: source.clone(),
                object,
            }));
        }
        if all.is_empty() {
            bail!("no objects passed");
        }
        Ok(all)
    }
}

/// The objects of a file, or of the files of a folder.
///
/// # Errors
/// When it is not there, or is not made of objects.
pub fn of_path(path: &Path) -> anyhow::Result<Vec<Manifest>> {
    let text = path.to_string_lossy();
    if text.starts_with("http://") || text.starts_with("https://") {
        bail!("{text}: manifests are read from files; fetch it first: curl -LO {text}");
    }
    if !path.exists() {
        bail!("the path {:?} does not exist", text);
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| text.clone().into_owned())?;
        let manifest = |file: &PathBuf| {
            file.extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        };
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(manifest)
            .collect();
        files.sort();
        let mut all = Vec::new();
        for file in files {
            all.extend(of_path(&file)?);
        }
        return Ok(all);
    }
    let read = std::fs::read_to_string(path).with_context(|| text.clone().into_owned())?;
    parse(&text, &read)
}

fn parse(source: &str, text: &str) -> anyhow::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let object = Value::deserialize(document)
            .map_err(|error| anyhow!("error parsing {source}: {error}"))?;
        if object.is_null() {
            continue;
        }
        // A List stands for what is in it.
        let inner = object["items"].as_array().filter(|_| {
            let kind = object["kind"].as_str().unwrap_or_default();
            kind.ends_with("List")
        });
        let objects = inner.map_or_else(|| vec![object.clone()], Clone::clone);
        for object in objects {
            for field in ["kind", "apiVersion"] {
                if !object[field].is_string() {
                    bail!("error validating {source:?}: error validating data: {field} not set");
                }
            }
            found.push(Manifest {
                source: source.to_owned(),
                object,
            });
        }
    }
    Ok(found)
}

impl Manifest {
    /// Its kind, and the path at which it is or will be; its namespace is set when it has none.
    ///
    /// # Errors
    /// When the server has no such kind, the object has no name, or its namespace is not that of `-n`.
    pub fn place(&mut self, server: &Server, kinds: &Kinds) -> anyhow::Result<(Kind, String)> {
        let text = |field: &str| self.object[field].as_str().unwrap_or_default();
        let kind = kinds
            .of_manifest(text("apiVersion"), text("kind"))
            .with_context(|| {
                format!(
                    "resource mapping not found for name: {:?} from {:?}",
                    name(&self.object),
                    self.source
                )
            })?;
        if name(&self.object).is_empty() {
            bail!(
                "error when reading {:?}: resource name may not be empty",
                self.source
            );
        }
        if kind.namespaced {
            let own = namespace(&self.object).to_owned();
            if own.is_empty() {
                self.object["metadata"]["namespace"] = server.namespace.clone().into();
            } else if server.namespace_given && own != server.namespace {
                bail!(
                    "the namespace from the provided object {own:?} does not match the namespace {:?}. You must pass '--namespace={own}' to perform this operation.",
                    server.namespace
                );
            }
        }
        let path = kind.path_of(namespace(&self.object), name(&self.object));
        Ok((kind, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_objects_or_mistakes() {
        let text = "---\nkind: Pod\napiVersion: v1\nmetadata: { name: a }\n---\n---\nkind: List\napiVersion: v1\nitems:\n  - { kind: Pod, apiVersion: v1, metadata: { name: b } }\n---\n";
        let found = parse("a.yaml", text).unwrap();
        let names: Vec<&str> = found.iter().map(|m| name(&m.object)).collect();
        assert_eq!(names, ["a", "b"]);
        // Every line may be indented.
        assert_eq!(
            parse("STDIN", "  kind: Pod\n  apiVersion: v1\n")
                .unwrap()
                .len(),
            1
        );
        let told = |text: &str| parse("a.yaml", text).unwrap_err().to_string();
        assert!(told("a: [").starts_with("error parsing a.yaml: "));
        assert!(told("kind: Pod").contains("apiVersion not set"));
        let missing = of_path(Path::new("nothing.yaml")).unwrap_err().to_string();
        assert_eq!(missing, "the path \"nothing.yaml\" does not exist");
    }
}
