//! The node's door: an HTTP proxy on each pod's address that knows the cluster's names.
//!
//! It stands in for DNS and kube-proxy. Requests in absolute form are sent on; `CONNECT` opens a
//! tunnel for everything else. There is one listener per pod, so the door knows who is calling: names are
//! resolved as in that pod's namespace, and connections leave from that pod's address.

use super::accept::accept;
use super::addresses::AddressPlan;
use super::dial::{carry, connect};
use super::endpoints::Endpoints;
use super::names::{Host, resolve};
use super::pass::{Body, Refusal, answer, pass};
use crate::runtime::privilege::bindable;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections that one pod may have open at its door.
const CONNECTIONS: usize = 512;
/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// The upstream ended the connection instead of answering: so does the door.
#[derive(Debug, thiserror::Error)]
#[error("the upstream ended the connection")]
struct Ended;

/// The door of one pod.
#[derive(Clone)]
pub struct Door {
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// What `localhost` means in the pod.
    pub loopback: Ipv4Addr,
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The cluster's addresses.
    pub plan: AddressPlan,
    /// Where Services lead.
    pub endpoints: Endpoints,
}

impl Door {
    /// Serves the door until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let who = format!("the door of {}", self.pod_ip);
        accept(listener, CONNECTIONS, who, shutdown, |stream, _| {
            let door = self.clone();
            async move { door.connection(stream).await }
        })
        .await;
    }

    async fn connection(&self, stream: TcpStream) {
        // a matter of speed alone
        let _ = stream.set_nodelay(true);
        let handle = stream.as_fd().try_clone_to_owned();
        let service = service_fn(|request| self.answer(request));
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(pod = %self.pod_ip, %error, "door connection ended");
            if error.is_user()
                && let Ok(handle) = handle
            {
                // closing it, which now resets the connection, is all that is left to do
                let _ = socket2::SockRef::from(&handle).set_linger(Some(Duration::ZERO));
            }
        }
    }

    /// Without a door a pod would have been the one whose connection ends.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Ended> {
        let result = if request.method() == Method::CONNECT {
            self.tunnel(request).await.map(Some)
        } else {
            self.forward(request).await
        };
        match result {
            Ok(answered) => answered.ok_or(Ended),
            Err(Refusal(status, why)) => Ok(answer(status, &why)),
        }
    }

    /// Where a request to `host` and `port` goes.
    async fn target(&self, host: &str, port: u16) -> Result<SocketAddr, Refusal> {
        match resolve(host, &self.namespace, self.plan, &self.endpoints) {
            Host::Service { namespace, name } => self
                .endpoints
                .next(&namespace, &name, port)
                .map_err(|error| Refusal(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
            Host::Loopback => Ok(SocketAddr::from((self.loopback, bindable(port)))),
            Host::Address(ip) if self.plan.is_pod(ip) => Ok(SocketAddr::from((ip, bindable(port)))),
            Host::Address(ip) => Ok(SocketAddr::from((ip, port))),
            Host::Refused(why) => Err(Refusal(StatusCode::BAD_GATEWAY, why)),
            Host::External(host) => {
                let bad = |why: String| Refusal(StatusCode::BAD_GATEWAY, why);
                let mut found = tokio::net::lookup_host((host.as_str(), port))
                    .await
                    .map_err(|error| bad(format!("looking up {host}: {error}")))?;
                let address = found
                    .next()
                    .ok_or_else(|| bad(format!("looking up {host}: no address")))?;
                // a name must not lead to what is kept from pods by address
                if address.ip().is_loopback() {
                    return Err(bad(format!("{host} is an address of this machine")));
                }
                Ok(address)
            }
        }
    }

    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        let target = self.target(host, port).await?;
        // what a pod says to itself comes from its loopback
        let from = if target.ip() == self.loopback {
            self.loopback
        } else {
            self.pod_ip
        };
        connect(from, target).await.map_err(|error| {
            let status = match error.kind() {
                io::ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            Refusal(
                status,
                format!("connecting to {host}:{port} ({target}): {error}"),
            )
        })
    }

    async fn tunnel(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let bad = || {
            Refusal(
                StatusCode::BAD_REQUEST,
                "CONNECT needs host:port".to_owned(),
            )
        };
        let authority = request.uri().authority().cloned().ok_or_else(bad)?;
        let port = authority.port_u16().ok_or_else(bad)?;
        let mut upstream = self.dial(authority.host(), port).await?;
        tokio::spawn(async move {
            match hyper::upgrade::on(request).await {
                Ok(client) => {
                    let carried = carry(&mut TokioIo::new(client), &mut upstream).await;
                    if let Err(error) = carried {
                        tracing::debug!(%authority, %error, "tunnel broken");
                    }
                }
                Err(error) => tracing::debug!(%authority, %error, "tunnel not opened"),
            }
        });
        Ok(Response::new(
            Full::new(Bytes::new())
                .map_err(|never: Infallible| match never {})
                .boxed(),
        ))
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Option<Response<Body>>, Refusal> {
        let uri = request.uri().clone();
        let Some(authority) = uri.authority().cloned() else {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "this is a proxy: send the request with an absolute URI".into(),
            ));
        };
        if uri.scheme_str() == Some("https") {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "https goes through CONNECT".into(),
            ));
        }
        let port = authority.port_u16().unwrap_or(80);
        let stream = self.dial(authority.host(), port).await?;
        // the authority of an absolute URI goes over whatever Host says (RFC 9112, 3.2.2)
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(HOST, host);
        }
        pass(stream, request, authority.as_str()).await
    }
}
