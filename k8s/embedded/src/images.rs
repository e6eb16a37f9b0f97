//! The image catalogue: which image name stands for which program.
//!
//! There is no registry and nothing is pulled: an image is an argument list, an environment and,
//! if need be, what foreign command names mean in it. The catalogue is data; whoever starts the
//! cluster brings it.
//!
//! Names are compared without registry, and without what a mirror puts before them: `docker.io/istio/proxyv2:1.2`,
//! `registry.istio.io/release/proxyv2` and `istio/proxyv2` are one image. No tag means `latest`; a tag
//! that no entry lists falls back to the entry for any tag; a digest counts only without a tag,
//! and then as `latest`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The placeholder in arguments for the path of our own program.
pub const SELF: &str = "{self}";

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// Repository without registry, such as `istio/examples-bookinfo-details-v1`.
    pub name: String,
    /// Tags that this entry is for, `*` in one for any text; none means any tag.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What the image starts: replaced by a container's `command`. May be empty for an image that
    /// is only a place to run host commands in.
    #[serde(default)]
    pub command: Vec<String>,
    /// Arguments after `command`: replaced by a container's `args` or `command`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment that the image brings. A container's own goes over it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Programs of the upstream image that manifests name in `command`, and what is run instead of
    /// that first word (last path part compared): `python` -> `[{self}, service, productpage]`.
    #[serde(default)]
    pub programs: BTreeMap<String, Vec<String>>,
    /// Why nothing stands for this image, and what does its work instead: such an image cannot be
    /// pulled, and the event says this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// All images that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue {
    images: Vec<Image>,
}

/// The file in a cluster's state folder with the images that its user has added.
const ADDED: &str = "images.json";

/// The images that a cluster's user has added could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum AddedError {
    /// The file could not be read or written.
    #[error("{0}: {1}")]
    File(std::path::PathBuf, io::Error),
    /// The file is not a catalogue.
    #[error("{0}: {1}; mend the file or remove it")]
    Content(std::path::PathBuf, serde_json::Error),
}

/// An image reference in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The repository as the catalogue compares it.
    pub name: String,
    /// The tag, `latest` when none was given.
    pub tag: String,
}

/// A reference that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {0:?}: invalid reference format")]
pub struct InvalidReference(pub String);

fn is_registry(part: &str) -> bool {
    part.contains('.') || part.contains(':') || part == "localhost"
}

fn is_valid_part(part: &str) -> bool {
    !part.is_empty()
        && part
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

impl Reference {
    /// Parses a reference as manifests write it.
    ///
    /// # Errors
    /// When it is not a reference by the rules of container registries.
    pub fn parse(image: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference(image.to_owned());
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) if digest.starts_with("sha256:") => (name, true),
            Some(_) => return Err(invalid()),
            None => (image, false),
        };
        // a colon after the last slash starts the tag; one before it is a registry's port
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (name, None),
        };
        let valid_tag = |tag: &str| {
            !tag.is_empty()
                && tag.len() <= 128
                && tag
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if tag.is_some_and(|tag| !valid_tag(tag)) || (digest && name.is_empty()) {
            return Err(invalid());
        }
        let mut parts: Vec<&str> = path.split('/').collect();
        let registry = (parts.len() > 1 && is_registry(parts[0])).then(|| parts.remove(0));
        if parts.iter().any(|part| !is_valid_part(part)) {
            return Err(invalid());
        }
        match (registry, parts.first().copied()) {
            // Istio's own registries put the project's name before the slash or not at all
            (Some("registry.istio.io"), Some("release"))
            | (Some("gcr.io"), Some("istio-release")) => {
                parts[0] = "istio";
            }
            (_, Some("library")) if parts.len() == 2 => {
                parts.remove(0);
            }
            _ => {}
        }
        Ok(Self {
            name: parts.join("/"),
            tag: tag.unwrap_or("latest").to_owned(),
        })
    }
}

impl Catalogue {
    /// A catalogue of `images`. Of two entries for the same name and tag the first counts.
    pub fn new(images: Vec<Image>) -> Self {
        Self { images }
    }

    /// Parses a catalogue: a JSON array of [`Image`]s.
    ///
    /// # Errors
    /// When the text is not JSON or an entry has an unknown or ill-typed field; the message names
    /// it and its line.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The images that the user of the cluster with this state folder has added. They go before
    /// all others, and are looked up whenever a container starts.
    ///
    /// # Errors
    /// When there is a file of them that cannot be read.
    pub fn added(state_dir: &Path) -> Result<Self, AddedError> {
        let path = state_dir.join(ADDED);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(AddedError::File(path, error)),
        };
        Self::from_json(&text).map_err(|error| AddedError::Content(path, error))
    }

    /// Adds an image to those of the cluster with this state folder, in place of one with the same
    /// name and tags.
    ///
    /// # Errors
    /// When they cannot be read or written; then nothing has changed.
    pub fn add(state_dir: &Path, image: Image) -> Result<(), AddedError> {
        let mut added = Self::added(state_dir)?;
        added
            .images
            .retain(|i| (&i.name, &i.tags) != (&image.name, &image.tags));
        added.images.push(image);
        let path = state_dir.join(ADDED);
        let new = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(&added)
            .map_err(|error| AddedError::Content(path.clone(), error))?;
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| AddedError::File(path, error))
    }

    /// All entries.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The entry for a reference: of those with its name, or else with the end of its name (two
    /// parts at the least: `mirror/istio/pilot` is `istio/pilot`), the first whose tag agrees, or
    /// else the first for any tag.
    pub fn find(&self, reference: &Reference) -> Option<&Image> {
        let same = |image: &&Image| image.name == reference.name;
        let mirrored = |image: &&Image| {
            image.name.contains('/')
                && reference
                    .name
                    .strip_suffix(image.name.as_str())
                    .is_some_and(|before| before.ends_with('/'))
        };
        self.tagged(same, &reference.tag)
            .or_else(|| self.tagged(mirrored, &reference.tag))
    }

    fn tagged(&self, named: impl Fn(&&Image) -> bool, tag: &str) -> Option<&Image> {
        let named = || self.images.iter().filter(&named);
        named()
            .find(|image| image.tags.iter().any(|pattern| matches(pattern, tag)))
            .or_else(|| named().find(|image| image.tags.is_empty()))
    }
}

/// Whether a tag is like a pattern, in which `*` stands for any text.
fn matches(pattern: &str, tag: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else {
        return pattern == tag;
    };
    let Some(tag) = tag.strip_prefix(front) else {
        return false;
    };
    (0..=tag.len()).any(|at| tag.is_char_boundary(at) && matches(rest, &tag[at..]))
}

impl Image {
    /// The argument list of a container of this image with the given `command` and `args`, in
    /// which `own_program` stands for [`SELF`]. Empty when there is nothing to run.
    pub fn argv(
        &self,
        command: Option<&[String]>,
        args: Option<&[String]>,
        own_program: &str,
    ) -> Vec<String> {
        let given = |list: Option<&[String]>| list.filter(|l| !l.is_empty()).map(<[_]>::to_vec);
        let argv = match (given(command), given(args)) {
            (Some(command), args) => {
                let mut argv = self.understand(command);
                argv.extend(args.unwrap_or_default());
                argv
            }
            (None, args) => {
                let mut argv = self.command.clone();
                // args alone may name a program of the image, as `docker run` users do
                match args {
                    Some(args) if argv.is_empty() => argv = self.understand(args),
                    Some(args) => argv.extend(args),
                    None => argv.extend(self.args.iter().cloned()),
                }
                argv
            }
        };
        argv.into_iter()
            .map(|arg| arg.replace(SELF, own_program))
            .collect()
    }

    fn understand(&self, mut command: Vec<String>) -> Vec<String> {
        let word = command.first().map_or("", String::as_str);
        let word = word.rsplit('/').next().unwrap_or(word);
        if let Some(instead) = self.programs.get(word) {
            command.splice(0..1, instead.iter().cloned());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(image: &str) -> String {
        let r = Reference::parse(image).unwrap();
        format!("{} {}", r.name, r.tag)
    }

    #[test]
    fn added_images_are_kept_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Catalogue::added(folder.path()).unwrap(),
            Catalogue::default()
        );
        for program in ["first", "second"] {
            let image = Image {
                name: "my/app".into(),
                command: vec![program.into()],
                ..Image::default()
            };
            Catalogue::add(folder.path(), image).unwrap();
        }
        let added = Catalogue::added(folder.path()).unwrap();
        let found = added.find(&Reference::parse("my/app:7").unwrap());
        assert_eq!(found.unwrap().command, ["second"]);
        assert_eq!(added.images().len(), 1);

        std::fs::write(folder.path().join(ADDED), "[{]").unwrap();
        let error = Catalogue::added(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("images.json") && error.contains("line 1"),
            "{error}"
        );
    }

    #[test]
    fn registries_do_not_matter() {
        assert_eq!(name("nginx"), "nginx latest");
        assert_eq!(name("docker.io/library/nginx:1"), "nginx 1");
        assert_eq!(
            name("index.docker.io/istio/proxyv2:1.2"),
            "istio/proxyv2 1.2"
        );
        assert_eq!(
            name("registry.istio.io/release/proxyv2:1"),
            "istio/proxyv2 1"
        );
        assert_eq!(name("gcr.io/istio-release/pilot"), "istio/pilot latest");
        assert_eq!(name("localhost:5000/a/b"), "a/b latest");
    }

    #[test]
    fn digests_count_as_latest_or_not_at_all() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(name(&format!("a/b:2{digest}")), "a/b 2");
        assert_eq!(name(&format!("a/b{digest}")), "a/b latest");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "Bad Image!", "a//b", "a:", "a@md5:1", "A/b"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }

    fn catalogue() -> Catalogue {
        Catalogue::from_json(
            r#"[
                {"name": "a/b", "tags": ["1"], "command": ["one"]},
                {"name": "a/b", "command": ["{self}", "service"], "args": ["x"],
                 "programs": {"python": ["{self}", "py"]}}
            ]"#,
        )
        .unwrap()
    }

    #[test]
    fn listed_tags_go_before_any_tag() {
        let catalogue = catalogue();
        let find = |image: &str| {
            let reference = Reference::parse(image).unwrap();
            catalogue.find(&reference).map(|i| i.command.clone())
        };
        assert_eq!(find("a/b:1").unwrap(), ["one"]);
        assert_eq!(find("a/b:2").unwrap(), ["{self}", "service"]);
        assert_eq!(find("b:2"), None);
    }

    #[test]
    fn mirrors_and_patterns_of_tags() {
        let catalogue = Catalogue::from_json(
            r#"[
                {"name": "a/b", "tags": ["1.*-x", "edge"], "command": ["one"]},
                {"name": "a/b", "command": ["any"]},
                {"name": "b", "command": ["short"]}
            ]"#,
        )
        .unwrap();
        let find = |image: &str| {
            let reference = Reference::parse(image).unwrap();
            catalogue.find(&reference).map(|i| i.command[0].as_str())
        };
        assert_eq!(find("mirror.example.com/team/a/b:1.2-x"), Some("one"));
        assert_eq!(find("team/a/b:1.2-y"), Some("any"));
        assert_eq!(find("a/b:edge"), Some("one"));
        assert_eq!(find("a/b:1.-x"), Some("one"));
        assert_eq!(find("registry.example.com/b"), Some("short"));
        // Somebody else's program of the same short name, and half a word.
        assert_eq!(find("team/b"), None);
        assert_eq!(find("xa/b"), None);
    }

    #[test]
    fn command_and_args_replace_the_images_own() {
        let catalogue = catalogue();
        let image = catalogue.find(&Reference::parse("a/b").unwrap()).unwrap();
        let words = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let argv = |command: &[&str], args: &[&str]| {
            image.argv(Some(&words(command)), Some(&words(args)), "/me")
        };
        assert_eq!(argv(&[], &[]), ["/me", "service", "x"]);
        assert_eq!(argv(&[], &["y"]), ["/me", "service", "y"]);
        assert_eq!(argv(&["sh", "-c"], &["z"]), ["sh", "-c", "z"]);
        assert_eq!(
            argv(&["/usr/bin/python", "a.py"], &[]),
            ["/me", "py", "a.py"]
        );
    }

    #[test]
    fn misspelt_fields_are_named() {
        let error = Catalogue::from_json(r#"[{"name": "a", "comand": []}]"#).unwrap_err();
        assert!(error.to_string().contains("comand"), "{error}");
    }
}
