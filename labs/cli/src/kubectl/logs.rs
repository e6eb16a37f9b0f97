//! `logs`.

use std::{io::Write as _, pin::pin, process::ExitCode};

use clap::Args;
use futures::{AsyncReadExt, future::try_join_all};
use serde_json::Value;

use super::{objects::name, pods, server::Server};

/// `kubectl logs`.
#[derive(Args)]
pub struct LogsArgs {
    /// POD, pod/NAME or deploy/NAME
    #[arg(required_unless_present = "labels")]
    reference: Option<String>,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Those of all pods with these labels
    #[arg(short = 'l', long = "selector", conflicts_with = "reference")]
    labels: Option<String>,
    /// Every container of the pod
    #[arg(long, conflicts_with = "container")]
    all_containers: bool,
    /// Go on with what is printed
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines [default: all; 10 with a selector]
    #[arg(long)]
    tail: Option<i64>,
    /// Of the container's run before
    #[arg(short, long)]
    previous: bool,
    /// Only what was printed so long ago at most: 90s, 2m
    #[arg(long, value_parser = super::wait::duration)]
    since: Option<std::time::Duration>,
    /// Each line with its time
    #[arg(long)]
    timestamps: bool,
    /// Each line with its pod and container
    #[arg(long)]
    prefix: bool,
}

/// Prints logs.
pub async fn run(server: &Server, args: LogsArgs) -> anyhow::Result<ExitCode> {
    let pods = match (&args.labels, &args.reference) {
        (Some(labels), _) => pods::selected(server, labels).await?,
        (None, reference) => {
            let reference = reference.as_deref().unwrap_or_default();
            let mut pods = pods::of(server, reference).await?;
            if pods.len() > 1 {
                eprintln!("Found {} pods, using pod/{}", pods.len(), name(&pods[0]));
                pods.truncate(1);
            }
            pods
        }
    };
    if pods.is_empty() {
        eprintln!("No resources found in {} namespace.", server.namespace);
    }
    let mut sources = Vec::new();
    for pod in &pods {
        for container in containers(pod, &args)? {
            sources.push((pod, container));
        }
    }
    if args.follow {
        let all = sources
            .iter()
            .map(|(pod, container)| copy(server, &args, pod, container));
        try_join_all(all).await?;
    } else {
        for (pod, container) in &sources {
            copy(server, &args, pod, container).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn containers(pod: &Value, args: &LogsArgs) -> anyhow::Result<Vec<String>> {
    if !args.all_containers {
        return Ok(vec![pods::container(pod, args.container.as_deref())?]);
    }
    let lists = ["initContainers", "containers"];
    let all = lists
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    Ok(all
        .filter_map(|c| c["name"].as_str().map(str::to_owned))
        .collect())
}

async fn copy(
    server: &Server,
    args: &LogsArgs,
    pod: &Value,
    container: &str,
) -> anyhow::Result<()> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("container", container);
    let tail = args
        .tail
        .or(args.labels.is_some().then_some(10))
        .filter(|n| *n >= 0);
    if let Some(tail) = tail {
        query.append_pair("tailLines", &tail.to_string());
    }
    if let Some(since) = args.since {
        query.append_pair("sinceSeconds", &since.as_secs().max(1).to_string());
    }
    for (wanted, key) in [
        (args.follow, "follow"),
        (args.previous, "previous"),
        (args.timestamps, "timestamps"),
    ] {
        if wanted {
            query.append_pair(key, "true");
        }
    }
    let name = name(pod);
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/log?{}",
        server.namespace,
        query.finish()
    );
    let mut stream = pin!(server.stream(&path).await?);
    let mut room = vec![0; 16 * 1024];
    let mut line_begins = true;
    loop {
        let read = stream.read(&mut room).await?;
        if read == 0 {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if args.prefix {
            for line in room[..read].split_inclusive(|byte| *byte == b'\n') {
                if line_begins {
                    write!(out, "[pod/{name}/{container}] ")?;
                }
                out.write_all(line)?;
                line_begins = line.ends_with(b"\n");
            }
        } else {
            out.write_all(&room[..read])?;
        }
        out.flush()?;
    }
}
