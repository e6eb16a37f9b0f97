//! Requests to the API server, its warnings and its refusals.

use std::{fmt, path::Path};

use anyhow::Context;
use futures::{AsyncBufRead, AsyncBufReadExt, Stream, StreamExt};
use http::{Request, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::WatchEvent,
};
use serde_json::Value;

use super::Place;

/// Objects as they are.
pub const OBJECTS: &str = "application/json";
/// Objects as rows with the server's own columns; as objects where it has none.
pub const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// Under this name fields are owned.
pub const FIELD_MANAGER: &str = "meshdojo-kubectl";

/// By it a server knows that a person types.
const USER_AGENT: &str = concat!("kubectl/meshdojo-", env!("CARGO_PKG_VERSION"));

/// A cluster's API server.
pub struct Server {
    /// The client that asks it.
    pub client: Client,
    /// The namespace that is worked in.
    pub namespace: String,
    /// Whether it was named on the command line.
    pub namespace_given: bool,
    host: String,
}

/// Why the server did not do it, in kubectl's words.
#[derive(Debug)]
pub struct Refusal {
    /// What the server said.
    pub status: Box<Status>,
    /// What was being done: `creating "a.yaml"`.
    doing: Option<String>,
}

impl Refusal {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status.code == Some(404)
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.status.reason.as_deref().unwrap_or_default();
        let details = self.status.details.as_ref();
        let causes = details
            .and_then(|d| d.causes.as_deref())
            .unwrap_or_default();
        if let ("Invalid", Some(details), false) = (reason, details, causes.is_empty()) {
            let kind = details.kind.as_deref().unwrap_or_default();
            let name = details.name.as_deref().unwrap_or_default();
            write!(f, "The {kind} {name:?} is invalid: ")?;
            let line = |cause: &k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause| {
                let field = cause.field.as_deref().unwrap_or_default();
                let message = cause.message.as_deref().unwrap_or_default();
                if field.is_empty() {
                    message.to_owned()
                } else {
                    format!("{field}: {message}")
                }
            };
            if let [one] = causes {
                return f.write_str(&line(one));
            }
            return causes
                .iter()
                .try_for_each(|cause| write!(f, "\n* {}", line(cause)));
        }
        f.write_str("Error from server")?;
        if !reason.is_empty() {
            write!(f, " ({reason})")?;
        }
        f.write_str(": ")?;
        if let Some(doing) = &self.doing {
            write!(f, "error when {doing}: ")?;
        }
        f.write_str(self.status.message.as_deref().unwrap_or("no reason given"))
    }
}

/// Says what was being done when the server refused.
pub fn when<T>(outcome: anyhow::Result<T>, doing: &str, source: &str) -> anyhow::Result<T> {
    outcome.map_err(|error| match error.downcast::<Refusal>() {
        Ok(refusal) => Refusal {
            doing: Some(format!("{doing} {source:?}")),
            ..refusal
        }
        .into(),
        Err(error) => error,
    })
}

/// Whether the server said that the object is not there.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Refusal>()
        .is_some_and(Refusal::is_not_found)
}

impl Server {
    /// Finds the cluster: `--kubeconfig`, else `KUBECONFIG`, else the embedded cluster.
    ///
    /// # Errors
    /// When there is none, or the file or its context cannot be read.
    pub async fn connect(place: &Place, embedded: &Path) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: place.context.clone(),
            ..KubeConfigOptions::default()
        };
        let by_environment = std::env::var_os("KUBECONFIG").is_some_and(|v| !v.is_empty());
        let read = match &place.kubeconfig {
            Some(file) => Kubeconfig::read_from(file)
                .with_context(|| format!("reading {}", file.display()))?,
            None if by_environment => Kubeconfig::from_env()?.unwrap_or_default(),
            None if embedded.exists() => Kubeconfig::read_from(embedded)?,
            None => Kubeconfig::read().context(
                "no cluster: start one with `meshdojo up`, or set KUBECONFIG or --kubeconfig",
            )?,
        };
        let mut config = Config::from_custom_kubeconfig(read, &options).await?;
        // A loopback address is never behind a proxy.
        if config.cluster_url.host() == Some("127.0.0.1") {
            config.proxy_url = None;
        }
        if place.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&place.impersonate);
        }
        if !place.groups.is_empty() {
            config.auth_info.impersonate_groups = Some(place.groups.clone());
        }
        let host = config
            .cluster_url
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let namespace = place
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            namespace,
            namespace_given: place.namespace.is_some(),
            host,
        })
    }

    /// The object or list at a path.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, OBJECTS, None).await
    }

    /// The same in the form that `accept` asks for.
    pub async fn get_as(&self, path: &str, accept: &str) -> anyhow::Result<Value> {
        self.call("GET", path, accept, None).await
    }

    /// Makes an object.
    pub async fn post(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let query = format!("{path}{separator}fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let body = ("application/json", object);
        self.call("POST", &query, OBJECTS, Some(body)).await
    }

    /// Changes an object; `form` is the media type of the patch.
    pub async fn patch(&self, path: &str, form: &str, patch: &Value) -> anyhow::Result<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let query = format!("{path}{separator}fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        self.call("PATCH", &query, OBJECTS, Some((form, patch)))
            .await
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str, options: &Value) -> anyhow::Result<Value> {
        let body = ("application/json", options);
        self.call("DELETE", path, OBJECTS, Some(body)).await
    }

    /// The changes below a path, from now on.
    pub async fn watch(
        &self,
        path: &str,
        accept: &str,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<WatchEvent<Value>>> + use<>> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let request = Request::get(format!("{path}{separator}watch=true"))
            .header(header::ACCEPT, accept)
            // Each event is to come at once and not when a block is full.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Vec::new())?;
        let stream = self.client.request_stream(request).await;
        let stream = stream.map_err(|error| self.refused(error))?;
        let event = |line: std::io::Result<String>| Ok(serde_json::from_str(&line?)?);
        Ok(stream.lines().map(event))
    }

    /// What is printed at a path, as it comes.
    pub async fn stream(&self, path: &str) -> anyhow::Result<impl AsyncBufRead + use<>> {
        let request = Request::get(path).body(Vec::new())?;
        let stream = self.client.request_stream(request).await;
        stream.map_err(|error| self.refused(error))
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> anyhow::Result<Value> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, USER_AGENT);
        let bytes = match body {
            Some((form, value)) => {
                request = request.header(header::CONTENT_TYPE, form);
                serde_json::to_vec(value)?
            }
            None => Vec::new(),
        };
        let answer = self.client.send(request.body(Body::from(bytes))?).await;
        let answer = answer.map_err(|error| self.refused(error))?;
        for warning in answer.headers().get_all(header::WARNING) {
            if let Some(text) = warning.to_str().ok().and_then(warning_text) {
                eprintln!("Warning: {text}");
            }
        }
        let well = answer.status().is_success();
        let bytes = answer.into_body().collect_bytes().await?;
        if well {
            return serde_json::from_slice(&bytes).context("the server's answer");
        }
        Err(Refusal {
            status: serde_json::from_slice(&bytes)
                .with_context(|| String::from_utf8_lossy(&bytes).into_owned())?,
            doing: None,
        }
        .into())
    }

    /// An error of the client in kubectl's words.
    pub fn refused(&self, error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => {
                let status = serde_json::to_value(&*status)
                    .and_then(serde_json::from_value::<Status>)
                    .unwrap_or_default();
                Refusal {
                    status: Box::new(status),
                    doing: None,
                }
                .into()
            }
            kube::Error::Service(_) | kube::Error::HyperError(_) => anyhow::anyhow!(
                "the connection to the server {} was refused - is the cluster running? `meshdojo status` tells, `meshdojo up` starts it ({error})",
                self.host
            ),
            error => error.into(),
        }
    }
}

/// The text of a Warning header: `299 - "text"`.
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1;
    let text = &quoted[..quoted.rfind('"')?];
    Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: Value) -> Refusal {
        Refusal {
            status: serde_json::from_value(status).unwrap(),
            doing: None,
        }
    }

    #[test]
    fn refusals_are_in_kubectls_words() {
        let not_found = refusal(
            json!({ "reason": "NotFound", "code": 404, "message": "pods \"a\" not found" }),
        );
        assert_eq!(
            not_found.to_string(),
            "Error from server (NotFound): pods \"a\" not found"
        );
        let told = when::<()>(Err(not_found.into()), "deleting", "a.yaml").unwrap_err();
        assert!(is_not_found(&told));
        assert_eq!(
            told.to_string(),
            "Error from server (NotFound): error when deleting \"a.yaml\": pods \"a\" not found"
        );
        let causes = json!([
            { "field": "spec.a", "message": "Required value" },
            { "field": "spec.b", "message": "Invalid value" },
        ]);
        let mut invalid = json!({ "reason": "Invalid", "code": 422, "message": "m",
            "details": { "kind": "Pod", "name": "x", "causes": causes } });
        assert_eq!(
            refusal(invalid.clone()).to_string(),
            "The Pod \"x\" is invalid: \n* spec.a: Required value\n* spec.b: Invalid value"
        );
        invalid["details"]["causes"].as_array_mut().unwrap().pop();
        assert_eq!(
            refusal(invalid).to_string(),
            "The Pod \"x\" is invalid: spec.a: Required value"
        );
    }

    #[test]
    fn warnings_are_unquoted() {
        assert_eq!(
            warning_text(r#"299 - "did you mean \"a\"?""#).unwrap(),
            "did you mean \"a\"?"
        );
        assert_eq!(warning_text("299"), None);
    }
}
