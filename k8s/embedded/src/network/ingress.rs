//! The edge for Ingress objects: one HTTP listener on 127.0.0.1 for all of them, whatever class they name.
//!
//! It is there while there are Ingresses. Its address stands in their status and in an event.
//! `spec.tls` is not carried out, and an event says so.

use super::accept::accept;
use super::addresses::AddressPlan;
use super::dial::connect;
use super::endpoints::Endpoints;
use super::pass::{Body, Refusal, answer, pass};
use crate::controllers::events::{EventType, Recorder};
use crate::controllers::replica_set::manager;
use crate::controllers::{ignore_races, keep};
use crate::informers::{Informers, key_of};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The port that is tried first; any other if it is taken.
const PORT: u16 = 8081;
/// Connections at once.
const CONNECTIONS: usize = 1024;
/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// Runs the edge until `shutdown`.
pub(super) async fn run(
    client: Client,
    informers: Informers,
    recorder: Recorder,
    endpoints: Endpoints,
    plan: AddressPlan,
    shutdown: &CancellationToken,
) {
    informers.synced().await;
    let changes = vec![informers.ingresses.changed()];
    let mut listening: Option<(SocketAddr, DropGuard)> = None;
    let edge = Edge {
        informers,
        endpoints,
        plan,
    };
    keep("ingress", changes, shutdown, async || {
        let all = edge.informers.ingresses.list();
        if all.is_empty() {
            listening = None;
            return Ok(None::<Duration>);
        }
        if listening.is_none() {
            match listen() {
                Ok((listener, address)) => {
                    let end = shutdown.child_token();
                    tokio::spawn(edge.clone().serve(listener, end.clone()));
                    listening = Some((address, end.drop_guard()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no port for the edge");
                    return Ok(Some(Duration::from_secs(3)));
                }
            }
        }
        if let Some((address, _)) = &listening {
            for ingress in all {
                tell(&client, &edge.informers, &recorder, &ingress, *address).await?;
            }
        }
        Ok(None)
    })
    .await;
}

fn listen() -> std::io::Result<(TcpListener, SocketAddr)> {
    let at = |port| super::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = at(PORT).or_else(|_| at(0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Writes the edge's address to an Ingress's status.
async fn tell(
    client: &Client,
    informers: &Informers,
    recorder: &Recorder,
    ingress: &Ingress,
    address: SocketAddr,
) -> Result<(), kube::Error> {
    let port = i32::from(address.port());
    let balancer = ingress
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let told = balancer
        .iter()
        .flat_map(|b| b.ingress.iter().flatten())
        .flat_map(|i| i.ports.iter().flatten())
        .any(|p| p.port == port);
    if told {
        return Ok(());
    }
    let message = format!("Served on http://{address}");
    recorder.record(ingress, EventType::Normal, "Sync", message);
    if ingress.spec.as_ref().is_some_and(|s| s.tls.is_some()) {
        let message =
            "field spec.tls is not carried out: the embedded cluster's edge speaks plain HTTP";
        recorder.record(ingress, EventType::Warning, "NotCarriedOut", message);
    }
    let (namespace, name) = key_of(ingress);
    let api: Api<Ingress> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({"status": {"loadBalancer": {"ingress": [{
        "ip": address.ip().to_string(),
        "ports": [{"port": port, "protocol": "TCP"}],
    }]}}});
    let written = api
        .patch_status(&name, &manager(), &Patch::Merge(patch))
        .await;
    if let Some(written) = ignore_races(written)? {
        informers.ingresses.apply(written);
    }
    Ok(())
}

#[derive(Clone)]
struct Edge {
    informers: Informers,
    endpoints: Endpoints,
    plan: AddressPlan,
}

impl Edge {
    async fn serve(self, listener: TcpListener, end: CancellationToken) {
        accept(listener, CONNECTIONS, "the edge", end, |stream, from| {
            let edge = self.clone();
            async move { edge.connection(stream, from).await }
        })
        .await;
    }

    async fn connection(&self, stream: TcpStream, from: SocketAddr) {
        // a matter of speed alone
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request| async {
            let answered = self.forward(request, from).await;
            let refused = |Refusal(status, why): Refusal| answer(status, &why);
            Ok::<_, Infallible>(answered.unwrap_or_else(refused))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection to the edge has ended");
        }
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        from: SocketAddr,
    ) -> Result<Response<Body>, Refusal> {
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let host = host
            .rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .to_lowercase();
        let ingresses = self.informers.ingresses.list();
        let Some((namespace, backend)) = route(&ingresses, &host, request.uri().path()) else {
            let why = "no Ingress has a rule for this host and path".to_owned();
            return Err(Refusal(StatusCode::NOT_FOUND, why));
        };
        let unavailable = |why: String| Refusal(StatusCode::SERVICE_UNAVAILABLE, why);
        let (service, port) = self.port(&namespace, &backend).map_err(unavailable)?;
        let endpoint = self
            .endpoints
            .next(&namespace, &service, port)
            .map_err(|error| unavailable(error.to_string()))?;
        let stream = connect(self.plan.node(), endpoint)
            .await
            .map_err(|error| Refusal(StatusCode::BAD_GATEWAY, format!("{endpoint}: {error}")))?;
        for (name, value) in [
            ("x-forwarded-for", from.ip().to_string()),
            ("x-forwarded-host", host),
            ("x-forwarded-proto", "http".to_owned()),
        ] {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        let answered = pass(stream, request, &service).await?;
        answered.ok_or_else(|| {
            let why = format!("{service}: the connection ended without an answer");
            Refusal(StatusCode::BAD_GATEWAY, why)
        })
    }

    /// A backend's Service and the number of its port.
    fn port(&self, namespace: &str, backend: &IngressBackend) -> Result<(String, u16), String> {
        let service = backend
            .service
            .as_ref()
            .ok_or("only backends of type service are served")?;
        let port = service.port.as_ref();
        let number = port.and_then(|p| p.number);
        let number = match (number, port.and_then(|p| p.name.as_deref())) {
            (Some(number), _) => Some(number),
            (None, Some(name)) => self
                .informers
                .services
                .get(namespace, &service.name)
                .and_then(|found| {
                    let ports = found.spec.as_ref()?.ports.as_ref()?;
                    let named = ports.iter().find(|p| p.name.as_deref() == Some(name))?;
                    Some(named.port)
                }),
            (None, None) => None,
        };
        let number = number.and_then(|n| u16::try_from(n).ok());
        let number = number
            .ok_or_else(|| format!("service {namespace}/{} has no such port", service.name))?;
        Ok((service.name.clone(), number))
    }
}

/// How well a rule fits: exact host over wildcard over none, then exact path over prefix, then length.
type Fit = (u8, bool, usize);

fn host_fit(rule: Option<&str>, host: &str) -> Option<u8> {
    match rule.filter(|rule| !rule.is_empty()) {
        None => Some(0),
        Some(rule) => match rule.strip_prefix("*.") {
            // a wildcard stands for one label
            Some(rest) => {
                let (label, of) = host.split_once('.')?;
                (!label.is_empty() && of.eq_ignore_ascii_case(rest)).then_some(1)
            }
            None => rule.eq_ignore_ascii_case(host).then_some(2),
        },
    }
}

fn path_fits(rule: &str, exact: bool, path: &str) -> bool {
    if exact {
        return rule == path;
    }
    let rule = rule.trim_end_matches('/');
    // element by element: /foo is a prefix of /foo/bar and not of /foobar
    path.strip_prefix(rule)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The backend for a host and path, with the namespace of its Ingress.
fn route(ingresses: &[Arc<Ingress>], host: &str, path: &str) -> Option<(String, IngressBackend)> {
    let mut best: Option<(Fit, String, IngressBackend)> = None;
    let mut default = None;
    for ingress in ingresses {
        let namespace = ingress.metadata.namespace.clone().unwrap_or_default();
        let Some(spec) = &ingress.spec else { continue };
        if let Some(backend) = &spec.default_backend {
            default.get_or_insert((namespace.clone(), backend.clone()));
        }
        for rule in spec.rules.iter().flatten() {
            let Some(host_fit) = host_fit(rule.host.as_deref(), host) else {
                continue;
            };
            for one in rule.http.iter().flat_map(|http| &http.paths) {
                let exact = one.path_type == "Exact";
                let wanted = one.path.as_deref().unwrap_or("/");
                let fit = (host_fit, exact, wanted.len());
                if path_fits(wanted, exact, path) && best.as_ref().is_none_or(|b| fit > b.0) {
                    best = Some((fit, namespace.clone(), one.backend.clone()));
                }
            }
        }
    }
    best.map(|(_, namespace, backend)| (namespace, backend))
        .or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(spec: serde_json::Value) -> Arc<Ingress> {
        let object = json!({"metadata": {"name": "i", "namespace": "demo"}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn path(path: &str, kind: &str, service: &str) -> serde_json::Value {
        json!({"path": path, "pathType": kind,
            "backend": {"service": {"name": service, "port": {"number": 80}}}})
    }

    #[test]
    fn the_most_particular_rule_counts() {
        let all = [
            ingress(json!({
                "defaultBackend": {"service": {"name": "rest", "port": {"number": 80}}},
                "rules": [
                    {"http": {"paths": [path("/", "Prefix", "any")]}},
                    {"host": "a.example", "http": {"paths": [
                        path("/", "Prefix", "a"),
                        path("/foo", "Prefix", "foo"),
                        path("/foo", "Exact", "exactly"),
                    ]}},
                ],
            })),
            ingress(json!({"rules": [
                {"host": "*.example", "http": {"paths": [path("/w", "ImplementationSpecific", "wild")]}},
            ]})),
        ];
        let to =
            |host: &str, path: &str| route(&all, host, path).map(|(_, b)| b.service.unwrap().name);
        assert_eq!(to("a.example", "/foo").unwrap(), "exactly");
        assert_eq!(to("a.example", "/foo/bar").unwrap(), "foo");
        assert_eq!(to("a.example", "/foobar").unwrap(), "a");
        assert_eq!(to("b.example", "/w/x").unwrap(), "wild");
        assert_eq!(to("b.example", "/v").unwrap(), "any");
        assert_eq!(to("c.b.example", "/w").unwrap(), "any");
        assert!(route(&all[1..], "other", "/").is_none());
    }
}
