//! `run`: a pod of one container.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    create::{self, DryRun},
    server::Server,
};

/// `kubectl run`.
#[derive(Args)]
pub struct RunArgs {
    /// Name of the pod
    name: String,
    /// Image of its container
    #[arg(long)]
    image: String,
    /// NAME=VALUE in its environment
    #[arg(long)]
    env: Vec<String>,
    /// Labels: a=b,c=d [default: run=NAME]
    #[arg(short, long)]
    labels: Option<String>,
    /// The port that it listens on
    #[arg(long)]
    port: Option<u16>,
    /// What happens when the container ends
    #[arg(long, value_enum, default_value = "Always")]
    restart: Restart,
    /// What follows -- is the command, not its arguments
    #[arg(long)]
    command: bool,
    #[command(flatten)]
    form: DryRun,
    /// Arguments of the image's command
    #[arg(last = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Restart {
    Always,
    OnFailure,
    Never,
}

/// Makes the pod.
pub async fn run(server: &Server, args: RunArgs) -> anyhow::Result<ExitCode> {
    let object = pod(&args)?;
    create::make(server, object, "created", &args.form).await?;
    Ok(ExitCode::SUCCESS)
}

fn pod(args: &RunArgs) -> anyhow::Result<Value> {
    let mut container = json!({ "name": args.name, "image": args.image });
    if !args.words.is_empty() {
        let field = if args.command { "command" } else { "args" };
        container[field] = json!(args.words);
    }
    if let Some(port) = args.port {
        container["ports"] = json!([{ "containerPort": port }]);
    }
    let pair = |text: &str, what: &str| {
        let (key, value) = text
            .split_once('=')
            .with_context(|| format!("{what} {text:?} is not of the form NAME=VALUE"))?;
        anyhow::Ok((key.to_owned(), value.to_owned()))
    };
    if !args.env.is_empty() {
        let variable = |text: &String| {
            let (name, value) = pair(text, "--env")?;
            anyhow::Ok(json!({ "name": name, "value": value }))
        };
        let variables: Vec<Value> = args.env.iter().map(variable).collect::<Result<_, _>>()?;
        container["env"] = variables.into();
    }
    let labels = match &args.labels {
        None => Map::from_iter([("run".to_owned(), args.name.clone().into())]),
        Some(text) => text
            .split(',')
            .map(|one| pair(one, "--labels").map(|(k, v)| (k, v.into())))
            .collect::<Result<_, _>>()?,
    };
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": args.name, "labels": labels },
        "spec": { "containers": [container], "restartPolicy": format!("{:?}", args.restart) },
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn a_pod_is_as_the_words_say() {
        let line = "run curltest --image=curlimages/curl --env A=b=c --restart=Never -- sleep 365d";
        let made = pod(&Line::parse_from(line.split(' ')).run).unwrap();
        assert_eq!(made["metadata"]["labels"], json!({ "run": "curltest" }));
        let container = &made["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["sleep", "365d"]));
        assert_eq!(container["env"][0], json!({ "name": "A", "value": "b=c" }));
        assert_eq!(made["spec"]["restartPolicy"], "Never");
    }
}
