//! From the text of a README to a [`Lab`]; every mistake with its line.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use serde::de::DeserializeOwned;

use crate::{
    check::Check,
    lab::{Front, Lab, Prediction, Section, Step, Typed},
};

mod text;

use text::{changes, line_within, numbered};

/// A mistake in a lab, as compilers tell theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Reads a lab.
///
/// # Errors
/// Every mistake that was found; one when the file cannot be read.
pub fn read(file: &Path) -> Result<Lab, Vec<Mistake>> {
    let mistake = |message| Mistake {
        file: file.to_owned(),
        line: 1,
        message,
    };
    let text = std::fs::read_to_string(file).map_err(|error| vec![mistake(error.to_string())])?;
    parse(file, &text)
}

/// Reads a lab whose text is already here.
///
/// # Errors
/// Every mistake that was found.
pub fn parse(file: &Path, text: &str) -> Result<Lab, Vec<Mistake>> {
    let mut reading = Reading {
        file,
        text,
        mistakes: Vec::new(),
    };
    let lab = reading.lab();
    reading.mistakes.sort();
    match lab {
        Some(lab) if reading.mistakes.is_empty() => Ok(lab),
        _ => Err(reading.mistakes),
    }
}

/// Attribute of blocks for a cluster of one's own: in a class they are left out.
pub(crate) const ALONE: &str = "alone";

/// A fenced block.
struct Fenced {
    /// First word of the info string.
    language: String,
    /// The rest of it.
    attribute: String,
    content: String,
    /// Of the whole block in the text.
    range: Range<usize>,
    /// Line of the first line inside.
    line: usize,
}

/// A heading of level 2 and where it begins.
struct Heading {
    title: String,
    range: Range<usize>,
}

struct Reading<'a> {
    file: &'a Path,
    text: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    fn mistake(&mut self, line: usize, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            file: self.file.to_owned(),
            line,
            message: message.into(),
        });
    }

    fn lab(&mut self) -> Option<Lab> {
        let (front, body) = self.front()?;
        let (headings, blocks) = self.blocks(body);
        let (mut setup, mut steps, mut end) =
            (Section::default(), Vec::<Step>::new(), String::new());
        let first = headings.first().map_or(self.text.len(), |h| h.range.start);
        self.section(body..first, &blocks, &mut setup);
        for (i, heading) in headings.iter().enumerate() {
            let until = headings
                .get(i + 1)
                .map_or(self.text.len(), |h| h.range.start);
            let range = heading.range.start..until;
            match numbered(&heading.title) {
                Some((number, title)) => {
                    let line = self.line_of(heading.range.start);
                    if number != steps.len() + 1 {
                        self.mistake(
                            line,
                            format!(
                                "step {number} comes where step {} is expected",
                                steps.len() + 1
                            ),
                        );
                    }
                    let mut step = Step {
                        number,
                        title: title.to_owned(),
                        line,
                        section: Section::default(),
                        checks: Vec::new(),
                        hints: Vec::new(),
                        prediction: None,
                    };
                    self.step(range, &blocks, &mut step);
                    steps.push(step);
                }
                None if steps.is_empty() => self.section(range, &blocks, &mut setup),
                None => {
                    let mut last = Section::default();
                    self.section(range, &blocks, &mut last);
                    if let Some(typed) = last.typed.first() {
                        self.mistake(
                            typed.line,
                            "a `sh` block after the last step is never typed; make it a step, or `console` when it is only shown",
                        );
                    }
                    end.push_str(&last.text);
                }
            }
        }
        if steps.is_empty() {
            self.mistake(1, "a lab has steps: headings `## 1. ...`, `## 2. ...`");
        }
        let known = steps.len();
        for number in front.source.keys() {
            if !(1..=known).contains(number) {
                self.mistake(
                    1,
                    format!("front matter: `source` names step {number}, which is not there"),
                );
            }
        }
        let folder = self.file.parent().unwrap_or(Path::new(".")).to_owned();
        let id = folder
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        Some(Lab {
            id,
            folder,
            file: self.file.to_owned(),
            front,
            setup,
            steps,
            end,
        })
    }

    /// Front matter, and where the text begins.
    fn front(&mut self) -> Option<(Front, usize)> {
        let Some((front, _)) = self
            .text
            .strip_prefix("---\n")
            .and_then(|t| t.split_once("\n---\n"))
        else {
            self.mistake(
                1,
                "front matter is missing: the file begins with `---`, `title: ...`, ..., `---`",
            );
            return None;
        };
        let body = "---\n".len() + front.len() + "\n---\n".len();
        let read: Front = self.yaml(front, 2, "front matter")?;
        for (field, empty) in [
            ("title", read.title.is_empty()),
            ("time", read.time.is_empty()),
            ("learn", read.learn.is_empty()),
            ("needs", read.needs.is_empty()),
            ("namespaces", read.namespaces.is_empty()),
        ] {
            if empty {
                self.mistake(1, format!("front matter: `{field}` is empty"));
            }
        }
        Some((read, body))
    }

    /// Reads YAML that begins at `line`.
    fn yaml<T: DeserializeOwned>(&mut self, text: &str, line: usize, what: &str) -> Option<T> {
        // By way of JSON, so that a variant is written as a key and not as a YAML tag.
        let value: serde_json::Value = match serde_norway::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                let at = error.location().map_or(0, |l| l.line().saturating_sub(1));
                self.mistake(line + at, format!("{what}: {error}"));
                return None;
            }
        };
        match serde_path_to_error::deserialize(value) {
            Ok(read) => Some(read),
            Err(error) => {
                let path = error.path().to_string();
                let message = format!("{what}: {path}: {}", error.inner());
                self.mistake(line + line_within(text, &path), message);
                None
            }
        }
    }

    /// Headings of level 2 and fenced blocks, in order.
    fn blocks(&mut self, body: usize) -> (Vec<Heading>, Vec<Fenced>) {
        let (mut headings, mut blocks) = (Vec::new(), Vec::new());
        let mut heading: Option<Heading> = None;
        let mut block: Option<Fenced> = None;
        let parser = Parser::new_ext(&self.text[body..], Options::ENABLE_TABLES);
        let mut unclosed = Vec::new();
        for (event, range) in parser.into_offset_iter() {
            let range = body + range.start..body + range.end;
            match event {
                Event::Start(Tag::Heading {
                    level: HeadingLevel::H2,
                    ..
                }) => {
                    heading = Some(Heading {
                        title: String::new(),
                        range,
                    });
                }
                Event::End(TagEnd::Heading(HeadingLevel::H2)) => headings.extend(heading.take()),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let (language, attribute) = info.split_once(' ').unwrap_or((&info, ""));
                    block = Some(Fenced {
                        language: language.to_owned(),
                        attribute: attribute.trim().to_owned(),
                        content: String::new(),
                        line: self.line_of(range.start) + 1,
                        range,
                    });
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some(done) = block.take() {
                        let whole = &self.text[done.range.clone()];
                        if !whole.trim_end().ends_with("```") {
                            unclosed.push(done.line - 1);
                        }
                        blocks.push(done);
                    }
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(block) = &mut block {
                        block.content.push_str(&text);
                    } else if let Some(heading) = &mut heading {
                        heading.title.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        for line in unclosed {
            self.mistake(line, "this block is not closed");
        }
        (headings, blocks)
    }

    fn section(&mut self, range: Range<usize>, blocks: &[Fenced], section: &mut Section) {
        for block in within(blocks, &range) {
            match block.language.as_str() {
                "sh" => self.typed(block, section),
                "text" | "console" | "yaml" | "mermaid" => {}
                "check" | "hints" | "predict" => self.mistake(
                    block.line - 1,
                    format!("a `{}` block belongs to a numbered step", block.language),
                ),
                other => self.unknown(block.line - 1, other),
            }
        }
        section.text.push_str(&self.text[range]);
    }

    fn step(&mut self, range: Range<usize>, blocks: &[Fenced], step: &mut Step) {
        let mut shown = self.text[range.clone()].to_owned();
        for block in within(blocks, &range) {
            let line = block.line;
            let machine = match block.language.as_str() {
                "sh" => {
                    self.typed(block, &mut step.section);
                    false
                }
                "check" => {
                    let read: Option<Vec<Check>> = self.yaml(&block.content, line, "check");
                    match read {
                        Some(checks) if checks.is_empty() => {
                            self.mistake(line, "check: there is nothing in it");
                        }
                        Some(checks) => step.checks.extend(checks),
                        None => {}
                    }
                    true
                }
                "hints" => {
                    let hints: Option<Vec<String>> = self.yaml(&block.content, line, "hints");
                    if let Some(hints) = hints {
                        if hints.len() != 3 || hints.iter().any(|h| h.trim().is_empty()) {
                            self.mistake(
                                line,
                                "hints: there are three: a nudge, where to look, the very line",
                            );
                        }
                        step.hints = hints;
                    }
                    true
                }
                "predict" => {
                    let read: Option<Prediction> = self.yaml(&block.content, line, "predict");
                    let unfit = |p: &Prediction| {
                        p.choices.len() < 2 || !(1..=p.choices.len()).contains(&p.answer)
                    };
                    if read.as_ref().is_some_and(unfit) {
                        self.mistake(
                            line,
                            "predict: two choices or more, and `answer` is the number of one of them",
                        );
                    }
                    step.prediction = read;
                    true
                }
                "text" | "console" | "yaml" | "mermaid" => false,
                other => {
                    self.unknown(line - 1, other);
                    false
                }
            };
            if machine {
                shown = shown.replace(&self.text[block.range.clone()], "");
            }
        }
        if !step.checks.is_empty() && step.hints.is_empty() {
            self.mistake(step.line, "a step with a check has `hints`");
        }
        if step.checks.is_empty()
            && step
                .section
                .typed
                .iter()
                .any(|t| !t.fails && changes(&t.text))
        {
            self.mistake(
                step.line,
                "this step changes the cluster and has no `check`",
            );
        }
        step.section.text = shown;
    }

    fn typed(&mut self, block: &Fenced, section: &mut Section) {
        if !matches!(block.attribute.as_str(), "" | "fails" | ALONE) {
            self.mistake(
                block.line - 1,
                format!(
                    "`sh {}`: only `sh`, `sh fails` and `sh alone` are known",
                    block.attribute
                ),
            );
        }
        section.typed.push(Typed {
            line: block.line,
            text: block.content.clone(),
            fails: block.attribute == "fails",
        });
    }

    fn unknown(&mut self, line: usize, language: &str) {
        self.mistake(
            line,
            format!(
                "a block of the language {language:?}; there are sh, check, hints, predict (read by the machine) and text, console, yaml, mermaid (shown)"
            ),
        );
    }
}

fn within<'a>(blocks: &'a [Fenced], range: &Range<usize>) -> impl Iterator<Item = &'a Fenced> {
    let range = range.clone();
    blocks
        .iter()
        .filter(move |b| range.contains(&b.range.start))
}

#[cfg(test)]
mod tests;
