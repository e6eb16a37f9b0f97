//! `class status` and `class export`: how far the students are, from the progress that their labs keep in the cluster.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Context;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, ResourceExt,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use lab_runner::{
    class::{PROGRESS_KEY, PROGRESS_LABEL, PROGRESS_NAME},
    progress::Progress,
    terminal::{Mode, Terminal},
};
use serde::Serialize;
use serde_json::json;

use super::{Connection, Format};
use crate::{arguments::Output, kubectl::Columns};

/// The table is printed again so often, because time passes.
const NOW_AND_THEN: Duration = Duration::from_secs(10);
/// Changes come in groups.
const SETTLE: Duration = Duration::from_millis(200);
/// Longest reason in a table.
const REASON: usize = 70;

/// A line of the table. What a student has written into the progress is taken as text and never trusted.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    student: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lab: Option<String>,
    /// The step that is worked on; one more than there are when the lab is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    /// How many the lab has.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    /// Steps passed, of all labs.
    passed: u64,
    /// Steps of all labs.
    total: u64,
    /// Seconds for which the step has been worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_seconds: Option<i64>,
    /// Why its last check did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Row {
    fn of(student: &str, progress: Option<&ConfigMap>, now: Timestamp) -> Self {
        let text = |key: &str| {
            let found = progress?.data.as_ref()?.get(key)?;
            Some(
                found
                    .chars()
                    .filter(|c| !c.is_control())
                    .collect::<String>(),
            )
        };
        let number = |key: &str| text(key)?.parse::<u64>().ok();
        let (step, steps) = (number("step"), number("steps"));
        let done = step > steps;
        let since = text("since").and_then(|text| text.parse::<Timestamp>().ok());
        Self {
            student: student.to_owned(),
            lab: text("lab"),
            step,
            steps,
            passed: number("passed").unwrap_or(0),
            total: number("total").unwrap_or(0),
            stuck_seconds: since
                .filter(|_| !done)
                .map(|since| (now.as_second() - since.as_second()).max(0)),
            reason: text("reason"),
        }
    }

    fn cells(&self) -> Vec<String> {
        let step = match (self.step, self.steps) {
            (Some(step), Some(steps)) if step > steps => "done".into(),
            (Some(step), Some(steps)) => format!("{step}/{steps}"),
            _ => "-".into(),
        };
        let reason = self.reason.as_deref().unwrap_or_default();
        vec![
            self.student.clone(),
            self.lab.clone().unwrap_or_else(|| "-".into()),
            step,
            format!("{}/{}", self.passed, self.total),
            self.stuck_seconds.map_or("-".into(), in_words),
            reason.chars().take(REASON).collect(),
        ]
    }
}

/// `45s`, `12m`, `1h05m`, `2d3h`
fn in_words(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m"),
        () => format!("{seconds}s"),
    }
}

/// The progress of the students by namespace.
async fn kept(connection: &Connection) -> anyhow::Result<BTreeMap<String, ConfigMap>> {
    let api: Api<ConfigMap> = Api::all(connection.client.clone());
    let list = api
        .list(&ListParams::default().labels(PROGRESS_LABEL))
        .await
        .context("listing the students' progress")?;
    Ok(list
        .into_iter()
        .filter(|object| object.name_any() == PROGRESS_NAME)
        .map(|object| (object.namespace().unwrap_or_default(), object))
        .collect())
}

async fn rows(connection: &Connection) -> anyhow::Result<Vec<Row>> {
    let students = connection.students().await?;
    let kept = kept(connection).await?;
    let now = Timestamp::now();
    let row = |student: &Namespace| {
        let name = student.name_any();
        Row::of(&name, kept.get(&name), now)
    };
    Ok(students.iter().map(row).collect())
}

fn printed(rows: &[Row], output: Output) -> anyhow::Result<String> {
    Ok(match output {
        Output::Json => {
            let list =
                json!({ "apiVersion": "meshdojo.dev/v1", "kind": "ClassStatus", "students": rows });
            serde_json::to_string_pretty(&list)? + "\n"
        }
        Output::Text => {
            let headings = ["STUDENT", "LAB", "STEP", "PASSED", "STUCK", "LAST REASON"];
            let mut table = vec![headings.map(str::to_owned).to_vec()];
            table.extend(rows.iter().map(Row::cells));
            Columns::default().lines(&table)
        }
    })
}

pub(super) async fn status(connection: &Connection, output: Output) -> anyhow::Result<()> {
    lab_runner::say::line(printed(&rows(connection).await?, output)?.trim_end())
}

/// Prints the table with every change, until Ctrl-C.
pub(super) async fn watch(connection: &Connection, output: Output) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::all(connection.client.clone());
    let mut changes = watcher(api, watcher::Config::default().labels(PROGRESS_LABEL))
        .default_backoff()
        .touched_objects()
        .boxed();
    let screen = (std::io::stdout().is_terminal() && output == Output::Text)
        .then(Screen::take)
        .transpose()?;
    loop {
        let text = printed(&rows(connection).await?, output)?;
        match &screen {
            Some(screen) => screen.show(&text)?,
            None => lab_runner::say::line(text)?,
        }
        tokio::select! {
            _ = changes.next() => {
                tokio::time::sleep(SETTLE).await;
                while changes.next().now_or_never().flatten().is_some() {}
            }
            () = tokio::time::sleep(NOW_AND_THEN) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// The whole terminal for a table, and back to what was there before.
struct Screen(Option<Terminal>);

impl Screen {
    fn take() -> anyhow::Result<Self> {
        // Another screen, no cursor, and lines end at the right edge instead of going on below.
        write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(Self(Terminal::take(Mode::Keys)?))
    }

    fn show(&self, table: &str) -> anyhow::Result<()> {
        let size = self.0.as_ref().and_then(Terminal::size);
        let rows = size.map_or(usize::MAX, |(_, rows)| rows.into());
        // Over what is there, and away with the rest.
        let table = fitting(table, rows).replace('\n', "\x1b[K\r\n");
        write(&format!("\x1b[H{table}\x1b[J"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _ = write("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// As many lines of a table as `rows` hold; the last one says how many are missing.
fn fitting(table: &str, rows: usize) -> String {
    let lines: Vec<&str> = table.trim_end().lines().collect();
    if lines.len() <= rows {
        return lines.join("\n");
    }
    let shown = rows.saturating_sub(1);
    let missing = lines.len() - shown;
    let shown = lines[..shown].iter().copied();
    let last = format!("... and {missing} more: meshdojo class status");
    let lines: Vec<&str> = shown.chain([&*last]).collect();
    lines.join("\n")
}

pub(super) async fn export(connection: &Connection, format: Format) -> anyhow::Result<()> {
    let kept = kept(connection).await?;
    let mut all = Vec::new();
    for student in connection.students().await? {
        let name = student.name_any();
        let text = kept
            .get(&name)
            .and_then(|o| o.data.as_ref()?.get(PROGRESS_KEY));
        let progress = match text.map(|text| serde_norway::from_str::<Progress>(text)) {
            Some(Ok(progress)) => progress,
            Some(Err(error)) => {
                eprintln!("meshdojo: the progress of {name} is not readable: {error}");
                Progress::default()
            }
            None => Progress::default(),
        };
        all.push((name, progress));
    }
    lab_runner::say::line(exported(&all, format)?.trim_end())
}

fn exported(all: &[(String, Progress)], format: Format) -> anyhow::Result<String> {
    if format == Format::Csv {
        let mut text = String::from("student,lab,step,passed,attempts,hints,solved\n");
        for (student, progress) in all {
            for (lab, known) in &progress.labs {
                for (step, at) in &known.steps {
                    let passed = at.passed.map(|t| t.to_string()).unwrap_or_default();
                    text.push_str(&format!(
                        "{student},{},{step},{passed},{},{},{}\n",
                        quoted(lab),
                        at.attempts,
                        at.hints,
                        at.solved
                    ));
                }
            }
        }
        return Ok(text);
    }
    let students: Vec<_> = all
        .iter()
        .map(|(student, progress)| json!({ "student": student, "current": progress.current, "labs": progress.labs }))
        .collect();
    let whole =
        json!({ "apiVersion": "meshdojo.dev/v1", "kind": "ClassProgress", "students": students });
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

/// A cell of a CSV file that a spreadsheet takes as text: students write it, instructors open it.
fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(harmless) {
        return text.to_owned();
    }
    let inner: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"'{}\"", inner.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(data: serde_json::Value) -> ConfigMap {
        serde_json::from_value(json!({ "data": data })).unwrap()
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let table = "HEAD\na\nb\nc\n";
        assert_eq!(fitting(table, 4), "HEAD\na\nb\nc");
        assert_eq!(
            fitting(table, 3),
            "HEAD\na\n... and 2 more: meshdojo class status"
        );
    }

    fn now() -> Timestamp {
        "2026-01-02T04:10:00Z".parse().unwrap()
    }

    #[test]
    fn a_row_tells_where_a_student_is_stuck() {
        let kept = map(
            json!({ "lab": "01-a", "step": "2", "steps": "5", "passed": "7", "total": "90",
            "since": "2026-01-02T03:05:00Z", "reason": "404 of\u{1b}[2J reviews" }),
        );
        let rows = [
            Row::of("kim", Some(&kept), now()),
            Row::of("lee", None, now()),
        ];
        assert_eq!(
            printed(&rows, Output::Text).unwrap(),
            "STUDENT   LAB    STEP   PASSED   STUCK   LAST REASON\n\
             kim       01-a   2/5    7/90     1h05m   404 of[2J reviews\n\
             lee       -      -      0/0      -       \n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&printed(&rows, Output::Json).unwrap()).unwrap();
        assert_eq!(json["students"][0]["stuckSeconds"], 3900);
        assert_eq!(
            json["students"][1],
            json!({ "student": "lee", "passed": 0, "total": 0 })
        );
    }

    #[test]
    fn a_lab_that_is_done_is_not_stuck() {
        let kept = map(
            json!({ "lab": "01-a", "step": "6", "steps": "5", "since": "2026-01-02T03:05:00Z" }),
        );
        let cells = Row::of("kim", Some(&kept), now()).cells();
        assert_eq!(cells[2..5], ["done", "0/0", "-"]);
        assert_eq!(in_words(59), "59s");
        assert_eq!(in_words(3599), "59m");
        assert_eq!(in_words(90_000), "1d1h");
    }

    #[test]
    fn exports_have_every_step() {
        let mut progress = Progress::default();
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        progress.lab("01-a", at).checked(1, None, at);
        progress.lab("=cmd()", at).checked(1, Some("no".into()), at);
        let all = [("kim".to_owned(), progress)];
        assert_eq!(
            exported(&all, Format::Csv).unwrap(),
            "student,lab,step,passed,attempts,hints,solved\n\
             kim,01-a,1,2026-01-02T03:04:05Z,1,0,false\n\
             kim,\"'=cmd()\",1,,1,0,false\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&exported(&all, Format::Json).unwrap()).unwrap();
        assert_eq!(
            json["students"][0]["labs"]["01-a"]["steps"]["1"]["attempts"],
            1
        );
    }
}
