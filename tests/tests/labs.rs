//! The lab book: both languages hold the same commands, links lead somewhere, manifests parse.

use std::path::{Path, PathBuf};

use dojo_tests::dojo::root;
use serde::Deserialize;

fn labs() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root().join("labs/book"))
        .expect("the lab book")
        .flatten();
    let mut labs: Vec<PathBuf> = folders.map(|f| f.path()).filter(|p| p.is_dir()).collect();
    labs.sort();
    assert!(labs.len() >= 3, "{labs:?}");
    labs
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a text: language and content.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.into(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// What students read but do not type may be translated: comments.
fn without_comments(block: &str) -> String {
    let code = |line: &str| {
        line.split_once("  #")
            .map_or(line, |(code, _)| code)
            .trim_end()
            .to_owned()
    };
    block
        .lines()
        .map(code)
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn both_languages_hold_the_same_blocks() {
    let readmes = labs().into_iter().chain([root().to_owned()]);
    for folder in readmes {
        let english = blocks(&read(&folder.join("README.md")));
        let korean = blocks(&read(&folder.join("README.ko.md")));
        assert_eq!(english.len(), korean.len(), "{}", folder.display());
        for (english, korean) in english.iter().zip(&korean) {
            assert_eq!(english.0, korean.0, "{}", folder.display());
            assert_eq!(
                without_comments(&english.1),
                without_comments(&korean.1),
                "{}",
                folder.display()
            );
        }
        assert!(
            english.iter().any(|(language, _)| language == "sh"),
            "{}",
            folder.display()
        );
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    title: String,
    time: String,
    learn: Vec<String>,
    needs: Vec<String>,
}

#[test]
fn front_matter_is_complete_in_both_languages() {
    for lab in labs() {
        for name in ["README.md", "README.ko.md"] {
            let text = read(&lab.join(name));
            let (front, _) = text
                .strip_prefix("---\n")
                .and_then(|t| t.split_once("\n---\n"))
                .expect("front matter");
            let front: FrontMatter = serde_norway::from_str(front)
                .unwrap_or_else(|e| panic!("{}/{name}: {e}", lab.display()));
            assert!(!front.title.is_empty() && !front.time.is_empty());
            assert!(!front.learn.is_empty() && !front.needs.is_empty());
        }
    }
}

/// Relative links of a Markdown text.
fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target);
    targets
        .filter(|t| !t.contains("://") && !t.starts_with('#'))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut texts: Vec<PathBuf> = ["README.md", "README.ko.md", "ARCHITECTURE.md"]
        .map(|n| root().join(n))
        .into();
    for lab in labs() {
        texts.extend([lab.join("README.md"), lab.join("README.ko.md")]);
    }
    for file in texts {
        let text = read(&file);
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or(link);
            let path = file.parent().expect("a folder").join(target);
            assert!(path.exists(), "{}: {link}", file.display());
        }
    }
}

#[test]
fn manifests_are_used_and_whole() {
    for lab in labs() {
        let text = read(&lab.join("README.md"));
        for file in std::fs::read_dir(&lab)
            .expect("a lab")
            .flatten()
            .map(|f| f.path())
        {
            if file.extension().is_some_and(|e| e == "yaml") {
                let name = file
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                assert!(text.contains(&name), "{} is in no step", file.display());
                for document in serde_norway::Deserializer::from_str(&read(&file)) {
                    let object = serde_json::Value::deserialize(document).expect("YAML");
                    assert!(
                        object["kind"].is_string() && object["metadata"]["name"].is_string(),
                        "{}",
                        file.display()
                    );
                }
            }
        }
    }
}
