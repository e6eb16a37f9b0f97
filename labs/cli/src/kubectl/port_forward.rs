//! `port-forward`.

use std::{net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::{kinds::Kinds, objects, pods, server::Server};

/// `kubectl port-forward`.
#[derive(Args)]
pub struct PortForwardArgs {
    /// POD, pod/NAME, deploy/NAME or svc/NAME
    reference: String,
    /// LOCAL:REMOTE, PORT for both, or :REMOTE for any local one
    #[arg(required = true)]
    ports: Vec<String>,
}

/// Leads local ports to a pod until it is ended.
pub async fn run(server: &Server, args: PortForwardArgs) -> anyhow::Result<ExitCode> {
    let pod = pods::of(server, &args.reference).await?.remove(0);
    let name = objects::name(&pod).to_owned();
    let service = service(server, &args.reference).await?;
    let mut listening = Vec::new();
    for text in &args.ports {
        let (local, port) = ports(text)?;
        let remote = match &service {
            Some(service) => target(service, &pod, port)?,
            None => port,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local))
            .await
            .with_context(|| format!("unable to listen on port {local}"))?;
        println!("Forwarding from {} -> {remote}", listener.local_addr()?);
        listening.push((listener, remote));
    }
    let api: Api<Pod> = Api::namespaced(server.client.clone(), &server.namespace);
    let all = listening
        .into_iter()
        .map(|(listener, remote)| serve(api.clone(), name.clone(), listener, remote));
    futures::future::try_join_all(all).await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    api: Api<Pod>,
    pod: String,
    listener: TcpListener,
    remote: u16,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        println!("Handling connection for {}", stream.local_addr()?.port());
        let (api, pod) = (api.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(&api, &pod, stream, remote).await {
                eprintln!(
                    "error: an error occurred forwarding to port {remote} of pod {pod}: {error:#}"
                );
            }
        });
    }
}

async fn carry(
    api: &Api<Pod>,
    pod: &str,
    mut stream: TcpStream,
    remote: u16,
) -> anyhow::Result<()> {
    let mut forwarder = api.portforward(pod, &[remote]).await?;
    let refused = forwarder.take_error(remote);
    let mut upstream = forwarder.take_stream(remote).context("no stream")?;
    let carried = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    drop(upstream);
    if let Some(refused) = refused
        && let Some(message) = refused.await
    {
        bail!("{message}");
    }
    // A connection that one side breaks off is no failure of ours.
    let _ = carried;
    Ok(())
}

/// The local and the remote port.
fn ports(text: &str) -> anyhow::Result<(u16, u16)> {
    let number = |part: &str| {
        part.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .with_context(|| format!("{text:?} is not LOCAL:REMOTE, PORT or :REMOTE"))
    };
    match text.split_once(':') {
        None => number(text).map(|port| (port, port)),
        Some(("", remote)) => Ok((0, number(remote)?)),
        Some((local, remote)) => Ok((number(local)?, number(remote)?)),
    }
}

/// The Service, if one is meant.
async fn service(server: &Server, reference: &str) -> anyhow::Result<Option<Value>> {
    let Some((word, name)) = reference.split_once('/') else {
        return Ok(None);
    };
    let kind = objects::one(&Kinds::of(server).await?, word)?;
    if kind.kind != "Service" {
        return Ok(None);
    }
    server
        .get(&kind.path_of(&server.namespace, name))
        .await
        .map(Some)
}

/// The pod's port behind a port of the Service.
fn target(service: &Value, pod: &Value, port: u16) -> anyhow::Result<u16> {
    let mut entries = service["spec"]["ports"].as_array().into_iter().flatten();
    let entry = entries
        .find(|entry| entry["port"] == port)
        .with_context(|| {
            format!(
                "Service {} does not have a service port {port}",
                objects::name(service)
            )
        })?;
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    match &entry["targetPort"] {
        Value::String(wanted) => {
            let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
            let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
            ports
                .find(|p| p["name"] == wanted.as_str())
                .and_then(|p| number(&p["containerPort"]))
                .with_context(|| format!("pod {} has no port named {wanted}", objects::name(pod)))
        }
        other => Ok(number(other).unwrap_or(port)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_read_and_resolved() {
        assert_eq!(ports("80").unwrap(), (80, 80));
        assert_eq!(ports("8080:80").unwrap(), (8080, 80));
        assert_eq!(ports(":80").unwrap(), (0, 80));
        assert!(ports("a:80").is_err());
        let service = json!({ "metadata": { "name": "s" }, "spec": { "ports": [{ "port": 80, "targetPort": "http" }, { "port": 81, "targetPort": 9081 }] } });
        let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "ports": [{ "name": "http", "containerPort": 8080 }] }] } });
        assert_eq!(target(&service, &pod, 80).unwrap(), 8080);
        assert_eq!(target(&service, &pod, 81).unwrap(), 9081);
        assert!(
            target(&service, &pod, 82)
                .unwrap_err()
                .to_string()
                .contains("does not have a service port 82")
        );
    }
}
