//! Progress for other programs. No names, no addresses: what is exported is what the progress file holds.

use std::process::ExitCode;

use serde_json::json;

use super::{Format, desk::Desk};
use crate::{lab::Lab, progress::Progress, say};

pub(super) fn print(desk: &Desk, format: Format) -> anyhow::Result<ExitCode> {
    let labs = desk.book.labs(desk.language)?;
    let progress = desk.keeper.read()?;
    say::line(rendered(&labs, &progress, format)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn rendered(labs: &[Lab], progress: &Progress, format: Format) -> anyhow::Result<String> {
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&as_json(labs, progress))? + "\n",
        Format::Csv => as_csv(labs, progress),
        Format::Junit => as_junit(labs, progress),
    })
}

fn as_json(labs: &[Lab], progress: &Progress) -> serde_json::Value {
    let labs: Vec<_> = labs
        .iter()
        .map(|lab| {
            let known = progress.labs.get(&lab.id);
            let steps: Vec<_> = lab
                .steps
                .iter()
                .map(|step| {
                    let at = known
                        .and_then(|k| k.steps.get(&step.number))
                        .cloned()
                        .unwrap_or_default();
                    json!({ "step": step.number, "title": step.title, "passed": at.passed, "attempts": at.attempts,
                            "hints": at.hints, "solved": at.solved, "predicted": at.predicted })
                })
                .collect();
            json!({ "lab": lab.id, "title": lab.front.title, "started": known.map(|k| k.started), "steps": steps })
        })
        .collect();
    json!({ "apiVersion": "meshdojo.dev/v1", "kind": "LabProgress", "labs": labs })
}

fn as_csv(labs: &[Lab], progress: &Progress) -> String {
    let mut text = String::from("lab,step,passed,attempts,hints,solved\n");
    for lab in labs {
        for step in &lab.steps {
            let at = progress
                .labs
                .get(&lab.id)
                .and_then(|k| k.steps.get(&step.number));
            let at = at.cloned().unwrap_or_default();
            let passed = at.passed.map(|t| t.to_string()).unwrap_or_default();
            text.push_str(&format!(
                "{},{},{passed},{},{},{}\n",
                lab.id, step.number, at.attempts, at.hints, at.solved
            ));
        }
    }
    text
}

fn as_junit(labs: &[Lab], progress: &Progress) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"meshdojo lab\">\n",
    );
    for lab in labs {
        let known = progress.labs.get(&lab.id);
        let open = lab.steps.len() - known.map_or(0, |k| k.passed(lab.steps.len()));
        text.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"0\" skipped=\"{open}\">\n",
            escaped(&lab.id),
            lab.steps.len(),
        ));
        for step in &lab.steps {
            let name = escaped(&format!("{}. {}", step.number, step.title));
            let passed = known
                .and_then(|k| k.steps.get(&step.number))
                .is_some_and(|s| s.passed.is_some());
            let class = escaped(&lab.id);
            text.push_str(&match passed {
                true => format!("    <testcase classname=\"{class}\" name=\"{name}\"/>\n"),
                false => format!(
                    "    <testcase classname=\"{class}\" name=\"{name}\"><skipped message=\"not passed yet\"/></testcase>\n"
                ),
            });
        }
        text.push_str("  </testsuite>\n");
    }
    text + "</testsuites>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn each_form_tells_what_passed() {
        let text = "---\ntitle: T\ntime: five\nlearn: [a]\nneeds: [b]\n---\n\n## 1. A & \"B\"\n\n## 2. C\n";
        let labs = [crate::parse::parse(Path::new("01-a/README.md"), text).unwrap()];
        let mut progress = Progress::default();
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        progress.lab("01-a", now).checked(1, None, now);
        let csv = rendered(&labs, &progress, Format::Csv).unwrap();
        assert_eq!(
            csv.lines().collect::<Vec<_>>()[1..],
            ["01-a,1,2026-01-02T03:04:05Z,1,0,false", "01-a,2,,0,0,false"]
        );
        let junit = rendered(&labs, &progress, Format::Junit).unwrap();
        assert!(junit.contains("A &amp; &quot;B&quot;\"/>") && junit.contains("skipped=\"1\""));
        let json: serde_json::Value =
            serde_json::from_str(&rendered(&labs, &progress, Format::Json).unwrap()).unwrap();
        assert_eq!(json["labs"][0]["steps"][0]["attempts"], 1);
    }
}
