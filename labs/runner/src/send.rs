//! Sending the requests that checks are about.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    check::{By, Request},
    cluster::{Cluster, loopback},
    language::Language,
};

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Status; 0 when the connection failed.
    pub status: u16,
    /// Headers; of several values the last.
    pub headers: BTreeMap<String, String>,
    /// Body; when the connection failed, why.
    pub body: String,
    /// From sending to the last byte.
    pub time: Duration,
}

impl Answer {
    /// What it is told apart by.
    pub fn key(&self, by: &By) -> String {
        match by {
            By::Status => self.status.to_string(),
            By::Time(limit) if self.time.as_secs_f64() >= limit.0 => "slow".into(),
            By::Time(_) => "fast".into(),
            By::Header(name) => self
                .headers
                .get(&name.to_ascii_lowercase())
                .cloned()
                .unwrap_or_else(|| "-".into()),
            By::Body(pattern) => match pattern.0.captures(&self.body) {
                Some(found) => found
                    .get(1)
                    .or(found.get(0))
                    .map_or("", |m| m.as_str())
                    .into(),
                None => "-".into(),
            },
        }
    }

    /// In a few words.
    pub fn in_short(&self, language: Language) -> String {
        let body: String = self
            .body
            .lines()
            .find(|l| !l.trim().is_empty())
            .unwrap_or("")
            .trim()
            .chars()
            .take(100)
            .collect();
        match self.status {
            0 => format!("{}: {body}", language.pick("no answer", "응답 없음")),
            status if (400..).contains(&status) && !body.is_empty() => {
                format!("{status} {body:?}")
            }
            status => status.to_string(),
        }
    }
}

/// A request that is ready to be sent any number of times.
pub struct Sender {
    http: reqwest::Client,
    method: reqwest::Method,
    url: String,
    headers: reqwest::header::HeaderMap,
    body: Option<String>,
}

impl Sender {
    /// Finds the pod that sends it, and logs in when the request has a session.
    ///
    /// # Errors
    /// When the pod is not there or has no way to send, or the login fails.
    pub async fn new(request: &Request, cluster: &Cluster) -> anyhow::Result<Self> {
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs_f64(request.patience.0));
        let url = if request.url.starts_with('/') {
            // As browsers and curl do by themselves; the system's resolver may not know such names.
            if let Some(host) = local_host(&cluster.gateway) {
                client = client.resolve(&host, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            }
            format!("{}{}", cluster.gateway, request.url)
        } else {
            if let Some(from) = &request.from {
                let pods = cluster.pods(&request.namespace, from).await?;
                let door = door(&pods[0]).with_context(|| {
                    format!(
                        "pod {} has no door to send from: requests from inside the mesh are checked on the embedded cluster",
                        pods[0].name_any()
                    )
                })?;
                client = client.proxy(reqwest::Proxy::http(door)?);
            }
            match &request.to {
                Some(to) => at_pod(
                    &request.url,
                    &cluster.pods(&request.namespace, to).await?[0],
                ),
                None => request.url.clone(),
            }
        };
        let http = client.build()?;
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in &request.headers {
            headers.insert(
                reqwest::header::HeaderName::from_bytes(name.as_bytes())?,
                value.parse()?,
            );
        }
        if let Some(host) = &request.host {
            headers.insert(reqwest::header::HOST, host.parse()?);
        }
        if let Some(session) = &request.session {
            let form = format!("{}{}", cluster.gateway, session.url);
            let mut login = http.post(&form).form(&session.form);
            if let Some(host) = &request.host {
                login = login.header(reqwest::header::HOST, host);
            }
            let answer = login.send().await.with_context(|| form.clone())?;
            let cookies: Vec<String> = answer
                .headers()
                .get_all(reqwest::header::SET_COOKIE)
                .iter()
                .filter_map(|c| Some(c.to_str().ok()?.split(';').next()?.to_owned()))
                .collect();
            if cookies.is_empty() {
                bail!("{form} gave no session: {}", answer.status());
            }
            headers.insert(reqwest::header::COOKIE, cookies.join("; ").parse()?);
        }
        Ok(Self {
            http,
            method: request.method.as_deref().unwrap_or("GET").parse()?,
            url,
            headers,
            body: request.body.clone(),
        })
    }

    /// Sends it once.
    pub async fn send(&self) -> Answer {
        let begun = Instant::now();
        let mut request = self
            .http
            .request(self.method.clone(), &self.url)
            .headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let failed = |error: reqwest::Error| Answer {
            body: innermost(&error),
            time: begun.elapsed(),
            ..Answer::default()
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return failed(error),
        };
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        match response.text().await {
            Ok(body) => Answer {
                status,
                headers,
                body,
                time: begun.elapsed(),
            },
            Err(error) => failed(error),
        }
    }

    /// Sends it `times` times, some at a time, and gives the answers as they come.
    pub fn send_many(&self, times: u32, at_a_time: usize) -> impl Stream<Item = Answer> {
        stream::iter(0..times)
            .map(|_| self.send())
            .buffer_unordered(at_a_time.max(1))
    }
}

/// The host of a URL, if it is one below `localhost`.
fn local_host(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?;
    host.ends_with(".localhost").then(|| host.to_owned())
}

/// The URL with the pod's address for the host `pod`.
fn at_pod(url: &str, pod: &Pod) -> String {
    let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
    url.replacen("://pod", &format!("://{}", ip.unwrap_or("pod")), 1)
}

/// The way out of a pod: its sidecar, else the node's.
fn door(pod: &Pod) -> Option<String> {
    if let Some(loopback) = loopback(pod) {
        let port = pod
            .annotations()
            .get("embedded.meshdojo.dev/door")?
            .rsplit(':')
            .next()?;
        return Some(format!("http://{loopback}:{port}"));
    }
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?;
    ip.starts_with("127.").then(|| format!("http://{ip}:15099"))
}

/// What an error comes from in the end.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
