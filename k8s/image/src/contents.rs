//! What is in the image: the binary, a few programs of this machine with their libraries, and the
//! files without which they do not run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{Error, libraries};

/// Where the binary lies.
pub(crate) const BINARY: &str = "usr/local/bin/meshdojo";

/// The image's user: nobody in particular.
pub(crate) const USER: u32 = 65532;

/// Programs that the image needs: a shell and curl to look around with, the others to redirect
/// connections with.
const NEEDED: [&str; 4] = ["sh", "curl", "nft", "ip"];

/// Programs that labs use in containers, taken along where this machine has them.
const WELCOME: [&str; 18] = [
    "cat", "date", "echo", "env", "false", "grep", "head", "hostname", "id", "ls", "ps", "sed",
    "seq", "sleep", "tail", "true", "tr", "wc",
];

/// Where Linux distributions keep the authorities that programs trust.
const TRUSTED: &str = "etc/ssl/certs/ca-certificates.crt";

/// Files of an image by path, without the leading slash.
pub type Tree = BTreeMap<String, Node>;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// The content of a file of this machine.
    Copy {
        /// Which.
        from: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A text.
    Text(String),
    /// A symbolic link.
    Link(String),
    /// A folder with these permissions.
    Folder(u32),
}

/// Everything that goes into the image of `binary`.
pub(crate) fn collect(
    binary: &Path,
    links: &[&str],
    with: &[String],
    without: &[String],
) -> Result<Tree, Error> {
    let mut tree = skeleton();
    add_program(&mut tree, BINARY, binary)?;
    for link in links {
        tree.insert(
            format!("usr/local/bin/{link}"),
            Node::Link("meshdojo".into()),
        );
    }
    let left_out = |name: &str| without.iter().any(|other| other == name);
    let needed = NEEDED.iter().copied().filter(|name| !left_out(name));
    for name in needed.chain(with.iter().map(String::as_str)) {
        let program = find(name).ok_or_else(|| Error::Missing(name.to_owned()))?;
        add_program(&mut tree, &place(name), &program)?;
    }
    for name in WELCOME.into_iter().filter(|name| !left_out(name)) {
        if let Some(program) = find(name) {
            add_program(&mut tree, &place(name), &program)?;
        }
    }
    let trusted = Path::new("/").join(TRUSTED);
    if trusted.exists() {
        let node = Node::Copy {
            from: trusted,
            mode: 0o644,
        };
        tree.insert(TRUSTED.into(), node);
    } else {
        eprintln!(
            "no {}: programs of the image trust no certificates",
            trusted.display()
        );
    }
    Ok(tree)
}

/// Users, names and folders.
fn skeleton() -> Tree {
    let users = [("root", 0), ("istio-proxy", 1337), ("dojo", USER)];
    let passwd = users.map(|(name, id)| format!("{name}:x:{id}:{id}::/tmp:/bin/sh\n"));
    let group = users.map(|(name, id)| format!("{name}:x:{id}:\n"));
    [
        ("etc/passwd", Node::Text(passwd.concat())),
        ("etc/group", Node::Text(group.concat())),
        ("etc/nsswitch.conf", Node::Text("hosts: files dns\n".into())),
        ("tmp", Node::Folder(0o1777)),
    ]
    .into_iter()
    .map(|(path, node)| (path.to_owned(), node))
    .collect()
}

/// The shell lies where scripts look for it.
fn place(name: &str) -> String {
    let file = Path::new(name).file_name().unwrap_or_default().display();
    match name {
        "sh" => "bin/sh".into(),
        _ => format!("usr/bin/{file}"),
    }
}

/// A program on the PATH, or where only administrators look; links are followed.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path).collect::<Vec<_>>();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    own.into_iter()
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
}

fn add_program(tree: &mut Tree, place: &str, program: &Path) -> Result<(), Error> {
    for library in libraries::of(program)? {
        let path = library.display().to_string();
        let node = Node::Copy {
            from: library,
            mode: 0o755,
        };
        tree.insert(path.trim_start_matches('/').to_owned(), node);
    }
    let node = Node::Copy {
        from: program.to_owned(),
        mode: 0o755,
    };
    tree.insert(place.to_owned(), node);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_brings_its_libraries_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("meshdojo");
        std::fs::write(&binary, "not really").unwrap();
        let left_out = ["curl", "nft", "ip"].map(str::to_owned);
        let tree = collect(&binary, &["fortio"], &[], &left_out).unwrap();
        assert!(matches!(&tree[BINARY], Node::Copy { from, .. } if *from == binary));
        assert_eq!(tree["usr/local/bin/fortio"], Node::Link("meshdojo".into()));
        assert!(!tree.contains_key("usr/bin/curl"));
        let of_shell = libraries::of(Path::new("/bin/sh")).unwrap();
        for library in &of_shell {
            let path = library.display().to_string();
            assert!(tree.contains_key(path.trim_start_matches('/')), "{path}");
        }
        let missing = ["no-such-program".to_owned()];
        let error = collect(&binary, &[], &missing, &left_out).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no no-such-program on the PATH")
        );
    }
}
