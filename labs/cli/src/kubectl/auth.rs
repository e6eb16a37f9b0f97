//! `auth can-i` and `auth whoami`.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{kinds::Kinds, server::Server, table::Columns};

/// `kubectl auth`.
#[derive(Subcommand)]
pub enum Auth {
    /// Whether one may do it
    CanI(CanIArgs),
    /// Who one is
    Whoami,
}

/// `kubectl auth can-i`.
#[derive(Args)]
pub struct CanIArgs {
    /// get, list, create, ...
    verb: String,
    /// TYPE, TYPE/NAME or a path such as /logs
    what: String,
    /// Its name
    name: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Of the object only this: log, exec, scale
    #[arg(long)]
    subresource: Option<String>,
    /// Say nothing; the exit code tells
    #[arg(short, long)]
    quiet: bool,
}

/// Asks the server.
pub async fn run(server: &Server, auth: Auth) -> anyhow::Result<ExitCode> {
    match auth {
        Auth::CanI(args) => can_i(server, &args).await,
        Auth::Whoami => who_am_i(server).await,
    }
}

async fn can_i(server: &Server, args: &CanIArgs) -> anyhow::Result<ExitCode> {
    let spec = if args.what.starts_with('/') {
        json!({ "nonResourceAttributes": { "verb": args.verb, "path": args.what } })
    } else {
        let kinds = Kinds::of(server).await?;
        json!({ "resourceAttributes": attributes(args, &kinds, &server.namespace) })
    };
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let status = server.post(path, &review).await?["status"].take();
    let allowed = status["allowed"] == true;
    if !args.quiet {
        println!("{}", said(&status));
    }
    Ok(if allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn said(status: &Value) -> String {
    if status["allowed"] == true {
        return "yes".into();
    }
    let why = ["reason", "evaluationError"].map(|field| status[field].as_str());
    let why = why.into_iter().flatten().filter(|text| !text.is_empty());
    why.fold("no".into(), |said, why| format!("{said} - {why}"))
}

fn attributes(args: &CanIArgs, kinds: &Kinds, namespace: &str) -> Value {
    let (word, name) = match args.what.split_once('/') {
        Some((word, name)) => (word, Some(name.to_owned())),
        None => (args.what.as_str(), args.name.clone()),
    };
    let mut asked = json!({ "verb": args.verb, "resource": word });
    let mut namespaced = true;
    if word != "*" {
        match kinds.called(word).as_deref() {
            Ok([kind, ..]) => {
                namespaced = kind.namespaced;
                asked["resource"] = kind.plural.clone().into();
                asked["group"] = kind.group.clone().into();
                if !namespaced {
                    eprintln!(
                        "Warning: resource '{}' is not namespace scoped\n",
                        kind.plural
                    );
                }
            }
            _ => eprintln!("Warning: the server doesn't have a resource type '{word}'\n"),
        }
    }
    if namespaced && !args.all_namespaces {
        asked["namespace"] = namespace.into();
    }
    if let Some(name) = name {
        asked["name"] = name.into();
    }
    if let Some(part) = &args.subresource {
        asked["subresource"] = part.clone().into();
    }
    asked
}

async fn who_am_i(server: &Server) -> anyhow::Result<ExitCode> {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let user = server.post(path, &review).await?["status"]["userInfo"].take();
    let groups = user["groups"].as_array().into_iter().flatten();
    let groups: Vec<&str> = groups.filter_map(Value::as_str).collect();
    let mut rows = vec![
        ["ATTRIBUTE".to_owned(), "VALUE".to_owned()].to_vec(),
        vec![
            "Username".into(),
            user["username"].as_str().unwrap_or_default().into(),
        ],
    ];
    if let Some(uid) = user["uid"].as_str().filter(|uid| !uid.is_empty()) {
        rows.push(vec!["UID".into(), uid.into()]);
    }
    rows.push(vec!["Groups".into(), format!("[{}]", groups.join(" "))]);
    for (key, value) in user["extra"].as_object().into_iter().flatten() {
        let values = value.as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        rows.push(vec![
            format!("Extra: {key}"),
            format!("[{}]", values.join(" ")),
        ]);
    }
    let lines = Columns::default().lines(&rows);
    std::io::stdout().lock().write_all(lines.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{super::kinds::tests::some, *};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        can_i: CanIArgs,
    }

    #[test]
    fn the_question_names_the_resource() {
        let asked = |line: &str| {
            let args = Line::parse_from(line.split(' ')).can_i;
            attributes(&args, &some(), "shop")
        };
        assert_eq!(
            asked("can-i get deploy/web --subresource scale"),
            json!({ "verb": "get", "resource": "deployments", "group": "apps", "namespace": "shop",
                "name": "web", "subresource": "scale" })
        );
        let ns = asked("can-i delete ns");
        assert_eq!(ns["namespace"], Value::Null);
        assert_eq!(asked("can-i list pods -A")["namespace"], Value::Null);
    }

    #[test]
    fn a_no_tells_why() {
        assert_eq!(said(&json!({ "allowed": true, "reason": "r" })), "yes");
        assert_eq!(said(&json!({ "allowed": false })), "no");
        assert_eq!(said(&json!({ "reason": "not yours" })), "no - not yours");
    }
}
