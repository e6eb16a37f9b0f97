//! The kubelet's side of a pod's subresources: what the API server asks of the node.

use super::attach;
use super::containers::{Containers, Running};
use super::exec;
use super::logs::Logs;
use super::privilege::bindable;
use super::usage::Meter;
use crate::node::{
    Connection, ExecOptions, LogOptions, LogStream, Node, NodeError, Session, Usage,
};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest that a connection to a pod's port may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The node's logs and running containers. Clones share them.
#[derive(Clone, Default)]
pub struct Kubelet {
    /// All logs.
    pub logs: Logs,
    /// What runs now.
    pub containers: Containers,
    /// What they use.
    pub meter: Meter,
}

impl Kubelet {
    fn running(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Arc<Running>, NodeError> {
        self.containers
            .find(namespace, pod, container)
            .ok_or_else(|| NodeError::NotRunning(container.to_owned()))
    }
}

impl Node for Kubelet {
    fn logs<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, Result<LogStream, NodeError>> {
        Box::pin(async move { self.logs.read(namespace, pod, container, &options) })
    }

    fn exec<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        options: ExecOptions,
    ) -> BoxFuture<'a, Result<Session, NodeError>> {
        Box::pin(async move {
            let running = self.running(namespace, pod, container)?;
            Ok(exec::run(&running, &options))
        })
    }

    fn attach<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
        stdin: bool,
    ) -> BoxFuture<'a, Result<Session, NodeError>> {
        Box::pin(async move {
            let running = self.running(namespace, pod, container)?;
            Ok(attach::to(&running, stdin))
        })
    }

    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, NodeError>> {
        Box::pin(async move {
            let running = self
                .containers
                .of_pod(namespace, pod)
                .ok_or_else(|| NodeError::NotRunning(pod.to_owned()))?;
            let mut why = String::new();
            for address in running.localhost {
                match tokio::time::timeout(CONNECT, TcpStream::connect((address, bindable(port))))
                    .await
                {
                    Ok(Ok(stream)) => return Ok(Box::new(stream) as Box<dyn Connection>),
                    Ok(Err(error)) => why = error.kind().to_string(),
                    Err(_) => why = "timed out".to_owned(),
                }
            }
            Err(NodeError::Internal(format!(
                "failed to connect to localhost:{port} of pod {pod}: {why}"
            )))
        })
    }

    fn usage(&self) -> BoxFuture<'_, Vec<Usage>> {
        Box::pin(self.meter.read(&self.containers))
    }
}
