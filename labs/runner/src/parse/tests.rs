use std::path::Path;

use super::*;

const FRONT: &str =
    "---\ntitle: T\ntime: 5 minutes\nlearn: [a]\nneeds: [meshdojo up none]\n---\n\n# T\n\n";

fn parse_steps(steps: &str) -> Result<Lab, Vec<Mistake>> {
    parse(Path::new("01-x/README.md"), &format!("{FRONT}{steps}"))
}

const STEP: &str = "## 1. Do it

Look:

```sh
kubectl apply -f a.yaml
```

```check
- resource: { apiVersion: v1, kind: ConfigMap, name: a }
```

```hints
- one
- two
- three
```

## What to remember

It worked.
";

#[test]
fn a_step_has_text_commands_checks_and_hints() {
    let lab = parse_steps(STEP).unwrap();
    assert_eq!((lab.id.as_str(), lab.steps.len()), ("01-x", 1));
    let step = &lab.steps[0];
    assert_eq!(
        (step.number, step.title.as_str(), step.line),
        (1, "Do it", 10)
    );
    assert_eq!(step.section.typed[0].text, "kubectl apply -f a.yaml\n");
    assert_eq!(step.section.typed[0].line, 15);
    assert_eq!(step.checks.len(), 1);
    assert_eq!(step.hints, ["one", "two", "three"]);
    let text = &step.section.text;
    assert!(
        text.contains("kubectl apply") && !text.contains("resource:") && !text.contains("three")
    );
    assert!(lab.end.contains("It worked."));
}

/// Each mistake with the line it is told for.
#[test]
fn mistakes_are_told_with_their_line() {
    let cases: &[(&str, usize, &str)] = &[
        ("## 2. Do it\n", 10, "step 2 comes where step 1"),
        ("", 1, "a lab has steps"),
        ("## 1. Do it\n\n```bash\nls\n```\n", 12, "\"bash\""),
        (
            "## 1. Do it\n\n```sh sometimes\nls\n```\n",
            12,
            "only `sh`, `sh fails`",
        ),
        ("## 1. Do it\n\n```sh\nls\n", 12, "not closed"),
        (
            "## 1. Do it\n\n```sh\nkubectl delete vs a\n```\n",
            10,
            "has no `check`",
        ),
        (
            "## 1. Do it\n\n```check\n- pods: { selector: a=b }\n```\n",
            10,
            "has `hints`",
        ),
        (
            "## 1. Do it\n\n```check\n- pods: { selector: a=b }\n- pods:\n    select: x\n```\n",
            15,
            "select",
        ),
        ("## 1. Do it\n\n```check\n- pods: [\n```\n", 14, "check:"),
        (
            "## 1. Do it\n\n```check\n- smell: {}\n```\n",
            13,
            "unknown variant `smell`",
        ),
        (
            "## 1. Do it\n\n```check\n- log: { of: a=b, line: '(' }\n```\n",
            13,
            "unclosed group",
        ),
        (
            "## 1. Do it\n\n```hints\n- one\n```\n",
            13,
            "there are three",
        ),
        (
            "## 1. Do it\n\n```predict\nask: q\nchoices: [a, b]\nanswer: 3\nbecause: x\n```\n",
            13,
            "number of one of them",
        ),
        (
            "## Before\n\n```check\n- pods: { selector: a=b }\n```\n\n## 1. A\n",
            12,
            "numbered step",
        ),
        (
            "## 1. A\n\n## End\n\n```sh\nls\n```\n",
            15,
            "after the last step",
        ),
    ];
    for (text, line, message) in cases {
        let mistakes = parse_steps(text).expect_err(text);
        assert!(
            mistakes
                .iter()
                .any(|m| m.line == *line && m.message.contains(message)),
            "{text}: {mistakes:?}"
        );
    }
    let none = parse(Path::new("x/README.md"), "# T\n").unwrap_err();
    assert!(
        none[0]
            .to_string()
            .starts_with("x/README.md:1: front matter is missing")
    );
    let odd = FRONT.replace("time: 5 minutes", "tim: 5");
    let odd = parse(Path::new("x/README.md"), &format!("{odd}{STEP}")).unwrap_err();
    assert!(
        odd[0].line == 3 && odd[0].message.contains("tim"),
        "{odd:?}"
    );
}
