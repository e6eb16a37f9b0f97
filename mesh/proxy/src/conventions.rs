//! The headers that a proxy puts on, keeps and takes off, whatever the route says. A sidecar trusts
//! the workloads around it; a gateway faces strangers.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mesh_config::TrafficDirection;

use crate::{
    downstream::Downstream,
    headers::{DECORATOR, X_FORWARDED_FOR, X_REQUEST_ID},
    tls::Peer,
};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Envoy's headers that control it; Istio's proxies trust no client with them.
const CONTROL: [&str; 19] = [
    "x-envoy-decorator-operation",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// What a gateway takes off beyond that.
const OF_PEERS: [&str; 3] = [
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
];

/// Makes the headers of a request fit to be sent on.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    direction: TrafficDirection,
    connection: &Downstream,
) {
    remove_hop_by_hop(headers);
    let client_cert = client_cert(headers, direction, connection.peer.as_ref());
    let gateway = direction == TrafficDirection::Gateway;
    take_off(headers, gateway);
    if let Some(client_cert) = client_cert {
        headers.insert(CLIENT_CERT, client_cert);
    }
    if gateway {
        let client = connection.remote.ip();
        let address = HeaderValue::from_str(&client.to_string()).expect("an address is ASCII");
        append_forwarded_for(headers, &address);
        headers.insert(X_EXTERNAL_ADDRESS, address);
    }
    if gateway || !headers.contains_key(&X_FORWARDED_PROTO) {
        let scheme = if gateway && connection.encrypted {
            "https"
        } else {
            "http"
        };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if gateway || !headers.contains_key(&X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, new_request_id(connection.worker.draw_bytes()));
    }
}

/// Removes what clients may not say.
pub(crate) fn take_off(headers: &mut HeaderMap, gateway: bool) {
    let taken_off = |name: &&HeaderName| is_controlled(name, gateway);
    if headers.keys().any(|name| taken_off(&name)) {
        let strip: Vec<HeaderName> = headers.keys().filter(taken_off).cloned().collect();
        for name in strip {
            headers.remove(name);
        }
    }
}

/// What is told of the client's certificate. Inbound, the client is a proxy of the mesh: what it was
/// told itself comes before. A gateway tells of strangers, and believes none of them.
fn client_cert(
    headers: &HeaderMap,
    direction: TrafficDirection,
    peer: Option<&Peer>,
) -> Option<HeaderValue> {
    let peer = peer?;
    match direction {
        TrafficDirection::Outbound => None,
        TrafficDirection::Gateway => Some(peer.client_cert_of_gateway.clone()),
        TrafficDirection::Inbound => Some(match headers.get(CLIENT_CERT) {
            None => peer.client_cert.clone(),
            Some(before) => {
                let own = peer.client_cert.as_bytes();
                let all = [before.as_bytes(), b",", own].concat();
                // Header values joined by a comma make a header value.
                HeaderValue::from_bytes(&all).unwrap_or_else(|_| peer.client_cert.clone())
            }
        }),
    }
}

fn is_controlled(name: &HeaderName, gateway: bool) -> bool {
    let name = name.as_str();
    name.starts_with("x-")
        && (CONTROL.contains(&name)
            || name == CLIENT_CERT.as_str()
            || (gateway && OF_PEERS.contains(&name)))
}

/// `http` or `https`, as `x-forwarded-proto` says when it says either.
pub(crate) fn scheme(headers: &HeaderMap) -> &'static str {
    match headers.get(&X_FORWARDED_PROTO) {
        Some(proto) if proto == "https" => "https",
        _ => "http",
    }
}

/// Adds an address to those that a request came through.
pub(crate) fn append_forwarded_for(headers: &mut HeaderMap, address: &HeaderValue) {
    let value = match headers.get(&X_FORWARDED_FOR) {
        None => address.clone(),
        Some(before) => {
            let mut all = before.as_bytes().to_vec();
            all.push(b',');
            all.extend_from_slice(address.as_bytes());
            // A header value and an address, joined by a comma, make a header value.
            HeaderValue::from_bytes(&all).unwrap_or_else(|_| address.clone())
        }
    };
    headers.insert(X_FORWARDED_FOR, value);
}

/// A UUID version 4. The version nibble later tells whether the request is traced.
fn new_request_id(random: [u8; 16]) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = uuid::Builder::from_random_bytes(random).into_uuid();
    id.as_hyphenated().encode_lower(&mut text);
    HeaderValue::from_bytes(&text).expect("a UUID is ASCII")
}

/// Takes off what concerns one connection only.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(listed) = headers.remove(header::CONNECTION) {
        let names = listed.to_str().unwrap_or("").split(',').map(str::trim);
        for name in names.filter(|name| !name.eq_ignore_ascii_case("te")) {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                headers.remove(name);
            }
        }
    }
    headers.remove(&KEEP_ALIVE);
    headers.remove(&PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::UPGRADE);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// Makes the headers of an answer fit to be sent back.
pub(crate) fn prepare_response(headers: &mut HeaderMap, direction: TrafficDirection) {
    remove_hop_by_hop(headers);
    headers.remove(crate::metadata::PEER_METADATA);
    headers.remove(crate::metadata::PEER_METADATA_ID);
    headers.remove(&DECORATOR);
    name_server(headers, direction);
}

/// `server`: the proxy's name instead of the application's.
pub(crate) fn name_server(headers: &mut HeaderMap, direction: TrafficDirection) {
    let server = match direction {
        TrafficDirection::Outbound => "envoy",
        TrafficDirection::Inbound | TrafficDirection::Gateway => "istio-envoy",
    };
    headers.insert(header::SERVER, HeaderValue::from_static(server));
}

/// Wire bytes of a header block, within a few bytes: what `istio_request_bytes` counts.
pub(crate) fn wire_bytes(headers: &HeaderMap) -> u64 {
    let lines = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    lines.sum::<usize>() as u64
}
