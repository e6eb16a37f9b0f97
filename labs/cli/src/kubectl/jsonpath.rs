//! kubectl's templates: `{.items[0].metadata.name}{"\n"}`, `{range .items[*]}...{end}`.

use std::str::FromStr;

use serde_json::Value;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `.name` or `['name']`.
    Field(String),
    /// `[0]`, `[-1]`.
    Index(i64),
    /// `[*]`, `.*`.
    Each,
    /// `..name`.
    Deep(String),
    /// `[?(@.type=="Ready")]`.
    Where(Vec<Step>, bool, Value),
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // kubectl takes a path without braces too.
        let text = if text.contains('{') {
            text.to_owned()
        } else {
            format!("{{{text}}}")
        };
        let mut open: Vec<(Vec<Step>, Vec<Part>)> = vec![(Vec::new(), Vec::new())];
        let mut rest = text.as_str();
        while let Some(at) = rest.find('{') {
            let (before, after) = rest.split_at(at);
            push(&mut open, Part::Text(before.to_owned()));
            let end = closing(after).ok_or("unclosed action")?;
            let inner = after[1..end].trim();
            rest = &after[end + 1..];
            if let Some(path) = inner.strip_prefix("range ") {
                open.push((steps(path.trim())?, Vec::new()));
            } else if inner == "end" {
                match open.pop() {
                    Some((path, parts)) if !open.is_empty() => {
                        push(&mut open, Part::Range(path, parts));
                    }
                    _ => return Err("not in range, nothing to end".into()),
                }
            } else if inner.starts_with(['"', '\'']) {
                push(&mut open, Part::Text(unquote(inner)?));
            } else {
                push(&mut open, Part::Path(steps(inner)?));
            }
        }
        push(&mut open, Part::Text(rest.to_owned()));
        match open.as_mut_slice() {
            [(_, parts)] => Ok(Self(std::mem::take(parts))),
            _ => Err("unclosed range: {end} is missing".into()),
        }
    }
}

fn push(open: &mut [(Vec<Step>, Vec<Part>)], part: Part) {
    if let (Some((_, parts)), true) = (open.last_mut(), part != Part::Text(String::new())) {
        parts.push(part);
    }
}

/// Where the brace that opens a text closes; those within quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '}' => return Some(i),
            None => {}
        }
    }
    None
}

fn unquote(text: &str) -> Result<String, String> {
    let json = if text.starts_with('\'') {
        format!("\"{}\"", text.trim_matches('\'').replace('"', "\\\""))
    } else {
        text.to_owned()
    };
    serde_json::from_str(&json).map_err(|error| format!("{text}: {error}"))
}

/// `$.a.b[0]['c']` as steps.
fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches(['$', '@']);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = after
                .find(']')
                .ok_or_else(|| format!("unclosed [ in {path}"))?;
            // A condition may have brackets of its own; it ends with `)]`.
            let end = if after.starts_with("?(") {
                after
                    .find(")]")
                    .ok_or_else(|| format!("unclosed filter in {path}"))?
                    + 1
            } else {
                end
            };
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
            continue;
        }
        let deep = rest.starts_with("..");
        let after = rest.trim_start_matches('.');
        if after.len() == rest.len() && !steps.is_empty() {
            return Err(format!("unrecognized character in {path}"));
        }
        // `\.` is a dot within a name.
        let mut name = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' => {
                    end = i;
                    break;
                }
                c => name.push(c),
            }
        }
        rest = &after[end..];
        match name.as_str() {
            "" if rest.is_empty() => break,
            "" => {}
            "*" => steps.push(Step::Each),
            _ if deep => steps.push(Step::Deep(name)),
            _ => steps.push(Step::Field(name)),
        }
    }
    Ok(steps)
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::Each);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|c| c.strip_suffix(')')) {
        let (equal, operator) = match (condition.find("=="), condition.find("!=")) {
            (Some(_), _) => (true, "=="),
            (None, Some(_)) => (false, "!="),
            _ => return Err(format!("{condition}: only == and != are known")),
        };
        let (path, value) = condition.split_once(operator).unwrap_or_default();
        let value = value.trim();
        let value = if value.starts_with(['"', '\'']) {
            Value::String(unquote(value)?)
        } else {
            serde_json::from_str(value).map_err(|error| format!("{value}: {error}"))?
        };
        return Ok(Step::Where(steps(path.trim())?, equal, value));
    }
    if inner.starts_with(['\'', '"']) {
        return Ok(Step::Field(unquote(inner)?));
    }
    let index = inner.parse().map(Step::Index);
    index.map_err(|_| format!("[{inner}]: neither a number, a name in quotes, * nor a filter"))
}

impl Template {
    /// The template with an object's values in it. What is not there is left out, as kubectl does.
    ///
    /// # Errors
    /// When an index is beyond the end of a list.
    pub fn fill(&self, object: &Value) -> Result<String, String> {
        let mut out = String::new();
        write(&self.0, object, &mut out)?;
        Ok(out)
    }
}

fn write(parts: &[Part], at: &Value, out: &mut String) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(path) => {
                let found: Vec<String> = follow(path, at)?.into_iter().map(shown).collect();
                out.push_str(&found.join(" "));
            }
            Part::Range(path, inner) => {
                for item in follow(path, at)? {
                    write(inner, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn follow<'a>(path: &[Step], at: &'a Value) -> Result<Vec<&'a Value>, String> {
    let mut here = vec![at];
    for step in path {
        let mut next = Vec::new();
        for value in here {
            match step {
                Step::Field(name) => next.extend(value.get(name)),
                Step::Each => next.extend(children(value)),
                Step::Deep(name) => deep(value, name, &mut next),
                Step::Index(index) => {
                    let list = value.as_array().map_or(&[][..], Vec::as_slice);
                    let from_end = i64::try_from(list.len()).unwrap_or(i64::MAX) + index;
                    let index = usize::try_from(if *index < 0 { from_end } else { *index });
                    match index.ok().and_then(|index| list.get(index)) {
                        Some(item) => next.push(item),
                        None => {
                            return Err(format!(
                                "error executing jsonpath: array index out of bounds: index {}, length {}",
                                step_index(step),
                                list.len()
                            ));
                        }
                    }
                }
                Step::Where(path, equal, wanted) => {
                    for item in children(value) {
                        let is = follow(path, item)?.contains(&wanted);
                        if is == *equal {
                            next.push(item);
                        }
                    }
                }
            }
        }
        here = next;
    }
    Ok(here)
}

fn step_index(step: &Step) -> i64 {
    match step {
        Step::Index(index) => *index,
        _ => 0,
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn deep<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    found.extend(value.get(name));
    for child in children(value) {
        deep(child, name, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, object: &Value) -> String {
        template.parse::<Template>().unwrap().fill(object).unwrap()
    }

    #[test]
    fn templates_are_filled_as_kubectl_does() {
        let list = json!({ "items": [
            { "metadata": { "name": "a", "labels": { "istio.io/rev": "x", "n": 1 } },
              "status": { "conditions": [{ "type": "Ready", "status": "True" }, { "type": "Other", "status": "False" }] } },
            { "metadata": { "name": "b" } },
        ]});
        for (template, wanted) in [
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}{\"\\n\"}", "b\n"),
            ("{.items[*].metadata.name}", "a b"),
            (".items[*].metadata.name", "a b"),
            ("{$.items[0].metadata.labels.istio\\.io/rev}", "x"),
            ("{.items[0].metadata.labels['istio.io/rev']}", "x"),
            (
                "{.items[0].metadata.labels}",
                r#"{"istio.io/rev":"x","n":1}"#,
            ),
            ("{range .items[*]}<{.metadata.name}>{end}!", "<a><b>!"),
            ("{..name}", "a b"),
            (
                "{.items[0].status.conditions[?(@.type==\"Ready\")].status}",
                "True",
            ),
            (
                "{.items[0].status.conditions[?(@.type!='Ready')].status}",
                "False",
            ),
            ("{.nothing.here}", ""),
        ] {
            assert_eq!(fill(template, &list), wanted, "{template}");
        }
        let beyond = "{.items[5].metadata}".parse::<Template>().unwrap();
        assert!(
            beyond
                .fill(&list)
                .unwrap_err()
                .contains("index 5, length 2")
        );
    }

    #[test]
    fn mistakes_are_told() {
        for bad in [
            "{.a",
            "{range .a}{.b}",
            "{end}",
            "{.a[x]}",
            "{.a[?(@.b<1)]}",
        ] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
