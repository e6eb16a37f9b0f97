//! `create`: from manifests, a namespace, a deployment, a ConfigMap, a Secret, a ServiceAccount.

mod entries;

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use entries::Entries;

use super::{
    all_well,
    kinds::{Kind, Kinds},
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
    #[command(flatten)]
    form: DryRun,
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
    /// A ConfigMap
    #[command(alias = "cm")]
    Configmap {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        form: DryRun,
    },
    /// A secret
    #[command(subcommand)]
    Secret(Secret),
    /// A service account
    #[command(alias = "sa")]
    Serviceaccount {
        /// Its name
        name: String,
        #[command(flatten)]
        form: DryRun,
    },
}

/// Kinds of secrets.
#[derive(Subcommand)]
enum Secret {
    /// With keys of one's own
    Generic {
        #[command(flatten)]
        entries: Entries,
        #[command(flatten)]
        form: DryRun,
    },
}

/// Whether it is made, or only shown.
#[derive(Args, Clone, Debug, Default)]
pub struct DryRun {
    /// client: only print what would be sent; server: only print what would come of it
    #[arg(long, value_enum, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Dry,
    /// yaml, json or name
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Dry {
    #[default]
    None,
    Client,
    Server,
}

impl DryRun {
    /// Whether nothing is even sent.
    pub fn only_here(&self) -> bool {
        self.dry_run == Dry::Client
    }

    /// Whether nothing is changed.
    pub fn is_dry(&self) -> bool {
        self.dry_run != Dry::None
    }

    /// What is said of it: ` (dry run)`.
    pub fn note(&self) -> &'static str {
        match self.dry_run {
            Dry::None => "",
            Dry::Client => " (dry run)",
            Dry::Server => " (server dry run)",
        }
    }

    /// Tells what was done, or prints what came of it.
    pub fn tell(&self, kind: &Kind, object: &Value, verb: &str) -> anyhow::Result<()> {
        if let Some(output) = &self.output {
            let text = output::print(output, &[(kind.clone(), object.clone())], true)?;
            std::io::stdout().lock().write_all(text.as_bytes())?;
            return Ok(());
        }
        println!("{}/{} {verb}{}", kind.title(), name(object), self.note());
        Ok(())
    }
}

/// Makes objects.
pub async fn run(server: &Server, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let (object, form) = match args.what {
        None => return from_manifests(server, &args).await,
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
        Some(What::Configmap { entries, form }) => (entries.config_map()?, form),
        Some(What::Secret(Secret::Generic { entries, form })) => (entries.secret()?, form),
        Some(What::Serviceaccount { name, form }) => (
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
            form,
        ),
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
    let made = send(server, &kind, manifest.object, form).await?;
    form.tell(&kind, &made, verb)
}

/// The object that the server made of it; itself if it is not to be sent.
async fn send(server: &Server, kind: &Kind, object: Value, form: &DryRun) -> anyhow::Result<Value> {
    if form.only_here() {
        return Ok(object);
    }
    let path = kind.path(Some(namespace(&object)));
    let query = if form.is_dry() { "?dryRun=All" } else { "" };
    server.post(&format!("{path}{query}"), &object).await
}

async fn from_manifests(server: &Server, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    if args.sources.is_empty() {
        anyhow::bail!("must specify one of -f and -k, or what to create");
    }
    let kinds = Kinds::of(server).await?;
    let mut outcomes = Vec::new();
    for mut manifest in args.sources.read()? {
        let outcome = async {
            let (kind, _) = manifest.place(server, &kinds)?;
            let made = send(server, &kind, manifest.object, &args.form).await;
            let made = when(made, "creating", &manifest.source)?;
            args.form.tell(&kind, &made, "created")
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
