//! The lab book: no mistakes in it, and every lab passes as it is written.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use dojo_tests::{
    dojo::{Dojo, binary, root},
    kubectl,
};
use lab_runner::{book::Book, lab::Front, language::Language, lint::lint};

fn book() -> Book {
    Book::find(Some(&root().join("labs/book"))).expect("the lab book")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn no_lab_has_a_mistake() {
    let folders = book().folders().expect("labs");
    assert!(folders.len() >= 3, "{folders:?}");
    let mistakes: Vec<String> = folders
        .iter()
        .flat_map(|folder| lint(folder))
        .map(|mistake| mistake.to_string())
        .collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// Each step fails its check before it is typed, and passes it after.
#[test]
fn every_lab_passes_as_written() {
    if !kubectl::available() {
        return;
    }
    let output = Command::new(binary())
        .args(["lab", "test", "--all", "--lang", "en", "--book"])
        .arg(root().join("labs/book"))
        .env_remove("KUBECONFIG")
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// On a cluster that is there already they go one after the other, typed to the context that was named, and leave nothing.
#[test]
fn labs_pass_on_a_given_cluster() -> anyhow::Result<()> {
    if !kubectl::available() {
        return Ok(());
    }
    let dojo = Dojo::up(&["none"])?;
    let context = kubectl::ok(&dojo.kubeconfig(), &["config", "current-context"], "")?;
    let file = dojo.folder().join("without-a-current-context");
    std::fs::copy(dojo.kubeconfig(), &file)?;
    kubectl::ok(&file, &["config", "unset", "current-context"], "")?;
    let output = Command::new(binary())
        .args(["lab", "test", "2", "9", "--lang", "en", "--context"])
        .args([context.trim(), "--book"])
        .arg(root().join("labs/book"))
        .env("KUBECONFIG", file)
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{told}{output:?}");
    let kinds = "deployments,virtualservices,destinationrules,gateways.networking.istio.io";
    let left = kubectl::ok(&dojo.kubeconfig(), &["get", kinds, "-o", "name"], "")?;
    anyhow::ensure!(left.trim().is_empty(), "{left}");
    Ok(())
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
    blocks
}

/// Comments may be translated.
fn without_comments(block: &str) -> String {
    let code = |line: &str| {
        line.split_once("  #")
            .map_or(line, |(code, _)| code)
            .trim_end()
            .to_owned()
    };
    let lines: Vec<String> = block.lines().map(code).collect();
    lines.join("\n")
}

#[test]
fn the_front_page_says_the_same_in_both_languages() {
    let english = blocks(&read(&root().join("README.md")));
    let korean = blocks(&read(&root().join("README.ko.md")));
    let code = |blocks: &[(String, String)]| -> Vec<(String, String)> {
        blocks
            .iter()
            .map(|(language, block)| (language.clone(), without_comments(block)))
            .collect()
    };
    assert_eq!(code(&english), code(&korean));
}

/// The book's table names every lab as the lab names itself.
#[test]
fn the_table_of_the_book_is_that_of_the_labs() {
    for (language, file) in [(Language::En, "README.md"), (Language::Ko, "README.ko.md")] {
        let table = read(&root().join("labs/book").join(file));
        for lab in book().labs(language).expect("labs") {
            let Front {
                title, time, learn, ..
            } = &lab.front;
            let number = lab.id.split('-').next().unwrap_or_default();
            let learn = learn.join("; ");
            let row = format!(
                "| [{number} {title}]({}/{file}) | {time} | {learn} |\n",
                lab.id
            );
            assert!(table.contains(&row), "{file} has no line {row}");
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
    let files = [
        "README.md",
        "README.ko.md",
        "ARCHITECTURE.md",
        "labs/book/README.md",
        "labs/book/README.ko.md",
        "labs/book/SOURCES.md",
        "labs/book/GLOSSARY.ko.md",
    ];
    for file in files.map(|name| root().join(name)) {
        let text = read(&file);
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or(link);
            let path: PathBuf = file.parent().expect("a folder").join(target);
            assert!(path.exists(), "{}: {link}", file.display());
        }
    }
}

/// How many steps each course has, by its letter and number.
const COURSES: [(&str, usize); 5] = [("S0", 13), ("S1", 66), ("S2", 29), ("S3", 48), ("S4", 9)];

/// A line of SOURCES.md: `| S1-34 | [lab](lab/README.md) | 2 | ... |`.
struct Line {
    id: String,
    lab: String,
    step: Option<usize>,
}

fn sources() -> Vec<Line> {
    let text = read(&root().join("labs/book/SOURCES.md"));
    let rows = text.lines().filter(|line| line.starts_with("| S"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let lab = cells[2]
            .split_once("](")
            .map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
        Line {
            id: cells[1].to_owned(),
            lab: lab.to_owned(),
            step: cells[3].parse().ok(),
        }
    })
    .collect()
}

/// The table and the labs say the same: which step of which lab does which step of the courses.
#[test]
fn the_table_of_sources_is_that_of_the_labs() {
    let labs = book().labs(Language::En).expect("labs");
    let in_labs: BTreeSet<(String, String, usize)> =
        labs.iter()
            .flat_map(|lab| {
                lab.front.source.iter().flat_map(|(step, ids)| {
                    ids.iter().map(|id| (id.clone(), lab.id.clone(), *step))
                })
            })
            .collect();
    let lines = sources();
    let in_table: BTreeSet<(String, String, usize)> = lines
        .iter()
        .filter_map(|line| Some((line.id.clone(), line.lab.clone(), line.step?)))
        .collect();
    assert_eq!(in_table, in_labs);
    let known: BTreeSet<String> = lines.iter().map(|line| line.id.clone()).collect();
    let missing: Vec<String> = COURSES
        .iter()
        .flat_map(|(course, steps)| (1..=*steps).map(move |n| format!("{course}-{n}")))
        .filter(|id| !known.contains(id))
        .collect();
    assert!(missing.is_empty(), "no line for {missing:?}");
}
