//! `/explain`: how a request would be routed, by what routes requests. Nothing is sent.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use mesh_config::{
    self as model, Accept, ClusterState, EndpointState, Explanation, Outcome, Rule, TcpCluster,
    TrafficDirection, Verdict,
};

use super::query::Query;
use crate::{
    config::{Cluster, Config, Destination, Filter, Http, Listener, RequestView, Tcp},
    conventions, door, path,
    serve::Page,
    sni::Hello,
};

/// `?method=GET&url=http://reviews:9080/&header=name:value&header=...&address=IP`. The address is what
/// a client on a redirected network has resolved the name to.
pub(super) fn page(config: &Config, query: &Query<'_>) -> Page {
    match Asked::parse(query).and_then(|asked| explain(config, &asked)) {
        Ok(explanation) => Page::json(&serde_json::json!(explanation)),
        Err(why) => Page::text(why + "\n").status(StatusCode::BAD_REQUEST),
    }
}

/// The request that is asked about.
struct Asked {
    method: Method,
    encrypted: bool,
    authority: String,
    destination: Destination,
    path: String,
    query: String,
    headers: HeaderMap,
    address: Option<String>,
}

impl Asked {
    fn parse(query: &Query<'_>) -> Result<Self, String> {
        let url = query
            .get("url")
            .ok_or("say what: ?url=http://HOST:PORT/PATH")?;
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("url {url:?}: {error}"))?;
        let encrypted = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => {
                return Err(format!(
                    "url {url:?} begins with neither http:// nor https://"
                ));
            }
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let default_port = if encrypted { 443 } else { 80 };
        let destination = door::parse(authority, default_port)
            .filter(|to| !to.host.is_empty())
            .ok_or_else(|| format!("url {url:?} names no host, or a bad port"))?;
        let method = query.get("method").unwrap_or_else(|| "GET".into());
        let mut asked = Self {
            method: method
                .parse()
                .map_err(|_| format!("bad method {method:?}"))?,
            encrypted,
            authority: authority.into(),
            destination,
            path: uri.path().into(),
            query: uri.query().unwrap_or_default().into(),
            headers: HeaderMap::new(),
            address: query.get("address"),
        };
        for (_, line) in query.pairs().filter(|(name, _)| name == "header") {
            asked.add(&line)?;
        }
        Ok(asked)
    }

    /// Adds a header, `NAME: VALUE`. `Host` takes the place of the URL's.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let bad = || format!("header {line:?} is not of the form NAME: VALUE");
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
        let value: HeaderValue = value.trim().parse().map_err(|_| bad())?;
        if name == http::header::HOST {
            self.authority = value.to_str().map_err(|_| bad())?.into();
        } else {
            self.headers.append(name, value);
        }
        Ok(())
    }

    /// How the connection begins.
    fn hello(&self) -> Hello {
        match self.encrypted {
            false => Hello::default(),
            true => Hello {
                tls: true,
                server_name: self.destination.host.to_string(),
                alpn: [&b"h2"[..], b"http/1.1"].map(Into::into).into(),
            },
        }
    }
}

fn explain(config: &Config, asked: &Asked) -> Result<Explanation, String> {
    if door::is_loopback(&asked.destination) {
        return Err("localhost is the pod itself: no rule of the mesh is asked".into());
    }
    let (name, listener) = listener_of(config, asked)?;
    let told = match (listener.accept, &asked.address) {
        (Accept::Direct, _) => None,
        (Accept::Redirected, Some(address)) => Some(Destination {
            host: address.as_str().into(),
            port: asked.destination.port,
        }),
        _ => Some(asked.destination.clone()),
    };
    let chain = listener.find(told.as_ref(), Some(&asked.hello()));
    // TLS that does not end here is bytes.
    let bytes = chain.is_some_and(|chain| asked.encrypted && chain.tls.is_none());
    let mut clusters = Vec::new();
    let (guarded, outcome) = match chain.map(|chain| &chain.filter) {
        None => (false, Outcome::Closed),
        Some(Filter::Tcp(tcp)) => (false, of_tcp(tcp, &mut clusters)),
        Some(Filter::Sniff(_, tcp)) if bytes => (false, of_tcp(tcp, &mut clusters)),
        Some(Filter::Http(_)) if bytes => (false, Outcome::Closed),
        Some(Filter::Http(http) | Filter::Sniff(http, _)) => {
            let gateway = listener.direction == TrafficDirection::Gateway;
            (
                http.gate.is_some(),
                of_http(http, asked, gateway, &mut clusters)?,
            )
        }
    };
    Ok(Explanation {
        listener: name.into(),
        address: listener.address,
        filter_chain: chain.map(|chain| chain.name.to_string()),
        guarded,
        outcome,
        clusters: clusters.iter().map(|name| state(config, name)).collect(),
    })
}

/// The one listener for all that leaves a pod; of a gateway, that of the port.
fn listener_of<'a>(config: &'a Config, asked: &Asked) -> Result<(&'a str, &'a Listener), String> {
    let listeners = || {
        config
            .listeners
            .iter()
            .map(|(name, it)| (name.as_str(), &**it))
    };
    let outbound = |(_, it): &(&str, &Listener)| it.direction == TrafficDirection::Outbound;
    if let Some(found) = listeners().find(outbound) {
        return Ok(found);
    }
    let gateway = || listeners().filter(|(_, it)| it.direction == TrafficDirection::Gateway);
    let port = asked.destination.port;
    // A gateway that may not listen on a low port listens on another for it.
    let ports = [port, if port < 1024 { port + 8000 } else { port }];
    let of_port = |wanted| gateway().find(|(_, it)| it.address.port() == wanted);
    ports.into_iter().find_map(of_port).ok_or_else(|| {
        let mut open: Vec<u16> = gateway().map(|(_, it)| it.address.port()).collect();
        open.sort_unstable();
        format!("no listener takes port {port}; there are {open:?}")
    })
}

fn of_tcp(tcp: &Tcp, clusters: &mut Vec<String>) -> Outcome {
    let named = |(cluster, weight): &(Arc<Cluster>, u32)| TcpCluster {
        name: cluster.name.to_string(),
        weight: *weight,
    };
    let split: Vec<TcpCluster> = tcp.clusters.iter().map(named).collect();
    clusters.extend(split.iter().map(|to| to.name.clone()));
    Outcome::Tcp(split)
}

fn of_http(
    http: &Http,
    asked: &Asked,
    gateway: bool,
    clusters: &mut Vec<String>,
) -> Result<Outcome, String> {
    let mut headers = asked.headers.clone();
    conventions::take_off(&mut headers, gateway);
    let path = path::normalize(&asked.path);
    let path: Cow<'_, str> = path.ok_or("the path holds an escaped zero byte: 400")?;
    let view = RequestView {
        method: &asked.method,
        scheme: match gateway && asked.encrypted {
            true => "https",
            false => conventions::scheme(&headers),
        },
        authority: &asked.authority,
        path: &path,
        query: &asked.query,
        headers: &headers,
        claims: None,
    };
    let table = http.table.as_ref();
    let host = table.and_then(|table| table.virtual_host(view.authority));
    let mut rules = Vec::new();
    let mut reached = true;
    for (from, route) in host
        .iter()
        .flat_map(|(from, routes)| from.routes.iter().zip(*routes))
    {
        let verdict = match route.matcher.failed(&view) {
            _ if !reached => Verdict::NotReached,
            None => Verdict::Matched,
            Some(condition) => Verdict::Failed {
                condition,
                seen: route.matcher.seen(condition, &view),
            },
        };
        if verdict == Verdict::Matched {
            reached = false;
            if let model::RouteAction::Forward(forward) = &from.action {
                let targets = forward.clusters.iter().map(|to| to.name.clone());
                let mirrors = forward.mirrors.iter().map(|to| to.cluster.clone());
                clusters.extend(targets.chain(mirrors));
            }
        }
        rules.push(Rule {
            route: from.clone(),
            verdict,
        });
    }
    Ok(Outcome::Http {
        route_table: table.map(|table| table.name.to_string()),
        virtual_host: host.map(|(from, _)| from.name.clone()),
        domains: host.map_or_else(Vec::new, |(from, _)| from.domains.clone()),
        rules,
    })
}

/// A cluster with its hosts, as requests see them now.
fn state(config: &Config, name: &str) -> ClusterState {
    let cluster = config
        .clusters
        .iter()
        .find(|cluster| *cluster.name == *name);
    let members = cluster.and_then(|cluster| cluster.members.load_full());
    let assignment = config.snapshot.endpoints.get(name);
    let told = assignment.map_or(&[][..], |assignment| &assignment.endpoints);
    let hosts = members.iter().flat_map(|members| &members.hosts);
    let endpoints = hosts.map(|host| {
        let told = told
            .iter()
            .find(|endpoint| endpoint.address == host.address);
        let workload = told.map(|told| told.workload.clone()).unwrap_or_default();
        EndpointState {
            endpoint: model::Endpoint {
                health: host.health,
                in_mesh: host.in_mesh,
                weight: host.weight,
                locality: host.locality.clone(),
                priority: host.priority,
                locality_weight: host.locality_weight,
                mutual_tls: host.mutual_tls,
                ..model::Endpoint::new(host.address, workload)
            },
            ejected: host.monitor.is_ejected(),
        }
    });
    ClusterState {
        name: name.into(),
        endpoints: endpoints.collect(),
        cluster: members.as_ref().map(|members| members.config.clone()),
    }
}

#[cfg(test)]
mod tests;
