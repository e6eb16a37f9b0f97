//! How far a student is: one readable file, written whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// How the names of files end that hold the state at a step's start.
const START: &str = ".start.json";

/// All labs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The lab that `check`, `next` and the rest are about.
    pub current: Option<String>,
    /// By lab.
    #[serde(default)]
    pub labs: BTreeMap<String, LabProgress>,
    /// In a class: since which beginning of the student's namespace this counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<String>,
}

/// One lab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabProgress {
    /// The step that is worked on, from 1; one more than there are when the lab is done.
    pub step: usize,
    /// When it was started.
    pub started: Timestamp,
    /// By step.
    #[serde(default)]
    pub steps: BTreeMap<usize, StepProgress>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepProgress {
    /// Checks that were made until it passed.
    #[serde(default)]
    pub attempts: u32,
    /// Hints that were looked at.
    #[serde(default)]
    pub hints: usize,
    /// Whether the machine typed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub solved: bool,
    /// The number that was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<usize>,
    /// When it passed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Timestamp>,
    /// Why the last check did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where progress is kept.
#[derive(Clone, Debug)]
pub struct Keeper {
    folder: PathBuf,
}

impl Keeper {
    /// In a folder, which is made when there is something to keep.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.join("progress.yaml")
    }

    /// Where the state at a step's start is kept.
    pub fn snapshot(&self, lab: &str) -> PathBuf {
        self.folder.join(format!("{lab}{START}"))
    }

    /// What is known; nothing yet when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or is not what this program writes.
    pub fn read(&self) -> anyhow::Result<Progress> {
        let file = self.file();
        match fs::read_to_string(&file) {
            Ok(text) => serde_norway::from_str(&text).with_context(|| {
                format!(
                    "{} is not readable any more; move it away to begin anew",
                    file.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Keeps progress since a beginning of a student's namespace: what was kept of an earlier one is
    /// dropped. Whether there was any.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn begin(&self, beginning: &str) -> anyhow::Result<bool> {
        let before = self.read()?.beginning;
        if before.as_deref() == Some(beginning) {
            return Ok(false);
        }
        self.change(|progress| {
            if progress.beginning.is_some() {
                *progress = Progress::default();
            }
            progress.beginning = Some(beginning.to_owned());
        })?;
        if before.is_none() {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.folder)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(START) {
                fs::remove_file(&file).with_context(|| format!("deleting {}", file.display()))?;
            }
        }
        Ok(true)
    }

    /// Changes what is kept. Two terminals take turns: neither loses what the other wrote.
    ///
    /// # Errors
    /// When it cannot be written; then what was kept before stays.
    pub fn change<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> anyhow::Result<T> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("making {}", self.folder.display()))?;
        let lock = File::create(self.folder.join("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .context("taking turns with another terminal")?;
        let mut progress = self.read()?;
        let result = change(&mut progress);
        write_whole(&self.file(), serde_norway::to_string(&progress)?.as_bytes())?;
        Ok(result)
    }
}

/// Writes a file so that a crash or a full disk leaves the old one or the new one.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let told = || format!("writing {}", file.display());
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(told)?;
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(told)?;
    new.write_all(content).with_context(told)?;
    new.as_file().sync_all().with_context(told)?;
    new.persist(file).with_context(told)?;
    Ok(())
}

impl Progress {
    /// The lab's progress, begun now if it was not.
    pub fn lab(&mut self, id: &str, now: Timestamp) -> &mut LabProgress {
        self.labs.entry(id.to_owned()).or_insert(LabProgress {
            step: 1,
            started: now,
            steps: BTreeMap::new(),
        })
    }
}

impl LabProgress {
    /// The step's progress.
    pub fn at(&mut self, step: usize) -> &mut StepProgress {
        self.steps.entry(step).or_default()
    }

    /// Notes a check that was made, and why it did not pass if it did not.
    pub fn checked(&mut self, step: usize, failed: Option<String>, now: Timestamp) {
        let at = self.at(step);
        if at.passed.is_none() {
            at.attempts += 1;
            at.passed = failed.is_none().then_some(now);
        }
        at.reason = failed;
    }

    /// Since when the current step is worked on: since the last that passed, else since the lab was started.
    pub fn at_step_since(&self) -> Timestamp {
        let passed = self.steps.values().filter_map(|step| step.passed);
        passed
            .max()
            .map_or(self.started, |last| last.max(self.started))
    }

    /// How many of `steps` have passed.
    pub fn passed(&self, steps: usize) -> usize {
        (1..=steps)
            .filter(|n| self.steps.get(n).is_some_and(|s| s.passed.is_some()))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_kept_and_readable() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(&folder.path().join("labs"));
        assert_eq!(keeper.read().unwrap(), Progress::default());
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        keeper
            .change(|progress| {
                progress.current = Some("01-a".into());
                let not_yet = || Some("404".to_owned());
                progress.lab("01-a", now).checked(1, not_yet(), now);
                progress.lab("01-a", now).checked(1, None, now);
                progress.lab("01-a", now).checked(1, not_yet(), now);
            })
            .unwrap();
        let text = fs::read_to_string(keeper.file()).unwrap();
        assert!(
            text.contains("current: 01-a") && text.contains("attempts: 2"),
            "{text}"
        );
        let mut read = keeper.read().unwrap();
        assert_eq!(read.lab("01-a", now).passed(3), 1);
        fs::write(keeper.file(), "current: [").unwrap();
        let error = format!("{:#}", keeper.read().unwrap_err());
        assert!(error.contains("move it away"), "{error}");
    }

    #[test]
    fn another_beginning_drops_what_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(folder.path());
        let work = || {
            fs::write(keeper.snapshot("a.1"), "{}").unwrap();
            keeper
                .change(|progress| progress.current = Some("a".into()))
                .unwrap();
        };
        work();
        // What was begun before there were beginnings stays.
        assert!(!keeper.begin("1").unwrap());
        assert!(!keeper.begin("1").unwrap());
        assert_eq!(keeper.read().unwrap().current.as_deref(), Some("a"));
        assert!(keeper.begin("1/now").unwrap());
        assert_eq!(keeper.read().unwrap().current, None);
        assert!(!keeper.snapshot("a.1").exists());
        work();
        assert!(!keeper.begin("1/now").unwrap());
        assert!(keeper.snapshot("a.1").exists());
    }

    #[test]
    fn two_terminals_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(folder.path());
        let now = Timestamp::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        keeper
                            .change(|p| p.lab("a", now).at(1).attempts += 1)
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(keeper.read().unwrap().lab("a", now).at(1).attempts, 40);
    }
}
