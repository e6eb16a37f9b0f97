//! `--from-literal` and `--from-file`: the keys of a ConfigMap or Secret.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Map, Value, json};

/// The name of a ConfigMap or Secret, and what is in it.
#[derive(Args)]
pub(super) struct Entries {
    /// Its name
    name: String,
    /// KEY=VALUE
    #[arg(long)]
    from_literal: Vec<String>,
    /// A file, under its own name or as KEY=FILE; or all files of a folder
    #[arg(long)]
    from_file: Vec<String>,
}

impl Entries {
    /// The ConfigMap: what is not text is `binaryData`.
    pub(super) fn config_map(&self) -> anyhow::Result<Value> {
        let mut object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": self.name } });
        for (key, bytes) in self.read()? {
            match String::from_utf8(bytes) {
                Ok(text) => object["data"][key] = text.into(),
                Err(error) => {
                    object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into();
                }
            }
        }
        Ok(object)
    }

    /// The Secret.
    pub(super) fn secret(&self) -> anyhow::Result<Value> {
        let encoded = |(key, bytes)| (key, STANDARD.encode::<Vec<u8>>(bytes).into());
        let data: Map<String, Value> = self.read()?.into_iter().map(encoded).collect();
        let mut object = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "name": self.name } });
        if !data.is_empty() {
            object["data"] = data.into();
        }
        Ok(object)
    }

    fn read(&self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        for text in &self.from_file {
            let (key, path) = match text.split_once('=') {
                Some((key, path)) => (Some(key.to_owned()), PathBuf::from(path)),
                None => (None, PathBuf::from(text)),
            };
            if key.is_none() && path.is_dir() {
                let entries = std::fs::read_dir(&path).with_context(|| text.clone())?;
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                files.retain(|file| file.is_file());
                files.sort();
                for file in files {
                    all.push((own_name(&file)?, contents(&file)?));
                }
                continue;
            }
            let key = match key {
                Some(key) => key,
                None => own_name(&path)?,
            };
            all.push((key, contents(&path)?));
        }
        for text in &self.from_literal {
            let Some((key, value)) = text.split_once('=') else {
                bail!("invalid literal source {text}, expected key=value");
            };
            all.push((key.to_owned(), value.into()));
        }
        let mut known = std::collections::HashSet::new();
        if let Some((key, _)) = all.iter().find(|(key, _)| !known.insert(key)) {
            bail!("cannot add key {key:?}, another key by that name already exists");
        }
        Ok(all)
    }
}

fn own_name(file: &Path) -> anyhow::Result<String> {
    let name = file.file_name().and_then(|name| name.to_str());
    Ok(name
        .with_context(|| format!("{}: no name for a key", file.display()))?
        .to_owned())
}

fn contents(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("error reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_words_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.conf");
        std::fs::write(&file, "a = 1\n").unwrap();
        let path = file.display().to_string();
        let mut entries = Entries {
            name: "c".into(),
            from_literal: vec!["mode=dev=1".into()],
            from_file: vec![path.clone(), format!("other={path}")],
        };
        let map = entries.config_map().unwrap();
        let wanted = json!({ "app.conf": "a = 1\n", "other": "a = 1\n", "mode": "dev=1" });
        assert_eq!(map["data"], wanted);
        assert_eq!(entries.secret().unwrap()["data"]["mode"], "ZGV2PTE=");
        entries.from_literal.push("mode=x".into());
        let told = entries.config_map().unwrap_err().to_string();
        assert!(told.contains("another key by that name"), "{told}");
    }
}
