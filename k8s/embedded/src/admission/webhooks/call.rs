//! One HTTPS request to a webhook.

use crate::store::Store;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Largest answer of a webhook, in bytes.
const ANSWER_LIMIT: usize = 6 * 1024 * 1024;

/// Seconds that a webhook may take when its configuration says nothing.
const DEFAULT_TIMEOUT: u64 = 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It could not be reached, or its answer not be read.
    #[error("failed to call webhook: {0}")]
    Failed(String),
    /// It answered nonsense.
    #[error("{0}")]
    Invalid(String),
}

/// Where a webhook listens.
struct Destination {
    /// What to connect to: `127.16.0.3:15017`.
    address: String,
    /// The name that its certificate must have.
    host: String,
    /// `Host` of the request.
    authority: String,
    path: String,
}

/// Posts a review and returns the answer.
pub(super) async fn call(
    store: &Store,
    webhook: &Value,
    review: &Value,
) -> Result<Value, CallError> {
    let seconds = webhook["timeoutSeconds"]
        .as_u64()
        .unwrap_or(DEFAULT_TIMEOUT);
    let mut url = url(&webhook["clientConfig"]);
    url.push_str(&format!(
        "{}timeout={seconds}s",
        if url.contains('?') { "&" } else { "?" }
    ));
    let failed = |why: String| CallError::Failed(format!("Post {url:?}: {why}"));
    let destination = destination(store, &webhook["clientConfig"], &url).map_err(failed)?;
    let answer = post(&destination, &webhook["clientConfig"]["caBundle"], review);
    let body = tokio::time::timeout(Duration::from_secs(seconds), answer)
        .await
        .map_err(|_| failed("context deadline exceeded".into()))?
        .map_err(|error| match error {
            // a complete answer that is no success has no URL in its message
            CallError::Failed(why) => failed(why),
            error => error,
        })?;
    serde_json::from_slice(&body).map_err(|error| {
        CallError::Failed(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })
}

/// The URL of a webhook, as messages name it.
fn url(config: &Value) -> String {
    if let Some(url) = config["url"].as_str() {
        return url.to_owned();
    }
    let service = &config["service"];
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    let port = service["port"].as_u64().unwrap_or(443);
    format!(
        "https://{}.{}.svc:{port}/{}",
        text("name"),
        text("namespace"),
        text("path").trim_start_matches('/')
    )
}

fn destination(store: &Store, config: &Value, url: &str) -> Result<Destination, String> {
    let uri: http::Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    if uri.scheme_str() != Some("https") {
        return Err("'https' is the only allowed URL scheme".into());
    }
    let host = uri.host().unwrap_or_default().to_owned();
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let address = match config["service"].is_object() {
        true => endpoint(store, &config["service"])?,
        false => format!("{host}:{}", uri.port_u16().unwrap_or(443)),
    };
    Ok(Destination {
        address,
        host,
        authority,
        path,
    })
}

/// A ready endpoint of a service's port.
fn endpoint(store: &Store, reference: &Value) -> Result<String, String> {
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    let number = reference["port"].as_u64().unwrap_or(443);
    let service = store
        .get("core/services", namespace, name)
        .ok_or_else(|| format!("service {name:?} not found"))?
        .value();
    let port = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|port| port["port"] == number)
        .ok_or_else(|| format!("no service port {number} found for service {name:?}"))?;
    let port_name = port["name"].as_str().unwrap_or_default();
    let (slices, _) = store.list("discovery.k8s.io/endpointslices", Some(namespace));
    for slice in slices {
        let slice = slice.value();
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let target = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|port| port["name"].as_str().unwrap_or_default() == port_name)
            .and_then(|port| port["port"].as_u64());
        let address = slice["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|endpoint| endpoint["conditions"]["ready"] != false)
            .and_then(|endpoint| endpoint["addresses"][0].as_str());
        if let (Some(address), Some(target)) = (address, target) {
            return Ok(format!("{address}:{target}"));
        }
    }
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    Err(format!(
        "dial tcp {address}:{number}: connect: connection refused"
    ))
}

async fn post(
    destination: &Destination,
    bundle: &Value,
    review: &Value,
) -> Result<Bytes, CallError> {
    let failed = CallError::Failed;
    let config = client_config(bundle).map_err(failed)?;
    let stream = TcpStream::connect(&destination.address)
        .await
        .map_err(|error| {
            failed(format!(
                "dial tcp {}: connect: {error}",
                destination.address
            ))
        })?;
    let name = ServerName::try_from(destination.host.clone())
        .map_err(|error| failed(error.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| failed(format!("tls: failed to verify certificate: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    // maps with string keys and plain values always serialize
    let body = serde_json::to_vec(review).unwrap_or_default();
    let request = Request::post(&destination.path)
        .header(header::HOST, &destination.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed(error.to_string()))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| failed(error.to_string()))?
            .to_bytes();
        match code.is_success() {
            true => Ok(body),
            false => Err(CallError::Invalid(format!(
                "failed to call webhook: an error on the server ({:?}) has prevented the request from succeeding",
                code.canonical_reason().unwrap_or("unknown")
            ))),
        }
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // the server closed after its answer
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error.to_string())),
        },
    }
}

/// Trusts the configuration's bundle, and nothing else.
fn client_config(bundle: &Value) -> Result<ClientConfig, String> {
    let bundle = bundle
        .as_str()
        .filter(|bundle| !bundle.is_empty())
        .ok_or("tls: failed to verify certificate: clientConfig.caBundle is empty")?;
    let pem = BASE64_STANDARD
        .decode(bundle)
        .map_err(|error| format!("caBundle: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("caBundle: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
