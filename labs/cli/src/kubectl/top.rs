//! `top`: what pods and nodes use, as `metrics.k8s.io` measures it.

use std::{io::Write as _, process::ExitCode};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{
    objects::{name, namespace},
    server::{self, Server},
    table::Columns,
};

/// `kubectl top`.
#[derive(Subcommand)]
pub enum Top {
    /// What pods use
    #[command(aliases = ["pods", "po"])]
    Pod {
        #[command(flatten)]
        args: TopArgs,
        /// Those of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Each container on a line of its own
        #[arg(long)]
        containers: bool,
    },
    /// What nodes use
    #[command(aliases = ["nodes", "no"])]
    Node(TopArgs),
}

/// Of which objects, and how they are shown.
#[derive(Args)]
pub struct TopArgs {
    /// Only this one
    name: Option<String>,
    /// Those with these labels: app=reviews
    #[arg(short = 'l', long = "selector", conflicts_with = "name")]
    labels: Option<String>,
    /// The one that uses most comes first
    #[arg(long, value_enum)]
    sort_by: Option<Resource>,
    /// Without the line of headings
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Resource {
    Cpu,
    Memory,
}

/// Thousandths of a CPU, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    cpu: i128,
    memory: i128,
}

impl Used {
    fn of(usage: &Value) -> Self {
        let amount = |field: &str| usage[field].as_str().and_then(nano).unwrap_or_default();
        Self {
            // A part of a thousandth counts as a whole one.
            cpu: (amount("cpu") + 999_999) / 1_000_000,
            memory: amount("memory") / 1_000_000_000,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
        }
    }

    fn cells(self) -> [String; 2] {
        [format!("{}m", self.cpu), format!("{}Mi", self.memory >> 20)]
    }

    fn rank(self, by: Resource) -> i128 {
        match by {
            Resource::Cpu => -self.cpu,
            Resource::Memory => -self.memory,
        }
    }
}

/// Shows what is used.
pub async fn run(server: &Server, top: Top) -> anyhow::Result<ExitCode> {
    match top {
        Top::Pod {
            args,
            all_namespaces,
            containers,
        } => pods(server, &args, all_namespaces, containers).await,
        Top::Node(args) => nodes(server, &args).await,
    }
}

async fn pods(
    server: &Server,
    args: &TopArgs,
    everywhere: bool,
    by_container: bool,
) -> anyhow::Result<ExitCode> {
    let place = if everywhere {
        String::new()
    } else {
        format!("namespaces/{}/", server.namespace)
    };
    let measured = measured(server, args, &format!("{place}pods")).await?;
    if measured.is_empty() {
        let pods = format!("/api/v1/{place}pods");
        let there = server.get(&pods).await?;
        if there["items"].as_array().is_some_and(|all| !all.is_empty()) {
            bail!("metrics not available yet");
        }
        let here = format!(" in {} namespace.", server.namespace);
        eprintln!(
            "No resources found{}",
            if everywhere { "" } else { here.as_str() }
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut headings = vec!["CPU(cores)", "MEMORY(bytes)"];
    headings.insert(0, "NAME");
    if by_container {
        headings.splice(0..1, ["POD", "NAME"]);
    }
    if everywhere {
        headings.insert(0, "NAMESPACE");
    }
    let mut lines = Vec::new();
    for pod in &measured {
        let containers = pod["containers"].as_array().into_iter().flatten();
        let mut used: Vec<(Option<&str>, Used)> = containers
            .map(|one| (one["name"].as_str(), Used::of(&one["usage"])))
            .collect();
        if !by_container {
            let sum = used
                .iter()
                .fold(Used::default(), |sum, one| sum.plus(one.1));
            used = vec![(None, sum)];
        }
        for (container, used) in used {
            let place = everywhere.then(|| namespace(pod));
            let names = place.into_iter().chain([name(pod)]).chain(container);
            let cells = names.map(str::to_owned).chain(used.cells()).collect();
            lines.push((used, cells));
        }
    }
    print(args, &headings, lines)
}

async fn nodes(server: &Server, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let measured = measured(server, args, "nodes").await?;
    if measured.is_empty() {
        bail!("metrics not available yet");
    }
    let headings = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
    let mut lines = Vec::new();
    for node in &measured {
        let object = server.get(&format!("/api/v1/nodes/{}", name(node))).await?;
        let (used, has) = (
            Used::of(&node["usage"]),
            Used::of(&object["status"]["allocatable"]),
        );
        let share = |part: i128, whole: i128| match whole {
            0 => "<unknown>".to_owned(),
            whole => format!("{}%", part * 100 / whole),
        };
        let [cpu, memory] = used.cells();
        let cells = [
            name(node).to_owned(),
            cpu,
            share(used.cpu, has.cpu),
            memory,
            share(used.memory, has.memory),
        ];
        lines.push((used, cells.to_vec()));
    }
    print(args, &headings, lines)
}

/// The measurements, by namespace and name.
async fn measured(server: &Server, args: &TopArgs, what: &str) -> anyhow::Result<Vec<Value>> {
    let mut path = format!("/apis/metrics.k8s.io/v1beta1/{what}");
    if let Some(name) = &args.name {
        path = format!("{path}/{name}");
    }
    if let Some(labels) = &args.labels {
        let mut query = form_urlencoded::Serializer::new(String::new());
        path = format!(
            "{path}?{}",
            query.append_pair("labelSelector", labels).finish()
        );
    }
    let mut answer = match server.get(&path).await {
        // The whole API is missing, and not one pod.
        Err(error) if args.name.is_none() && server::is_not_found(&error) => {
            bail!("Metrics API not available")
        }
        answer => answer?,
    };
    let mut all = match answer["items"].as_array_mut() {
        Some(items) => std::mem::take(items),
        None => vec![answer],
    };
    all.sort_by(|a, b| (namespace(a), name(a)).cmp(&(namespace(b), name(b))));
    Ok(all)
}

fn print(
    args: &TopArgs,
    headings: &[&str],
    mut lines: Vec<(Used, Vec<String>)>,
) -> anyhow::Result<ExitCode> {
    if let Some(by) = args.sort_by {
        lines.sort_by_key(|(used, _)| used.rank(by));
    }
    let mut rows: Vec<Vec<String>> = lines.into_iter().map(|(_, cells)| cells).collect();
    if !args.no_headers {
        rows.insert(0, headings.iter().map(|text| (*text).to_owned()).collect());
    }
    // Here kubectl pads the last column too.
    rows.iter_mut().for_each(|row| row.push(String::new()));
    let lines = Columns::default().lines(&rows);
    std::io::stdout().lock().write_all(lines.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A quantity such as `250m`, `1234567n` or `64Mi`, in billionths.
fn nano(quantity: &str) -> Option<i128> {
    let end = quantity
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(end);
    let factor: i128 = match unit {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "Ki" => 1_000_000_000 << 10,
        "Mi" => 1_000_000_000 << 20,
        "Gi" => 1_000_000_000 << 30,
        _ => return None,
    };
    number.parse::<i128>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn use_is_in_thousandths_and_mebibytes() {
        let used = Used::of(&json!({ "cpu": "1234567n", "memory": "5000Ki" }));
        assert_eq!(used.cells(), ["2m", "4Mi"]);
        let node = Used::of(&json!({ "cpu": "2", "memory": "1Gi" }));
        assert_eq!(node.cells(), ["2000m", "1024Mi"]);
        assert_eq!(Used::of(&Value::Null), Used::default());
        assert_eq!(nano("1.5"), None);
    }
}
