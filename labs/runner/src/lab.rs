//! What a lab is, once read.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::check::Check;

/// A lab: a folder of the book with a script for people that a machine can follow.
#[derive(Clone, Debug)]
pub struct Lab {
    /// Name of its folder: `01-traffic-shifting`.
    pub id: String,
    /// The folder.
    pub folder: PathBuf,
    /// The file that was read: `README.md` or a translation.
    pub file: PathBuf,
    /// What stands before the text.
    pub front: Front,
    /// What comes before the first step; what is typed there brings the lab to its start.
    pub setup: Section,
    /// The steps, numbered from 1 without gaps.
    pub steps: Vec<Step>,
    /// What comes after the last step.
    pub end: String,
}

impl Lab {
    /// The lab with a namespace in the place of `default`.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        let checks = self.steps.iter_mut().flat_map(|step| &mut step.checks);
        let named = checks.flat_map(Check::namespaces_mut);
        for name in named.chain(&mut self.front.namespaces) {
            if name == "default" {
                namespace.clone_into(name);
            }
        }
        self
    }
}

/// Front matter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// As the table of contents shows it.
    pub title: String,
    /// How long it takes, in words.
    pub time: String,
    /// What one can do afterwards.
    pub learn: Vec<String>,
    /// The command that starts the cluster as the lab needs it: `meshdojo up bookinfo`.
    pub needs: Vec<String>,
    /// Where the lab works: these namespaces are put back by `reset`.
    #[serde(default = "default_namespace")]
    pub namespaces: Vec<String>,
    /// Of these, those in whose place a student of a class has the own namespace, too.
    #[serde(default)]
    pub own: Vec<String>,
    /// Which steps of the well-known courses each step does, by the step's number; see `SOURCES.md`.
    #[serde(default)]
    pub source: BTreeMap<usize, Vec<String>>,
}

fn default_namespace() -> Vec<String> {
    vec!["default".into()]
}

/// A part of the text.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The Markdown of it, without what only the machine reads.
    pub text: String,
    /// What is typed in it, in order.
    pub typed: Vec<Typed>,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// Its heading without the number.
    pub title: String,
    /// Line of the heading, from 1.
    pub line: usize,
    /// Text and commands.
    pub section: Section,
    /// What must be true after it. Without any the step is for looking only.
    pub checks: Vec<Check>,
    /// From a nudge to the very command.
    pub hints: Vec<String>,
    /// A question to answer before the commands are typed.
    pub prediction: Option<Prediction>,
}

/// A fenced block of the language `sh`.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Line of its first command, from 1.
    pub line: usize,
    /// The commands.
    pub text: String,
    /// The info string is `sh fails`: that the last command fails is what the step shows.
    pub fails: bool,
}

/// Asked before the reveal.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The question.
    pub ask: String,
    /// What one can answer.
    pub choices: Vec<String>,
    /// Number of the right choice, from 1.
    pub answer: usize,
    /// Why.
    pub because: String,
}
