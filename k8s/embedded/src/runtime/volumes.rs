//! Volumes: folders that stand for a container's mounts.
//!
//! A pod's volumes are folders of the cluster's state. A container's root (`DOJO_ROOT`) holds a
//! symbolic link per mount, at its `mountPath`. Only what a process can be given without privilege
//! is there: emptyDir, configMap, secret, projected and downwardAPI; others are refused.

use super::downward::{self, Place};
use super::tokens;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Secret, Volume,
    VolumeProjection,
};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// Files of a volume: relative path and content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why a volume could not be set up; the words for the `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
pub struct MountError {
    /// The volume's name.
    pub volume: String,
    /// What is wrong.
    pub why: String,
}

/// A token in a volume that has to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedToken {
    /// The file.
    pub path: PathBuf,
    /// Its audience, `None` for the API server's own.
    pub audience: Option<String>,
    /// How long it should be valid, in seconds.
    pub seconds: i64,
}

/// The folders of one pod.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The pod's folder.
    pub pod: PathBuf,
}

impl Folders {
    /// A volume's folder.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.pod.join("volumes").join(name)
    }

    /// A container's folder, with its logs.
    pub fn container(&self, name: &str) -> PathBuf {
        self.pod.join("containers").join(name)
    }

    /// What stands for a container's `/`.
    pub fn root(&self, container: &str) -> PathBuf {
        self.container(container).join("root")
    }
}

/// A path below a volume or root: no `..`, no absolute parts.
fn relative(path: &str) -> Result<PathBuf, String> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(format!("path {path:?} must not contain '..'"));
            }
        }
    }
    Ok(clean)
}

/// Names of the volumes that some container mounts. Others are not looked at, as on a real node.
fn mounted(spec: &PodSpec) -> impl Iterator<Item = &Volume> {
    let used = |name: &str| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .flat_map(|c| c.volume_mounts.iter().flatten())
            .any(|m| m.name == name)
    };
    spec.volumes.iter().flatten().filter(move |v| used(&v.name))
}

/// Makes all mounted volumes of a pod; the tokens among them that have to be renewed.
///
/// # Errors
/// The first volume that cannot be set up.
pub async fn set_up(
    client: &Client,
    pod: &Pod,
    place: &Place,
    folders: &Folders,
) -> Result<Vec<MountedToken>, MountError> {
    let mut mounted_tokens = Vec::new();
    let Some(spec) = &pod.spec else {
        return Ok(mounted_tokens);
    };
    for volume in mounted(spec) {
        let folder = folders.volume(&volume.name);
        let source = Source {
            client,
            pod,
            spec,
            place,
            folder: &folder,
        };
        source
            .fill(volume, &mut mounted_tokens)
            .await
            .map_err(|why| MountError {
                volume: volume.name.clone(),
                why,
            })?;
    }
    Ok(mounted_tokens)
}

/// Fills volumes of a pod again, those that `which` names.
///
/// # Errors
/// The first volume that cannot be filled.
pub(super) async fn refill(
    client: &Client,
    pod: &Pod,
    place: &Place,
    folders: &Folders,
    which: impl Fn(&Volume) -> bool,
) -> Result<(), MountError> {
    let Some(spec) = &pod.spec else {
        return Ok(());
    };
    for volume in mounted(spec).filter(|volume| which(volume)) {
        let folder = folders.volume(&volume.name);
        let source = Source {
            client,
            pod,
            spec,
            place,
            folder: &folder,
        };
        // tokens among them are new ones, which are renewed with those before
        let filled = source.fill(volume, &mut Vec::new()).await;
        filled.map_err(|why| MountError {
            volume: volume.name.clone(),
            why,
        })?;
    }
    Ok(())
}

struct Source<'a> {
    client: &'a Client,
    pod: &'a Pod,
    spec: &'a PodSpec,
    place: &'a Place,
    folder: &'a Path,
}

impl Source<'_> {
    async fn fill(&self, volume: &Volume, renew: &mut Vec<MountedToken>) -> Result<(), String> {
        let (files, mode) = if volume.empty_dir.is_some() {
            (Files::new(), None)
        } else if let Some(source) = &volume.config_map {
            let optional = source.optional == Some(true);
            let files = self
                .config_map(&source.name, source.items.as_deref(), optional)
                .await?;
            (files, source.default_mode)
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let optional = source.optional == Some(true);
            let files = self.secret(name, source.items.as_deref(), optional).await?;
            (files, source.default_mode)
        } else if let Some(source) = &volume.downward_api {
            (self.downward(source.items.as_deref())?, source.default_mode)
        } else if let Some(source) = &volume.projected {
            let mut files = Files::new();
            for projection in source.sources.iter().flatten() {
                files.extend(self.projection(projection, renew).await?);
            }
            (files, source.default_mode)
        } else {
            return Err(
                "this kind of volume is not supported here: use emptyDir, configMap, secret, \
                 projected or downwardAPI"
                    .into(),
            );
        };
        write_files(self.folder, &files, mode).map_err(|error| error.to_string())?;
        match volume.empty_dir {
            // its files are the containers' own
            Some(_) => Ok(()),
            None => remove_others(self.folder, self.folder, &files).map_err(|e| e.to_string()),
        }
    }

    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<Files, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace());
        let found = api.get_opt(name).await.map_err(|e| e.to_string())?;
        let Some(map) = found else {
            return missing("configmap", name, optional);
        };
        let mut data: Files = map
            .data
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.into_bytes()))
            .collect();
        data.extend(
            map.binary_data
                .into_iter()
                .flatten()
                .map(|(k, ByteString(v))| (k, v)),
        );
        select(data, items, optional)
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
    ) -> Result<Files, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace());
        let found = api.get_opt(name).await.map_err(|e| e.to_string())?;
        let Some(secret) = found else {
            return missing("secret", name, optional);
        };
        let data = secret
            .data
            .into_iter()
            .flatten()
            .map(|(key, ByteString(value))| (key, value))
            .collect();
        select(data, items, optional)
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<Files, String> {
        let mut files = Files::new();
        for item in items.unwrap_or_default() {
            let value = if let Some(field) = &item.field_ref {
                downward::field(self.pod, self.place, field)?
            } else if let Some(resource) = &item.resource_field_ref {
                let container = self.spec.containers.first().ok_or("no container")?;
                downward::resource(self.spec, container, resource)?
            } else {
                return Err(format!("downwardAPI item {:?} has no source", item.path));
            };
            files.insert(item.path.clone(), value.into_bytes());
        }
        Ok(files)
    }

    async fn projection(
        &self,
        projection: &VolumeProjection,
        renew: &mut Vec<MountedToken>,
    ) -> Result<Files, String> {
        if let Some(source) = &projection.config_map {
            let optional = source.optional == Some(true);
            return self
                .config_map(&source.name, source.items.as_deref(), optional)
                .await;
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional == Some(true);
            return self
                .secret(&source.name, source.items.as_deref(), optional)
                .await;
        }
        if let Some(source) = &projection.downward_api {
            return self.downward(source.items.as_deref());
        }
        if let Some(source) = &projection.service_account_token {
            let token = MountedToken {
                path: self.folder.join(relative(&source.path)?),
                audience: source.audience.clone().filter(|a| !a.is_empty()),
                seconds: source.expiration_seconds.unwrap_or(3600),
            };
            let text = tokens::request(self.client, self.pod, &token)
                .await
                .map_err(|e| e.to_string())?;
            renew.push(token);
            return Ok(Files::from([(source.path.clone(), text.into_bytes())]));
        }
        Err(
            "this projected source is not supported here: use configMap, secret, \
             serviceAccountToken or downwardAPI"
                .into(),
        )
    }
}

fn missing(kind: &str, name: &str, optional: bool) -> Result<Files, String> {
    if optional {
        Ok(Files::new())
    } else {
        Err(format!("{kind} \"{name}\" not found"))
    }
}

/// The keys that are wanted, under their paths.
fn select(data: Files, items: Option<&[KeyToPath]>, optional: bool) -> Result<Files, String> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data);
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                files.insert(item.path.clone(), content.clone());
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

fn write_files(folder: &Path, files: &Files, mode: Option<i32>) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (path, content) in files {
        let path = folder.join(relative(path).map_err(io::Error::other)?);
        // the owner can always read, or the container, which runs as the same user, could not
        let mode = u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644) | 0o400;
        write_atomically(&path, content, mode)?;
    }
    Ok(())
}

/// Removes the files of keys that are gone.
fn remove_others(volume: &Path, folder: &Path, files: &Files) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(volume).unwrap_or(&path);
        if path.is_dir() && !path.is_symlink() {
            remove_others(volume, &path, files)?;
        } else if !files
            .keys()
            .any(|kept| relative(kept).is_ok_and(|kept| kept == name))
        {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes a file so that a reader sees the old or the new content, never a part.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // an earlier attempt may have left a file that may not be written
    let _ = std::fs::remove_file(&new);
    std::fs::write(&new, content)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&new, path)
}

/// Links a container's mounts into its root.
///
/// # Errors
/// What cannot be linked, in the words for `CreateContainerConfigError`.
pub fn link(container: &Container, folders: &Folders) -> Result<(), String> {
    let root = folders.root(&container.name);
    let io = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(root.join("tmp")).map_err(|e| io(&root, e))?;
    let mut mounts: Vec<_> = container.volume_mounts.iter().flatten().collect();
    // parents before children
    mounts.sort_by_key(|m| m.mount_path.len());
    for mount in mounts {
        let mut source = folders.volume(&mount.name);
        if let Some(path) = mount.sub_path.as_deref().or(mount.sub_path_expr.as_deref()) {
            source = source.join(relative(path)?);
            if !source.exists() {
                std::fs::create_dir_all(&source).map_err(|e| io(&source, e))?;
            }
        }
        let at = root.join(relative(&mount.mount_path)?);
        if at == root {
            return Err("a volume cannot be mounted at / here".into());
        }
        if std::fs::read_link(&at).is_ok_and(|present| present == source) {
            continue;
        }
        if let Some(parent) = at.parent() {
            std::fs::create_dir_all(parent).map_err(|e| io(parent, e))?;
        }
        match at.symlink_metadata() {
            // what is there was made for another mount of this root, or by an earlier run
            Ok(found) if found.is_dir() => {
                std::fs::remove_dir_all(&at).map_err(|e| io(&at, e))?;
            }
            Ok(_) => std::fs::remove_file(&at).map_err(|e| io(&at, e))?,
            Err(_) => {}
        }
        symlink(&source, &at).map_err(|e| io(&at, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(relative("/a/./b").unwrap(), Path::new("a/b"));
        assert!(relative("../x").is_err());
        assert!(relative("/a/../../x").is_err());
    }

    #[test]
    fn the_file_of_a_key_that_is_gone_goes() {
        let folder = tempfile::tempdir().unwrap();
        let files = |keys: &[&str]| -> Files {
            keys.iter()
                .map(|key| ((*key).to_owned(), b"x".to_vec()))
                .collect()
        };
        let fill = |keys: &[&str]| {
            write_files(folder.path(), &files(keys), None).unwrap();
            remove_others(folder.path(), folder.path(), &files(keys)).unwrap();
        };
        fill(&["a", "sub/b"]);
        fill(&["a"]);
        assert!(folder.path().join("a").exists());
        assert!(!folder.path().join("sub/b").exists());
    }

    #[test]
    fn items_select_and_rename() {
        let data = Files::from([
            ("a".to_owned(), b"1".to_vec()),
            ("b".to_owned(), b"2".to_vec()),
        ]);
        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "a", "path": "x/y"}])).unwrap();
        let files = select(data.clone(), Some(&items), false).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["x/y"]);
        let absent: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "no", "path": "p"}])).unwrap();
        assert!(select(data.clone(), Some(&absent), false).is_err());
        assert!(select(data, Some(&absent), true).unwrap().is_empty());
    }

    #[test]
    fn mounts_are_links_to_volumes() {
        let folder = std::env::temp_dir().join(format!("dojo-volumes-{}", uuid::Uuid::new_v4()));
        let folders = Folders {
            pod: folder.clone(),
        };
        let files = Files::from([("k".to_owned(), b"v".to_vec())]);
        write_files(&folders.volume("v"), &files, Some(0o400)).unwrap();
        let container: Container = serde_json::from_value(json!({
            "name": "c", "volumeMounts": [
                {"name": "v", "mountPath": "/etc/v"},
                {"name": "v", "mountPath": "/one/file", "subPath": "k"},
            ],
        }))
        .unwrap();
        // twice: a restart finds its links
        link(&container, &folders).unwrap();
        link(&container, &folders).unwrap();
        let root = folders.root("c");
        assert_eq!(std::fs::read(root.join("etc/v/k")).unwrap(), b"v");
        assert_eq!(std::fs::read(root.join("one/file")).unwrap(), b"v");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
