//! A tree of files as an OCI image in one file: an `oci-layout` in a tar archive. It is an archive of
//! `docker save` as well, for engines that know only that.

use std::io::{self, Read, Write};

use flate2::{Compression, write::GzEncoder};
use ring::digest;
use serde_json::{Value, json};

use crate::{
    Error, at,
    contents::{BINARY, Node, Tree, USER},
};

/// All times are this, so that the same content is the same image.
const EPOCH: &str = "1970-01-01T00:00:00Z";

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of one layer.
#[derive(Debug)]
pub struct Image {
    /// `meshdojo/meshdojo:0.1.0`.
    pub name: String,
    /// Its files.
    pub tree: Tree,
}

/// Content with its digest.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Self {
        let digest = named(digest::digest(&digest::SHA256, &bytes));
        Self { bytes, digest }
    }

    fn json(value: &Value) -> Self {
        Self::of(value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// `sha256:0123...`.
fn named(digest: digest::Digest) -> String {
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Image {
    /// The archive.
    ///
    /// # Errors
    /// A file of the tree cannot be read.
    pub fn archive(&self) -> Result<Vec<u8>, Error> {
        let (layer, content) = layer(&self.tree)?;
        let config = Blob::json(&self.config(&content));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
        }));
        let mut described = manifest.descriptor(MANIFEST);
        described["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        let name = full_name(&self.name);
        let tag = name.rsplit(':').next().unwrap_or_default();
        described["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described] });
        let docker = json!([{
            "Config": config.path(), "RepoTags": [self.name], "Layers": [layer.path()],
        }]);
        let (index, docker) = (index.to_string(), docker.to_string());
        let paths = [&config, &manifest, &layer].map(Blob::path);
        packed(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.as_bytes()),
            ("manifest.json", docker.as_bytes()),
            (&paths[0], &config.bytes),
            (&paths[1], &manifest.bytes),
            (&paths[2], &layer.bytes),
        ])
        .map_err(at("the archive".as_ref()))
    }

    fn config(&self, content: &str) -> Value {
        let labels = json!({
            "org.opencontainers.image.title": "Mesh Dojo",
            "org.opencontainers.image.description": "A service-mesh training lab in one binary",
            "org.opencontainers.image.licenses": "MIT",
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        });
        json!({
            "created": EPOCH,
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Env": [
                    "PATH=/usr/local/bin:/usr/bin:/bin",
                    // A service is reached at the pod's address, not only from the pod itself.
                    "DOJO_LISTEN_IP=0.0.0.0",
                ],
                "Entrypoint": [format!("/{BINARY}")],
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [content] },
            "history": [{ "created": EPOCH, "created_by": "meshdojo image save" }],
        })
    }
}

fn packed(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        archive.append_data(&mut header(bytes.len() as u64, 0o644), path, *bytes)?;
    }
    archive.into_inner()
}

/// The name in Docker's words for the machine that this runs on.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// With registry and tag, as container runtimes keep names.
fn full_name(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let registry = first.contains(['.', ':']) || first == "localhost";
    let full = match (registry, first) {
        (true, _) => name.to_owned(),
        (false, "") => format!("docker.io/library/{name}"),
        (false, _) => format!("docker.io/{name}"),
    };
    if rest.contains(':') {
        full
    } else {
        format!("{full}:latest")
    }
}

/// The layer, and the digest of what it holds before it is compressed.
fn layer(tree: &Tree) -> Result<(Blob, String), Error> {
    let compressed = GzEncoder::new(Vec::new(), Compression::best());
    let mut files = tar::Builder::new(Hashing::new(compressed));
    for (path, node) in tree {
        add(&mut files, path, node)?;
    }
    let finish = || -> io::Result<(Vec<u8>, digest::Digest)> {
        let Hashing { inner, context } = files.into_inner()?;
        Ok((inner.finish()?, context.finish()))
    };
    let (bytes, content) = finish().map_err(at("the layer".as_ref()))?;
    Ok((Blob::of(bytes), named(content)))
}

fn add<W: Write>(files: &mut tar::Builder<W>, path: &str, node: &Node) -> Result<(), Error> {
    let (mut header, mut content): (_, Box<dyn Read>) = match node {
        Node::Copy { from, mode } => {
            let file = std::fs::File::open(from).map_err(at(from))?;
            let length = file.metadata().map_err(at(from))?.len();
            (header(length, *mode), Box::new(file))
        }
        Node::Text(text) => (header(text.len() as u64, 0o644), Box::new(text.as_bytes())),
        Node::Link(target) => {
            let mut link = header(0, 0o777);
            link.set_entry_type(tar::EntryType::Symlink);
            let added = files.append_link(&mut link, path, target);
            return added.map_err(at(path.as_ref()));
        }
        Node::Folder(mode) => {
            let mut folder = header(0, *mode);
            folder.set_entry_type(tar::EntryType::Directory);
            (folder, Box::new(io::empty()))
        }
    };
    let added = files.append_data(&mut header, path, &mut content);
    added.map_err(at(path.as_ref()))
}

/// A file of root's, made at the beginning of time.
fn header(length: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Passes on what is written, and digests it.
struct Hashing<W> {
    inner: W,
    context: digest::Context,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        let context = digest::Context::new(&digest::SHA256);
        Self { inner, context }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flate2::read::GzDecoder;

    use super::*;

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(path, bytes);
        }
        found
    }

    fn image(folder: &std::path::Path) -> Image {
        let from = folder.join("program");
        std::fs::write(&from, "content").unwrap();
        let tree = [
            (BINARY, Node::Copy { from, mode: 0o755 }),
            ("usr/local/bin/fortio", Node::Link("meshdojo".into())),
            ("etc/passwd", Node::Text("root".into())),
            ("tmp", Node::Folder(0o1777)),
        ];
        Image {
            name: "meshdojo/meshdojo:1".into(),
            tree: tree.map(|(path, node)| (path.to_owned(), node)).into(),
        }
    }

    #[test]
    fn everything_is_found_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let archive = image(folder.path()).archive().unwrap();
        assert_eq!(archive, image(folder.path()).archive().unwrap());
        let files = entries(&archive);
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let blob = |descriptor: &Value| -> Vec<u8> {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = files[&format!("blobs/{}", digest.replace(':', "/"))].clone();
            assert_eq!(Blob::of(bytes.clone()).digest, digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let described = &json("index.json")["manifests"][0];
        assert_eq!(
            described["annotations"]["io.containerd.image.name"],
            "docker.io/meshdojo/meshdojo:1"
        );
        let manifest: Value = serde_json::from_slice(&blob(described)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/usr/local/bin/meshdojo");

        let compressed = blob(&manifest["layers"][0]);
        let mut layer = Vec::new();
        GzDecoder::new(&*compressed)
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(
            Blob::of(layer.clone()).digest,
            config["rootfs"]["diff_ids"][0]
        );
        assert_eq!(entries(&layer)[BINARY], b"content");
        let mut modes = BTreeMap::new();
        for entry in tar::Archive::new(&*layer).entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            modes.insert(
                path,
                (entry.header().entry_type(), entry.header().mode().unwrap()),
            );
        }
        assert_eq!(modes[BINARY], (tar::EntryType::Regular, 0o755));
        assert_eq!(modes["tmp"], (tar::EntryType::Directory, 0o1777));
        assert_eq!(modes["usr/local/bin/fortio"].0, tar::EntryType::Symlink);

        let docker = json("manifest.json");
        assert_eq!(docker[0]["RepoTags"][0], "meshdojo/meshdojo:1");
        assert!(files.contains_key(docker[0]["Layers"][0].as_str().unwrap()));
    }

    #[test]
    fn names_get_a_registry_and_a_tag() {
        for (name, full) in [
            (
                "meshdojo/meshdojo:0.1.0",
                "docker.io/meshdojo/meshdojo:0.1.0",
            ),
            ("dojo", "docker.io/library/dojo:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}
