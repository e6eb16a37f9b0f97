//! `expose`: a Service for a Deployment, a pod or another Service.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::{
    create::{self, DryRun},
    kinds::Kinds,
    objects,
    server::Server,
};

/// `kubectl expose`.
#[derive(Args)]
pub struct ExposeArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    words: Vec<String>,
    /// The Service's port [default: the container's]
    #[arg(long)]
    port: Option<u16>,
    /// The container's port, by number or name [default: the Service's]
    #[arg(long)]
    target_port: Option<String>,
    /// The Service's name [default: that of the object]
    #[arg(long)]
    name: Option<String>,
    /// The Service's type
    #[arg(long = "type", value_parser = ["ClusterIP", "NodePort", "LoadBalancer"])]
    service_type: Option<String>,
    /// TCP or UDP
    #[arg(long, value_parser = ["TCP", "UDP"])]
    protocol: Option<String>,
    #[command(flatten)]
    form: DryRun,
}

/// Makes the Service.
pub async fn run(server: &Server, args: ExposeArgs) -> anyhow::Result<ExitCode> {
    let kinds = Kinds::of(server).await?;
    let (kind, name) = objects::single(&kinds, &args.words)?;
    let object = server.get(&kind.path_of(&server.namespace, &name)).await?;
    let object = service(&args, &object, &kind.kind)?;
    create::make(server, object, "exposed", &args.form).await?;
    Ok(ExitCode::SUCCESS)
}

fn service(args: &ExposeArgs, object: &Value, kind: &str) -> anyhow::Result<Value> {
    let selector = match kind {
        "Pod" => &object["metadata"]["labels"],
        "Service" => &object["spec"]["selector"],
        _ => &object["spec"]["selector"]["matchLabels"],
    };
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        anyhow::bail!(
            "couldn't retrieve selectors via --selector flag or introspection: the {kind} has none"
        );
    }
    let containers = object
        .pointer("/spec/template/spec/containers")
        .or(object.pointer("/spec/containers"));
    let declared = containers.and_then(|list| list.pointer("/0/ports/0/containerPort"));
    let port = args
        .port
        .map(Value::from)
        .or(declared.cloned())
        .context("couldn't find port via --port flag or introspection")?;
    let target = match &args.target_port {
        Some(text) => text
            .parse::<u16>()
            .map_or(Value::from(text.clone()), Value::from),
        None => port.clone(),
    };
    let own = objects::name(object);
    let name = args.name.as_deref().unwrap_or(own);
    let mut entry = json!({ "port": port, "targetPort": target });
    if let Some(protocol) = &args.protocol {
        entry["protocol"] = protocol.clone().into();
    }
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "labels": object["metadata"]["labels"] },
        "spec": { "selector": selector, "ports": [entry] },
    });
    if let Some(service_type) = &args.service_type {
        service["spec"]["type"] = service_type.clone().into();
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        expose: ExposeArgs,
    }

    #[test]
    fn a_service_selects_what_the_deployment_selects() {
        let args = |line: &str| Line::parse_from(line.split(' ')).expose;
        let deployment = json!({ "metadata": { "name": "d", "labels": { "app": "d" } },
            "spec": { "selector": { "matchLabels": { "app": "d" } } } });
        let made = service(
            &args("expose deploy d --port=8080 --type=NodePort"),
            &deployment,
            "Deployment",
        )
        .unwrap();
        assert_eq!(
            made["spec"],
            json!({ "selector": { "app": "d" },
            "ports": [{ "port": 8080, "targetPort": 8080 }], "type": "NodePort" })
        );
        let told = service(&args("expose deploy d"), &deployment, "Deployment").unwrap_err();
        assert!(told.to_string().contains("couldn't find port"));
    }
}
