//! Who is in the class.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;

use super::ClassSize;
use crate::{exit, home::cluster_name};

/// Longest name: with the domain it becomes a host.
const LONGEST: usize = 40;

/// A student. The name is that of the namespace and the first label of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Student {
    /// `kim-minsu`
    pub(super) name: String,
    /// As the roster has it: `Kim Minsu`.
    pub(super) title: String,
}

/// The students of the command line.
///
/// # Errors
/// When the roster cannot be read, with its line.
pub(super) fn students(size: &ClassSize) -> anyhow::Result<Vec<Student>> {
    match (&size.roster, size.students) {
        (Some(file), _) => read(file),
        (None, count) => Ok(numbered(count.unwrap_or(1))),
    }
}

fn numbered(count: u16) -> Vec<Student> {
    let name = |n| format!("student-{n:02}");
    (1..=count)
        .map(|n| Student {
            name: name(n),
            title: name(n),
        })
        .collect()
}

fn read(file: &Path) -> anyhow::Result<Vec<Student>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| exit::environment(format!("reading {}: {error}", file.display())))?;
    parse(&text).with_context(|| file.display().to_string())
}

/// A student on each line; `#` begins a comment, empty lines do not count.
fn parse(text: &str) -> anyhow::Result<Vec<Student>> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut students = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let title = line
            .split([',', ';', '\t'])
            .next()
            .unwrap_or_default()
            .trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\u{feff}');
        if title.is_empty() {
            continue;
        }
        let name = name_of(title).with_context(|| format!("line {}", i + 1))?;
        if let Some(before) = lines.insert(name.clone(), i + 1) {
            anyhow::bail!("lines {before} and {} are both {name}", i + 1);
        }
        students.push(Student {
            name,
            title: title.to_owned(),
        });
    }
    anyhow::ensure!(!students.is_empty(), "there is no student in it");
    Ok(students)
}

/// The name of a namespace for a person: `Kim Minsu`, `kim.minsu@example.com` are `kim-minsu`.
pub(super) fn name_of(title: &str) -> anyhow::Result<String> {
    let before_at = title.split('@').next().unwrap_or_default();
    let parts: Vec<String> = before_at
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    let name = parts.join("-");
    let taken = ["default", "istio-system", "istio-ingress"];
    if taken.contains(&name.as_str()) || name.starts_with("kube-") {
        anyhow::bail!("{name} is a namespace of the cluster itself; choose another name");
    }
    if name.len() > LONGEST || cluster_name(&name).is_err() {
        anyhow::bail!(
            "{title:?} gives no name for a namespace; write a login of at most {LONGEST} Latin letters, digits and '-'"
        );
    }
    Ok(name)
}

/// Checks a `--domain`.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let name = text.trim_matches('.');
    match name
        .split('.')
        .try_for_each(|label| cluster_name(label).map(drop))
    {
        Ok(()) if name.len() + LONGEST < 253 => Ok(name.to_owned()),
        Ok(()) => Err("a domain this long leaves no room for students".into()),
        Err(error) => Err(format!("each part of a domain is a name: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_are_numbered_or_read() {
        let names = |students: Vec<Student>| -> Vec<String> {
            students.into_iter().map(|student| student.name).collect()
        };
        assert_eq!(names(numbered(2)), ["student-01", "student-02"]);
        assert_eq!(numbered(100)[99].name, "student-100");
        let text = "# the class\nKim Minsu, 1\nlee.jieun@example.com\n\n\"park\"\t3\n";
        assert_eq!(
            names(parse(text).unwrap()),
            ["kim-minsu", "lee-jieun", "park"]
        );
        assert_eq!(parse(text).unwrap()[0].title, "Kim Minsu");
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = |text| format!("{:#}", parse(text).unwrap_err());
        assert!(error("kim\n\nKIM\n").contains("lines 1 and 3 are both kim"));
        assert!(error("kim\n김민수\n").starts_with("line 2: "));
        assert!(error("kube-system").contains("cluster itself"));
        assert!(error("# nobody\n").contains("no student"));
        assert!(error(&"x".repeat(41)).contains("at most 40"));
    }

    #[test]
    fn domains_are_names() {
        assert!(domain("Class.test").is_err());
        assert_eq!(domain(".class.test").unwrap(), "class.test");
        assert!(domain("*.test").is_err() && domain("").is_err());
    }
}
