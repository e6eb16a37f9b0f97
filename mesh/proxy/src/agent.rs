//! The agent's ports: 15020 (health, merged metrics, application probes), 15021 (readiness) and
//! 15090 (the proxy's own statistics).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::serve::Page;

/// An application's metrics must arrive within this, and be no longer than that.
const SCRAPE: (Duration, usize) = (Duration::from_secs(3), 8 * 1024 * 1024);

/// One probe of an application, as the injector moved it out of the way: an entry of
/// `ISTIO_KUBE_APP_PROBERS`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Prober {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocketProbe>,
    timeout_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HttpGet {
    path: String,
    port: u16,
    http_headers: Vec<Header>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TcpSocketProbe {
    port: u16,
}

/// Where an application says that its metrics are: `ISTIO_PROMETHEUS_ANNOTATIONS`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Scrape {
    scrape: String,
    path: String,
    port: String,
}

/// What the agent was told through the environment.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// By path, `/app-health/reviews/readyz`.
    pub(crate) probers: BTreeMap<String, Prober>,
    pub(crate) scrape: Option<Scrape>,
}

impl Agent {
    /// Reads the injector's variables; what does not parse is reported and left out.
    pub(crate) fn from_environment() -> Self {
        fn read<T: serde::de::DeserializeOwned>(name: &str) -> Option<T> {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            serde_json::from_str(&text)
                .inspect_err(|error| tracing::error!("{name} is not understood: {error}"))
                .ok()
        }
        Self {
            probers: read("ISTIO_KUBE_APP_PROBERS").unwrap_or_default(),
            scrape: read("ISTIO_PROMETHEUS_ANNOTATIONS"),
        }
    }

    /// Performs an application's probe on the pod's loopback.
    pub(crate) async fn probe(&self, path: &str, localhost: IpAddr) -> Page {
        let Some(prober) = self.probers.get(path) else {
            return Page::text(format!("no probe is known at {path}\n"))
                .status(StatusCode::BAD_REQUEST);
        };
        let limit = Duration::from_secs(prober.timeout_seconds.unwrap_or(1).clamp(1, 300));
        let failed = |reason: String| {
            Page::text(format!("{reason}\n")).status(StatusCode::INTERNAL_SERVER_ERROR)
        };
        let outcome = timeout(limit, prober.perform(localhost)).await;
        match outcome {
            Ok(Ok(status)) => Page::text(String::new()).status(status),
            Ok(Err(error)) => failed(format!("the probe failed: {error:#}")),
            Err(_) => failed(format!("the probe took more than {} s", limit.as_secs())),
        }
    }

    /// The application's own metrics, if it said that it has any.
    pub(crate) async fn application_metrics(&self, localhost: IpAddr) -> Option<String> {
        let scrape = self
            .scrape
            .as_ref()
            .filter(|scrape| scrape.scrape == "true")?;
        let port = scrape.port.parse().unwrap_or(80);
        let path = if scrape.path.is_empty() {
            "/metrics"
        } else {
            &scrape.path
        };
        let fetching = async {
            let (status, body) = get(localhost, port, path, &[], SCRAPE.1).await?;
            anyhow::ensure!(status == StatusCode::OK, "it answers {status}");
            anyhow::Ok(String::from_utf8_lossy(&body).into_owned())
        };
        match timeout(SCRAPE.0, fetching).await {
            Ok(Ok(metrics)) => Some(metrics),
            Ok(Err(error)) => {
                tracing::warn!("application metrics at port {port}{path}: {error:#}");
                None
            }
            Err(_) => {
                tracing::warn!("application metrics at port {port}{path}: too slow");
                None
            }
        }
    }
}

impl Prober {
    async fn perform(&self, localhost: IpAddr) -> anyhow::Result<StatusCode> {
        if let Some(probe) = &self.http_get {
            let path = if probe.path.is_empty() {
                "/"
            } else {
                &probe.path
            };
            let (status, _) =
                get(localhost, probe.port, path, &probe.http_headers, usize::MAX).await?;
            return Ok(status);
        }
        if let Some(probe) = &self.tcp_socket {
            TcpStream::connect(crate::socket::served((localhost, probe.port).into())).await?;
            return Ok(StatusCode::OK);
        }
        anyhow::bail!("it is neither httpGet nor tcpSocket")
    }
}

async fn get(
    host: IpAddr,
    port: u16,
    path: &str,
    headers: &[Header],
    limit: usize,
) -> anyhow::Result<(StatusCode, bytes::Bytes)> {
    let stream = TcpStream::connect(crate::socket::served((host, port).into())).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = Request::get(path).body(Empty::<bytes::Bytes>::new())?;
    let authority = HeaderValue::from_str(&format!("{host}:{port}"))?;
    request.headers_mut().insert(header::HOST, authority);
    let agent = HeaderValue::from_static("kube-probe/1.0");
    request.headers_mut().insert(header::USER_AGENT, agent);
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes())?;
        let value = HeaderValue::from_str(&header.value)?;
        request.headers_mut().insert(name, value);
    }
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests;
