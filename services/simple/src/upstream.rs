//! Calls to other services.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::bail;
use axum::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHORIZATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, Method};
use dojo_kit::client::{self, Answer, Call, CallError};
use futures::stream::{self, StreamExt as _};

use crate::call_tree::CallTree;
use crate::grpc;

/// The most services that are called.
const MAX_UPSTREAMS: usize = 64;
/// Headers of the request that belong to its connection or its body, and not to the calls made.
const NOT_PASSED_ON: [HeaderName; 12] = [
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    EXPECT,
    ACCEPT_ENCODING,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
];

/// Whose form answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Up to 0.14: errors do not say which status was expected, and have no headers.
    #[value(name = "0.14")]
    V014,
    /// 0.17: calls are a list.
    #[value(name = "0.17")]
    V017,
    /// From 0.18 on: calls are an object by address, and the path is a field.
    #[value(name = "0.18")]
    V018,
}

/// Which services are called, and how.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Their addresses, as configured.
    pub uris: Vec<String>,
    /// How many are called at a time. 1: the first failure ends it.
    pub workers: usize,
    /// How long a call may take, to the end of its answer.
    pub timeout: Duration,
    /// Whether the path and the headers of the request go into the calls.
    pub append_request: bool,
    /// The body of calls.
    pub body: String,
    /// Or a body of so many bytes.
    pub size: u64,
    /// By how many per cent that varies.
    pub size_variance: u8,
    /// Whose form errors have.
    pub form: Form,
    /// Where calls over gRPC leave from.
    pub source: Option<IpAddr>,
}

impl Upstreams {
    /// Reads a list of addresses.
    ///
    /// # Errors
    /// When one of them is not an address that can be called.
    pub fn parse(text: &str) -> anyhow::Result<Vec<String>> {
        let uris: Vec<String> = text
            .split(',')
            .map(|uri| uri.trim().to_owned())
            .filter(|uri| !uri.is_empty())
            .collect();
        for uri in &uris {
            let Ok(url) = reqwest::Url::parse(uri) else {
                bail!("UPSTREAM_URIS: `{uri}` is not an address like http://simple-backend:80/");
            };
            let known = matches!(url.scheme(), "http" | "grpc");
            if !known || url.host_str().is_none_or(str::is_empty) {
                bail!(
                    "UPSTREAM_URIS: `{uri}`: only http:// and grpc:// can be called (TLS is the mesh's work)"
                );
            }
            if url.scheme() == "grpc" && url.port().is_none() {
                bail!("UPSTREAM_URIS: `{uri}` has no port; write grpc://simple-backend:8080");
            }
        }
        if uris.len() > MAX_UPSTREAMS {
            bail!("UPSTREAM_URIS: more than {MAX_UPSTREAMS} addresses");
        }
        Ok(uris)
    }

    /// Calls them all; each with what came of it. False: a call failed.
    pub async fn call(
        &self,
        client: &reqwest::Client,
        path: &str,
        headers: &HeaderMap,
    ) -> (Vec<(String, CallTree)>, bool) {
        // A call begins when it is polled, so those after a failure are never made.
        let calls: Vec<_> = self
            .uris
            .iter()
            .map(|uri| self.call_one(client, uri, path, headers))
            .collect();
        let mut calls = stream::iter(calls).buffered(self.workers);
        let (mut trees, mut well) = (Vec::new(), true);
        for uri in &self.uris {
            let Some((tree, succeeded)) = calls.next().await else {
                break;
            };
            trees.push((uri.clone(), tree));
            well &= succeeded;
            if !well && self.workers == 1 {
                break;
            }
        }
        (trees, well)
    }

    async fn call_one(
        &self,
        client: &reqwest::Client,
        uri: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> (CallTree, bool) {
        if uri.starts_with("grpc://") {
            return self.call_grpc(uri, headers).await;
        }
        let address = if self.append_request {
            format!("{uri}{path}")
        } else {
            uri.to_owned()
        };
        tracing::info!("Calling upstream service: uri={address}");
        let answer = match self.ask(client, &address, headers).await {
            Ok(answer) => answer,
            Err(reason) => {
                let error = format!("Error communicating with upstream service: {reason}");
                tracing::error!("Error handling request: {error}");
                let mut tree = CallTree::default();
                tree.set("uri", uri);
                tree.set("code", -1);
                tree.set("error", error);
                return (tree, false);
            }
        };
        let code = answer.status.as_u16();
        let mut tree = CallTree::read(&answer.body);
        tree.set("uri", uri);
        tree.set("code", code);
        if code == 200 {
            tree.set_headers(&answer.headers);
            return (tree, true);
        }
        let mut error = format!("Error processing upstream request: {address}");
        if self.form != Form::V014 {
            tree.set_headers(&answer.headers);
            error.push_str(&format!(", expected code 200, got {code}"));
        }
        tracing::error!("Error handling request: {error}");
        tree.set("error", error);
        (tree, false)
    }

    async fn call_grpc(&self, uri: &str, headers: &HeaderMap) -> (CallTree, bool) {
        tracing::info!("Calling upstream service: uri={uri}");
        let body = self.body_of_call();
        let called = grpc::call(
            uri,
            self.passed_on(headers),
            body,
            self.timeout,
            self.source,
        );
        match called.await {
            Ok((message, headers)) => {
                let mut tree = CallTree::read(message.as_bytes());
                tree.set("uri", uri);
                tree.set("code", 0);
                tree.set_headers(&headers);
                (tree, true)
            }
            Err(status) => {
                tracing::error!("Error handling request: {status}");
                // A service that failed says how; a mesh that did has only its words.
                let mut tree = CallTree::read(status.message.as_bytes());
                tree.set("uri", uri);
                tree.set("code", status.code);
                tree.set(
                    "error",
                    format!("Error communicating with upstream service: {status}"),
                );
                (tree, false)
            }
        }
    }

    /// The headers that go from the request into the calls.
    fn passed_on(&self, headers: &HeaderMap) -> HeaderMap {
        if !self.append_request {
            return HeaderMap::new();
        }
        let mut passed_on = headers.clone();
        for name in &NOT_PASSED_ON {
            passed_on.remove(name);
        }
        passed_on
    }

    async fn ask(
        &self,
        client: &reqwest::Client,
        address: &str,
        headers: &HeaderMap,
    ) -> Result<Answer, CallError> {
        // The original's own server would answer a double slash with a redirect to a single one.
        let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
        let mut rest = rest.to_owned();
        while rest.contains("//") {
            rest = rest.replace("//", "/");
        }
        let address = format!("{scheme}://{rest}");
        let with_body = !self.body.is_empty() || self.size > 0;
        let call = Call {
            method: if with_body { Method::POST } else { Method::GET },
            url: &address,
            headers: self.passed_on(headers),
            body: with_body.then(|| self.body_of_call().into()),
            limit: self.timeout,
        };
        client::call(client, call).await
    }

    fn body_of_call(&self) -> String {
        if !self.body.is_empty() {
            return self.body.clone();
        }
        let share = f64::from(self.size_variance) / 100.0 * rand::random::<f64>();
        // At most a mebibyte more or less, so the cast loses nothing.
        "x".repeat((self.size as f64 * (1.0 + share)) as usize)
    }
}
