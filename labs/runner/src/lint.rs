//! Finding the mistakes in a lab before a student does.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    lab::{Lab, Typed},
    parse::{self, Mistake},
};

/// All mistakes of the lab in a folder: of each language, and between them.
pub fn lint(folder: &Path) -> Vec<Mistake> {
    let english = folder.join("README.md");
    let korean = folder.join("README.ko.md");
    let mut mistakes = Vec::new();
    let mut read = |file: &Path| match parse::read(file) {
        Ok(lab) => Some(lab),
        Err(found) => {
            mistakes.extend(found);
            None
        }
    };
    let (english, korean) = (read(&english), read(&korean));
    for lab in [&english, &korean].into_iter().flatten() {
        links(lab, &mut mistakes);
    }
    if let Some(english) = &english {
        manifests(english, &mut mistakes);
        typed_files(english, &mut mistakes);
    }
    if let (Some(english), Some(korean)) = (&english, &korean) {
        languages(english, korean, &mut mistakes);
    }
    mistakes.sort();
    mistakes
}

fn at(file: &Path, line: usize, message: impl Into<String>) -> Mistake {
    Mistake {
        file: file.to_owned(),
        line,
        message: message.into(),
    }
}

/// Both languages have the same steps, commands, checks.
fn languages(english: &Lab, korean: &Lab, mistakes: &mut Vec<Mistake>) {
    let file = &korean.file;
    if english.steps.len() != korean.steps.len() {
        mistakes.push(at(
            file,
            1,
            format!(
                "{} steps where README.md has {}",
                korean.steps.len(),
                english.steps.len()
            ),
        ));
        return;
    }
    for (what, same) in [
        ("needs", english.front.needs == korean.front.needs),
        ("source", english.front.source == korean.front.source),
        (
            "namespaces",
            english.front.namespaces == korean.front.namespaces,
        ),
        ("own", english.front.own == korean.front.own),
        (
            "learn",
            english.front.learn.len() == korean.front.learn.len(),
        ),
    ] {
        if !same {
            mistakes.push(at(
                file,
                1,
                format!("front matter: `{what}` differs from README.md"),
            ));
        }
    }
    let typed = |lab: &Lab| -> Vec<Typed> {
        let steps = lab.steps.iter().flat_map(|s| s.section.typed.iter());
        lab.setup.typed.iter().chain(steps).cloned().collect()
    };
    let (ours, theirs) = (typed(english), typed(korean));
    if ours.len() != theirs.len() {
        mistakes.push(at(
            file,
            1,
            format!(
                "{} `sh` blocks where README.md has {}",
                theirs.len(),
                ours.len()
            ),
        ));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if without_comments(&ours.text) != without_comments(&theirs.text)
            || ours.fails != theirs.fails
        {
            mistakes.push(at(
                file,
                theirs.line,
                format!(
                    "this `sh` block differs from line {} of README.md",
                    ours.line
                ),
            ));
        }
    }
    for (ours, theirs) in english.steps.iter().zip(&korean.steps) {
        for (what, same) in [
            (
                "checks",
                format!("{:?}", ours.checks) == format!("{:?}", theirs.checks),
            ),
            ("hints", ours.hints.len() == theirs.hints.len()),
            (
                "prediction",
                ours.prediction
                    .as_ref()
                    .map(|p| (p.answer, p.choices.len()))
                    == theirs
                        .prediction
                        .as_ref()
                        .map(|p| (p.answer, p.choices.len())),
            ),
        ] {
            if !same {
                mistakes.push(at(
                    file,
                    theirs.line,
                    format!("the {what} of step {} differ from README.md", ours.number),
                ));
            }
        }
    }
}

/// What students read but do not type may be translated: comments.
fn without_comments(block: &str) -> String {
    let code = |line: &str| {
        line.split_once("  #")
            .map_or(line, |(code, _)| code)
            .trim_end()
            .to_owned()
    };
    let lines: Vec<String> = block
        .lines()
        .map(code)
        .filter(|line| !line.starts_with('#'))
        .collect();
    lines.join("\n")
}

/// Relative links lead somewhere.
fn links(lab: &Lab, mistakes: &mut Vec<Mistake>) {
    let Ok(text) = std::fs::read_to_string(&lab.file) else {
        return;
    };
    for (number, line) in text.lines().enumerate() {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target)
            .filter(|t| !t.contains("://") && !t.starts_with('#'));
        for target in targets {
            let path = target.split('#').next().unwrap_or(target);
            if !lab.folder.join(path).exists() {
                mistakes.push(at(
                    &lab.file,
                    number + 1,
                    format!("the link {target} leads nowhere"),
                ));
            }
        }
    }
}

/// Manifests beside the text parse, and are named in it.
fn manifests(lab: &Lab, mistakes: &mut Vec<Mistake>) {
    let text = std::fs::read_to_string(&lab.file).unwrap_or_default();
    let entries = std::fs::read_dir(&lab.folder)
        .into_iter()
        .flatten()
        .flatten();
    let files: BTreeSet<PathBuf> = entries.map(|e| e.path()).collect();
    for file in files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
    {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if !text.contains(&*name) {
            mistakes.push(at(file, 1, "no step uses this file"));
        }
        let content = std::fs::read_to_string(file).unwrap_or_default();
        for document in serde_norway::Deserializer::from_str(&content) {
            match serde_json::Value::deserialize(document) {
                // An empty document is allowed: files may end with `---`.
                Ok(serde_json::Value::Null) => {}
                Ok(object)
                    if object["kind"].is_string() && object["metadata"]["name"].is_string() => {}
                Ok(_) => mistakes.push(at(file, 1, "an object without kind or name")),
                Err(error) => {
                    let line = error.location().map_or(1, |l| l.line());
                    mistakes.push(at(file, line, error.to_string()));
                    break;
                }
            }
        }
    }
}

/// Files that commands name are there.
fn typed_files(lab: &Lab, mistakes: &mut Vec<Mistake>) {
    let steps = lab.steps.iter().flat_map(|s| s.section.typed.iter());
    for typed in lab.setup.typed.iter().chain(steps) {
        for (offset, line) in typed.text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for file in words.windows(2).filter(|w| w[0] == "-f").map(|w| w[1]) {
                let file = file.trim_end_matches(';');
                if file.ends_with(".yaml")
                    && !file.contains(['$', '*'])
                    && !lab.folder.join(file).is_file()
                {
                    mistakes.push(at(
                        &lab.file,
                        typed.line + offset,
                        format!("the file {file} is not there"),
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "---\ntitle: T\ntime: five\nlearn: [a]\nneeds: [meshdojo up none]\n---\n\n## 1. A\n\nSee [b](b.md).\n\n```sh\nkubectl apply -f a.yaml\n```\n\n```check\n- pods: { selector: a=b }\n```\n\n```hints\n- a\n- b\n- c\n```\n";

    #[test]
    fn what_parsing_cannot_see_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("README.md", LAB);
        write(
            "README.ko.md",
            &LAB.replace("a.yaml", "b.yaml").replace("a=b", "a=c"),
        );
        write("unused.yaml", "kind: Pod\n");
        let found: Vec<String> = lint(folder.path())
            .iter()
            .map(|m| {
                let name = m.file.file_name().unwrap().to_string_lossy();
                format!("{name}:{}: {}", m.line, m.message)
            })
            .collect();
        assert_eq!(
            found,
            [
                "README.ko.md:8: the checks of step 1 differ from README.md",
                "README.ko.md:10: the link b.md leads nowhere",
                "README.ko.md:13: this `sh` block differs from line 13 of README.md",
                "README.md:10: the link b.md leads nowhere",
                "README.md:13: the file a.yaml is not there",
                "unused.yaml:1: an object without kind or name",
                "unused.yaml:1: no step uses this file",
            ]
        );
    }
}
