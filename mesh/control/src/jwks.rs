//! The keys of token issuers, fetched for the proxies and fetched again from time to time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{compile::keys_of, registry::Published, watch::Change};

/// Keys are fetched again after this: Istio's default.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// What could not be fetched is tried again after this.
const RETRY: Duration = Duration::from_secs(10);
/// Istio's limit when a rule says none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer.
const BYTES: usize = 1024 * 1024;

/// Follows the rules of the world and hands on the keys that they ask for.
pub(crate) async fn follow(
    mut versions: watch::Receiver<Arc<Published>>,
    to: mpsc::Sender<Change>,
) {
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let wanted = sources(&versions.borrow_and_update());
        due.retain(|source, _| wanted.contains_key(source));
        for (source, limit) in &wanted {
            if due.get(source).is_some_and(|due| *due > Instant::now()) {
                continue;
            }
            let fetched = timeout(*limit, keys(source)).await;
            let (keys, next) = match fetched
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {limit:?}")))
            {
                Ok(keys) => (Ok(keys.into()), REFRESH),
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::warn!(
                        "keys of {source}: {why}; until they are there no token of it is valid"
                    );
                    (Err(why), RETRY)
                }
            };
            if to.send(Change::Keys(source.clone(), keys)).await.is_err() {
                return;
            }
            due.insert(source.clone(), Instant::now() + next);
        }
        let first = due.values().min().copied();
        let wake = async {
            match first {
                Some(first) => tokio::time::sleep_until(first).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = versions.changed() => if changed.is_err() { return },
            () = wake => {}
        }
    }
}

/// Where the keys of all rules are, and how long fetching them may take.
fn sources(version: &Published) -> BTreeMap<String, Duration> {
    let world = version.compiler.world();
    let rules = world
        .request_authentications
        .values()
        .flat_map(|resource| &resource.spec.jwt_rules);
    rules
        .filter(|rule| rule.jwks.is_empty())
        .map(|rule| {
            (
                keys_of(rule),
                rule.timeout.map_or(TIMEOUT, |timeout| timeout.0),
            )
        })
        .collect()
}

/// The key set at an address; of an OpenID configuration, the one that it names.
async fn keys(source: &str) -> anyhow::Result<String> {
    let text = get(source).await?;
    if !source.ends_with("/.well-known/openid-configuration") {
        return checked(text);
    }
    let configuration: serde_json::Value = serde_json::from_str(&text)?;
    let uri = configuration["jwks_uri"].as_str();
    checked(get(uri.context("the OpenID configuration names no jwks_uri")?).await?)
}

fn checked(text: String) -> anyhow::Result<String> {
    let keys: serde_json::Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    ensure!(keys["keys"].is_array(), "the answer is not a key set");
    Ok(text)
}

async fn get(uri: &str) -> anyhow::Result<String> {
    let to: Uri = uri
        .parse()
        .with_context(|| format!("{uri:?} is not an address"))?;
    let host = to
        .host()
        .with_context(|| format!("{uri:?} names no host"))?
        .to_owned();
    let path = to
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let mut request = Request::get(&path);
    let response = match to.scheme_str() {
        Some("http") => {
            let proxy = std::env::var("http_proxy")
                .ok()
                .and_then(|proxy| proxy.parse::<Uri>().ok());
            let dial = proxy.as_ref().unwrap_or(&to);
            if proxy.is_some() {
                request = Request::get(uri);
            }
            let stream = connect(dial, 80).await?;
            send(stream, request, &to).await?
        }
        Some("https") => {
            let roots = rustls_native_certs::load_native_certs().certs;
            let mut store = rustls::RootCertStore::empty();
            store.add_parsable_certificates(roots);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(store)
                .with_no_client_auth();
            let stream = connect(&to, 443).await?;
            let name = rustls::pki_types::ServerName::try_from(host)?;
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await?;
            send(stream, request, &to).await?
        }
        _ => anyhow::bail!("{uri:?} is neither http:// nor https://"),
    };
    let status = response.status();
    ensure!(status.is_success(), "the answer is {status}");
    let body = Limited::new(response.into_body(), BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

async fn connect(to: &Uri, port: u16) -> anyhow::Result<TcpStream> {
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = to.port_u16().unwrap_or(port);
    TcpStream::connect((host, port))
        .await
        .with_context(|| format!("connecting to {host}:{port}"))
}

async fn send<S>(
    stream: S,
    request: http::request::Builder,
    to: &Uri,
) -> anyhow::Result<http::Response<hyper::body::Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let authority = to.authority().map_or("", |authority| authority.as_str());
    let request = request
        .header(header::HOST, authority)
        .body(Empty::<axum::body::Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
