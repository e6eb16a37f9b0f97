//! The lab book: a folder of labs.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{
    lab::Lab,
    language::Language,
    parse::{self, Mistake},
};

/// A folder of labs.
#[derive(Clone, Debug)]
pub struct Book {
    /// The folder.
    pub folder: PathBuf,
    /// What stands for the namespace `default` in its labs, where it is another.
    pub namespace: Option<String>,
}

impl Book {
    /// The book that was named, else `labs/book` in the working folder or above it, or above this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(folder) = named {
            if !folder.is_dir() {
                bail!("there is no folder {}", folder.display());
            }
            return Ok(Self {
                folder: std::path::absolute(folder)?,
                namespace: None,
            });
        }
        let here = std::env::current_dir()?;
        let program = std::env::current_exe().unwrap_or_default();
        let above = here.ancestors().chain(program.ancestors());
        let found = above
            .map(|folder| folder.join("labs/book"))
            .find(|folder| folder.is_dir());
        let folder = found.context(
            "the lab book is not found: go to the folder of the project, or name it with --book FOLDER",
        )?;
        Ok(Self {
            folder,
            namespace: None,
        })
    }

    /// The project that the book is of: its parent's parent.
    pub fn root(&self) -> &Path {
        self.folder.ancestors().nth(2).unwrap_or(&self.folder)
    }

    fn read(&self, folder: &Path, language: Language) -> anyhow::Result<Lab> {
        let lab = read(folder, language)?;
        Ok(match &self.namespace {
            Some(namespace) => lab.in_namespace(namespace),
            None => lab,
        })
    }

    /// The folders of its labs, in order.
    ///
    /// # Errors
    /// When the book cannot be read.
    pub fn folders(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.folder)
            .with_context(|| format!("reading {}", self.folder.display()))?;
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.join("README.md").is_file())
            .collect();
        folders.sort();
        Ok(folders)
    }

    /// All labs, in order.
    ///
    /// # Errors
    /// The mistakes in them, a line each.
    pub fn labs(&self, language: Language) -> anyhow::Result<Vec<Lab>> {
        self.folders()?
            .iter()
            .map(|folder| self.read(folder, language))
            .collect()
    }

    /// The lab that is meant by its number (`3`, `03`) or by a part of its name (`fault`).
    ///
    /// # Errors
    /// When none or more than one is meant; the mistakes in it.
    pub fn lab(&self, meant: &str, language: Language) -> anyhow::Result<Lab> {
        let folders = self.folders()?;
        let ids: Vec<String> = folders
            .iter()
            .map(|f| {
                f.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let found = choose(&ids, meant)?;
        self.read(&folders[found], language)
    }
}

/// Which of some names is meant.
fn choose(ids: &[String], meant: &str) -> anyhow::Result<usize> {
    let meant = meant.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    if let Some(exact) = ids.iter().position(|id| id == meant) {
        return Ok(exact);
    }
    let number = |text: &str| text.parse::<u32>().ok();
    let by_number = number(meant).and_then(|wanted| {
        ids.iter()
            .position(|id| id.split('-').next().and_then(number) == Some(wanted))
    });
    if let Some(found) = by_number {
        return Ok(found);
    }
    let by_part: Vec<usize> = (0..ids.len()).filter(|i| ids[*i].contains(meant)).collect();
    match by_part[..] {
        [one] => Ok(one),
        [] => bail!(
            "there is no lab {meant:?}; `meshdojo lab list` shows them all{}",
            closest(ids, meant)
        ),
        _ => {
            let names: Vec<&str> = by_part.iter().map(|i| ids[*i].as_str()).collect();
            bail!("{meant:?} may be any of {}", names.join(", "))
        }
    }
}

fn closest(ids: &[String], meant: &str) -> String {
    let bare = |id: &str| id.split_once('-').map_or(id, |(_, name)| name).to_owned();
    ids.iter()
        .map(|id| (strsim::jaro_winkler(&bare(id), meant), id))
        .filter(|(near, _)| *near > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, id)| format!("; did you mean {id}?"))
}

fn read(folder: &Path, language: Language) -> anyhow::Result<Lab> {
    let file = folder.join(language.readme());
    // A lab that is not translated yet is better read in English than not at all.
    let file = if file.is_file() {
        file
    } else {
        folder.join("README.md")
    };
    parse::read(&file).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        anyhow::anyhow!("the lab has mistakes:\n{}", lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_are_found_by_number_name_or_part() {
        let ids = [
            "01-traffic-shifting",
            "02-request-routing",
            "03-fault-injection",
        ]
        .map(String::from);
        for (meant, found) in [
            ("01-traffic-shifting", 0),
            ("2", 1),
            ("03", 2),
            ("fault", 2),
            ("labs/book/02-request-routing/", 1),
        ] {
            assert_eq!(choose(&ids, meant).unwrap(), found, "{meant}");
        }
        let error = |meant| choose(&ids, meant).unwrap_err().to_string();
        assert!(error("t").contains("may be any of"));
        assert!(error("trafic-shifting").contains("did you mean 01-traffic-shifting?"));
        assert!(!error("zzz").contains("did you mean"));
    }
}
