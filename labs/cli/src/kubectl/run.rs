//! `run`: a pod of one container, with `-it --rm` for as long as somebody types.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use futures::AsyncReadExt as _;
use serde_json::{Map, Value, json};

use super::{
    attach,
    create::{self, DryRun},
    exec::Streams,
    pods,
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
    streams: Streams,
    /// Show what it prints until it ends; always with -i
    #[arg(long)]
    attach: bool,
    /// Delete it afterwards
    #[arg(long)]
    rm: bool,
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

/// How long the container may take to run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the pod, and stays with it if that is wanted.
pub async fn run(server: &Server, args: RunArgs) -> anyhow::Result<ExitCode> {
    let attached = args.attach || args.streams.stdin;
    if args.rm && !attached {
        bail!("--rm should only be used for attached containers");
    }
    if args.streams.tty && !args.streams.stdin {
        bail!("-i/--stdin is required for containers with -t/--tty=true");
    }
    let object = pod(&args)?;
    if !attached || args.form.is_dry() {
        create::make(server, object, "created", &args.form).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
    server.post(&path, &object).await?;
    let ending = attend(server, &args).await;
    if args.rm {
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        let path = format!("{path}/{}", args.name);
        server.delete(&path, &options).await?;
        println!("pod {:?} deleted", args.name);
    }
    let (code, why) = ending?;
    if code != 0 {
        eprintln!("pod {}/{} terminated ({why})", server.namespace, args.name);
    }
    let _ = std::io::stdout().flush();
    // A thread may still wait for a key; the process ends without it.
    std::process::exit(code)
}

/// Shows what the container prints. Its exit code and the reason, if it is not restarted; else 0.
async fn attend(server: &Server, args: &RunArgs) -> anyhow::Result<(i32, String)> {
    let name = &args.name;
    let begun = pods::until(server, name, |pod| has(pod, &["running", "terminated"]));
    let begun = tokio::time::timeout(PATIENCE, begun).await.map_err(|_| {
        anyhow!("timed out waiting for the condition: kubectl describe pod {name} tells why it does not run")
    })??;
    let attached = match has(&begun, &["terminated"]) {
        true => Err(anyhow!("it has ended")),
        false => attach::to(server, &begun, name.clone(), &args.streams).await,
    };
    if let Err(error) = attached {
        eprintln!(
            "warning: couldn't attach to pod/{name}, falling back to streaming logs: {error:#}"
        );
        print_log(server, name).await?;
    }
    if !matches!(args.restart, Restart::Never) {
        return Ok((0, String::new()));
    }
    let ended = pods::until(server, name, |pod| has(pod, &["terminated"])).await?;
    let end = &state(&ended)["terminated"];
    let code = end["exitCode"].as_i64().unwrap_or_default();
    let why = end["reason"].as_str().unwrap_or_default();
    Ok((i32::try_from(code)?, why.to_owned()))
}

async fn print_log(server: &Server, name: &str) -> anyhow::Result<()> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/log?container={name}",
        server.namespace
    );
    let mut log = std::pin::pin!(server.stream(&path).await?);
    let mut text = Vec::new();
    log.read_to_end(&mut text).await?;
    Ok(std::io::stdout().lock().write_all(&text)?)
}

/// What the container of the pod is doing; a sidecar may stand beside it.
fn state(pod: &Value) -> &Value {
    let mut all = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let own = all.find(|one| one["name"] == pod["metadata"]["name"]);
    own.map_or(&Value::Null, |one| &one["state"])
}

fn has(pod: &Value, states: &[&str]) -> bool {
    states.iter().any(|one| state(pod)[one].is_object())
}

fn pod(args: &RunArgs) -> anyhow::Result<Value> {
    let mut container = json!({ "name": args.name, "image": args.image });
    if args.streams.stdin {
        // It ends with the one who types.
        container["stdin"] = true.into();
        container["stdinOnce"] = true.into();
    }
    if args.streams.tty {
        container["tty"] = true.into();
    }
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
        assert_eq!(container["stdin"], Value::Null);
        let line = "run -it --rm shell --image=busybox -- sh";
        let made = pod(&Line::parse_from(line.split(' ')).run).unwrap();
        let container = &made["spec"]["containers"][0];
        assert_eq!(
            (&container["stdin"], &container["tty"]),
            (&json!(true), &json!(true))
        );
    }
}
