//! `create`: from manifests, a namespace, a deployment.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    all_well,
    kinds::Kinds,
    manifest::{Manifest, Sources},
    objects::{name, namespace},
    output::{self, Output},
    server::{Server, when},
};

/// `kubectl create`.
#[derive(Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct CreateArgs {
    #[command(flatten)]
    sources: Sources,
    #[command(subcommand)]
    what: Option<What>,
}

/// What can be made without a manifest.
#[derive(Subcommand)]
enum What {
    /// A namespace
    #[command(alias = "ns")]
    Namespace {
        /// Its name
        name: String,
        #[command(flatten)]
        form: DryRun,
    },
    /// A deployment
    #[command(alias = "deploy")]
    Deployment {
        /// Its name
        name: String,
        /// The image of its container
        #[arg(long)]
        image: String,
        /// So many pods
        #[arg(short, long, default_value_t = 1)]
        replicas: u32,
        /// The port that the container listens on
        #[arg(long)]
        port: Option<u16>,
        #[command(flatten)]
        form: DryRun,
        /// The container's command
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// Whether it is made, or only shown.
#[derive(Args, Clone, Debug, Default)]
pub struct DryRun {
    /// client: only print what would be sent
    #[arg(long, value_parser = ["none", "client"], default_value = "none")]
    dry_run: String,
    /// yaml, json or name
    #[arg(short, long)]
    output: Option<Output>,
}

/// Makes objects.
pub async fn run(server: &Server, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (object, form) = match args.what {
        None => return from_manifests(server, &args.sources).await,
        Some(What::Namespace { name, form }) => (
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
            form,
        ),
        Some(What::Deployment {
            name,
            image,
            replicas,
            port,
            form,
            command,
        }) => {
            let object = deployment(&name, &image, replicas, port, &command);
            (object, form)
        }
    };
    make(server, object, "created", &form).await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an object and says so, or prints it.
pub async fn make(server: &Server, object: Value, verb: &str, form: &DryRun) -> anyhow::Result<()> {
    let kinds = Kinds::of(server).await?;
    let mut manifest = Manifest {
        source: "command line".into(),
        object,
    };
    let (kind, _) = manifest.place(server, &kinds)?;
    let made = if form.dry_run == "client" {
        manifest.object
    } else {
        let path = kind.path(Some(namespace(&manifest.object)));
        server.post(&path, &manifest.object).await?
    };
    match &form.output {
        Some(output) => {
            let text = output::print(output, &[(kind, made)], true)?;
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
        None => {
            let note = if form.dry_run == "client" {
                " (dry run)"
            } else {
                ""
            };
            println!("{}/{} {verb}{note}", kind.title(), name(&made));
        }
    }
    Ok(())
}

async fn from_manifests(server: &Server, sources: &Sources) -> anyhow::Result<ExitCode> {
    if sources.is_empty() {
        anyhow::bail!("must specify one of -f and -k, or what to create");
    }
    let kinds = Kinds::of(server).await?;
    let mut outcomes = Vec::new();
    for mut manifest in sources.read()? {
        let outcome = async {
            let (kind, _) = manifest.place(server, &kinds)?;
            let path = kind.path(Some(namespace(&manifest.object)));
            let made = server.post(&path, &manifest.object).await;
            when(made, "creating", &manifest.source)?;
            println!("{}/{} created", kind.title(), name(&manifest.object));
            anyhow::Ok(())
        };
        outcomes.push(outcome.await);
    }
    Ok(all_well(outcomes))
}

fn deployment(
    name: &str,
    image: &str,
    replicas: u32,
    port: Option<u16>,
    command: &[String],
) -> Value {
    let mut container = json!({ "name": container_name(image), "image": image });
    if let Some(port) = port {
        container["ports"] = json!([{ "containerPort": port }]);
    }
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [container] },
            },
        },
    })
}

/// The last part of an image's name, without its tag: `delivery` of `ghcr.io/acmexii/delivery:istio-v1`.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let end = last.find(['@', ':']).unwrap_or(last.len());
    last[..end].replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_named_after_its_image() {
        let object = deployment("d", "ghcr.io/acmexii/delivery:istio-v1", 1, Some(80), &[]);
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["name"], "delivery");
        assert_eq!(container["ports"][0]["containerPort"], 80);
        assert_eq!(object["spec"]["selector"]["matchLabels"]["app"], "d");
        assert_eq!(container_name("a/my_app.x@sha256:1"), "my-app-x");
    }
}
