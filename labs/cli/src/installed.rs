//! What Helm and the installing half of `istioctl` would bring is here already: this says where.
//!
//! They are `meshdojo helm ...` and `meshdojo istioctl ...`, or links of these names to the program. What
//! `istioctl` tells of a mesh are verbs of this program, and are left to them.

use std::process::ExitCode;

/// What is said instead of doing it.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is so already.
    Present(String),
    /// It is not, and will not be.
    Refused(String),
}

/// Prints it and gives the exit code: what is refused is a matter of usage.
pub fn say(answer: Answer) -> ExitCode {
    match answer {
        Answer::Present(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Answer::Refused(text) => {
            eprintln!("meshdojo: {text}");
            ExitCode::from(2)
        }
    }
}

/// What Helm's words come to.
pub fn helm(words: &[String]) -> Answer {
    let words = positional(words);
    let (verb, named) = match words.as_slice() {
        // `repo add`, `get all` and the like: what they are about comes after.
        [verb @ ("repo" | "search" | "get" | "show"), _, named @ ..] => (*verb, named),
        [verb, named @ ..] => (*verb, named),
        [] => ("", &[][..]),
    };
    if !named.is_empty() && !named.iter().any(|word| word.contains("istio")) {
        let text = format!(
            "of charts only Istio's are here already, not {:?}; with Helm itself: helm template NAME CHART | kubectl apply -f -",
            named.join(" ")
        );
        return Answer::Refused(text);
    }
    match verb {
        "delete" | "uninstall" | "rollback" => stays(),
        _ => Answer::Present(PRESENT.into()),
    }
}

/// What `istioctl`'s words come to; `None`: there is a verb for them.
pub fn istioctl(words: &[String]) -> Option<Answer> {
    let settings = words.iter().filter_map(|word| {
        let setting = word.strip_prefix("--set=").unwrap_or(word);
        setting.strip_prefix("meshConfig.")
    });
    let settings: Vec<&str> = settings.collect();
    match *positional(words).first()? {
        "install" | "upgrade" | "operator" | "manifest" | "verify-install" | "x" => {
            let mut text = PRESENT.to_owned();
            if !settings.is_empty() {
                let settings = settings.join(", ");
                text.push_str("\nSettings of the mesh take effect at once: kubectl edit configmap istio -n istio-system, in it ");
                text.push_str(&settings);
            }
            Some(Answer::Present(text))
        }
        "uninstall" => Some(stays()),
        "dashboard" | "d" | "dash" => {
            let text = "there are no dashboards here; requests as they pass: meshdojo tap POD, counters: kubectl exec POD -c istio-proxy -- curl -s localhost:15000/stats";
            Some(Answer::Refused(text.into()))
        }
        _ => None,
    }
}

const PRESENT: &str = "\
Nothing to install: the cluster came with its mesh.
  istio-base    kubectl get crd
  istiod        kubectl get pods -n istio-system -l app=istiod
  gateway       kubectl get pods,services -n istio-system -l istio=ingressgateway
On a real cluster k8s/INSTALL.md tells how this mesh gets there, k8s/istio/README.md how Istio itself does.";

fn stays() -> Answer {
    let text = "the mesh is a part of the cluster and goes with it: meshdojo down --purge";
    Answer::Refused(text.into())
}

/// The words that are neither flags nor their values.
fn positional(words: &[String]) -> Vec<&str> {
    const WITH_VALUE: [&str; 8] = [
        "-n",
        "--namespace",
        "-f",
        "--values",
        "--filename",
        "--set",
        "--version",
        "--kubeconfig",
    ];
    let mut found = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            found.push(word);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn istios_charts_are_there_and_others_are_not() {
        for line in [
            "repo add istio https://charts.example",
            "repo update",
            "search repo istio",
            "-n istio-system install istio-base istio/base --set defaultRevision=default",
            "-n istio-system ls",
            "-n istio-system get all istio-base",
            "version",
            "",
        ] {
            let answer = helm(&words(line));
            assert_eq!(answer, Answer::Present(PRESENT.into()), "{line}");
        }
        for (line, part) in [
            ("repo add bitnami https://charts.example", "bitnami"),
            (
                "-n user02 install nginx bitnami/nginx",
                "nginx bitnami/nginx",
            ),
            ("-n istio-system delete istio-base", "meshdojo down"),
        ] {
            let Answer::Refused(text) = helm(&words(line)) else {
                panic!("{line}")
            };
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn istioctl_installs_nothing_and_its_other_verbs_are_ours() {
        let line =
            "install --set profile=default --set meshConfig.defaultHttpRetryPolicy.attempts=0";
        let Some(Answer::Present(text)) = istioctl(&words(line)) else {
            panic!("it is here already")
        };
        assert!(
            text.ends_with("defaultHttpRetryPolicy.attempts=0"),
            "{text}"
        );
        assert!(matches!(
            istioctl(&words("uninstall --purge")),
            Some(Answer::Refused(_))
        ));
        for line in [
            "-n web proxy-config cluster web-1",
            "analyze",
            "version",
            "",
        ] {
            assert_eq!(istioctl(&words(line)), None, "{line}");
        }
    }
}
