//! What is remembered of a request until it ends, and its record: statistics and access log.

mod entry;

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Instant};

use http::HeaderMap;
use mesh_config::TrafficDirection;

use crate::{
    access_log::{Record, protocol},
    config::{Cluster, Host},
    flags::Flags,
    grpc::Messages,
    request_body::Replayed,
    spans::{self, Span},
    stats::{
        HttpStats,
        istio::{HttpKey, PeerId, PrincipalId, Reporter, ServiceId},
    },
    tap::{self, Ends, Event},
    worker::Worker,
};

pub(crate) use entry::Entry;

/// One request and its response. Recorded when dropped, so no path ends silently.
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    started: Instant,
    direction: TrafficDirection,
    http: Arc<HttpStats>,
    /// The access log's copy of the request; `None` when nothing is logged.
    pub(crate) log: Option<Box<Entry>>,
    /// Of a traced request, when there is a collector.
    pub(crate) span: Option<Box<Span>>,
    /// Who called, on inbound.
    pub(crate) source: PeerId,
    /// Of the other side, where mutual TLS proved it.
    pub(crate) principal: PrincipalId,
    pub(crate) grpc: bool,
    /// 0: no answer was sent.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u8>,
    /// The gRPC status that a fault answers with.
    pub(crate) abort_grpc_status: Option<u32>,
    pub(crate) flags: Flags,
    pub(crate) details: Cow<'static, str>,
    /// Which arm of the route's split was drawn.
    pub(crate) target: usize,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) host: Option<Arc<Host>>,
    pub(crate) service: ServiceId,
    pub(crate) upstream_time_ms: Option<u64>,
    pub(crate) request_header_bytes: u64,
    pub(crate) request_body: Option<Replayed>,
    pub(crate) response_header_bytes: u64,
    pub(crate) response_body_bytes: u64,
    /// Of a gRPC call.
    pub(crate) response_messages: Messages,
    /// The whole answer was handed on.
    pub(crate) complete: bool,
    /// The answer has no body on the wire, whatever its headers say (HEAD, 204, 304, 101).
    pub(crate) bodiless: bool,
    /// Not a part of the mesh: the pod's own loopback.
    pub(crate) unobserved: bool,
}

impl Exchange {
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        direction: TrafficDirection,
        http: Arc<HttpStats>,
    ) -> Box<Self> {
        http.downstream_rq_total.add(1);
        http.downstream_rq_active.add(1);
        worker.active.set(worker.active.get() + 1);
        Box::new(Self {
            worker: worker.clone(),
            started: Instant::now(),
            direction,
            http,
            log: None,
            span: None,
            source: PeerId::UNKNOWN,
            principal: PrincipalId::NONE,
            grpc: false,
            status: 0,
            grpc_status: None,
            abort_grpc_status: None,
            flags: Flags::default(),
            details: Cow::Borrowed(""),
            target: 0,
            cluster: None,
            host: None,
            service: ServiceId::UNKNOWN,
            upstream_time_ms: None,
            request_header_bytes: 0,
            request_body: None,
            response_header_bytes: 0,
            response_body_bytes: 0,
            response_messages: Messages::default(),
            complete: false,
            bodiless: false,
            unobserved: false,
        })
    }

    pub(crate) fn direction(&self) -> TrafficDirection {
        self.direction
    }

    pub(crate) fn http(&self) -> &HttpStats {
        &self.http
    }

    /// The cluster of the route, unless there is none of that name.
    pub(crate) fn known_cluster(&self) -> Option<&Arc<Cluster>> {
        let known = |cluster: &&Arc<Cluster>| cluster.members.load().is_some();
        self.cluster.as_ref().filter(known)
    }

    pub(crate) fn note_grpc_status(&mut self, headers: &HeaderMap) {
        if self.grpc
            && let Some(value) = headers.get("grpc-status")
        {
            self.grpc_status = value.to_str().ok().and_then(|text| text.parse().ok());
        }
    }

    fn record(&mut self) {
        if !self.complete {
            self.flags.insert(Flags::DOWNSTREAM_CONNECTION_TERMINATION);
            self.details = "downstream_remote_disconnect".into();
            self.http.downstream_rq_rx_reset.add(1);
        }
        if self.unobserved {
            return;
        }
        self.http.downstream_rq_completed.add(1);
        self.http.downstream_rq.add(self.status);
        if let (Some(cluster), Some(_)) = (&self.cluster, &self.host)
            && !self.complete
            && self.status == 0
        {
            cluster.stats.upstream_rq_cancelled.add(1);
        }
        let received = self.request_body.as_ref().map_or(0, Replayed::received);
        self.http
            .downstream_cx_rx_bytes_total
            .add(self.request_header_bytes + received);
        self.http
            .downstream_cx_tx_bytes_total
            .add(self.response_header_bytes + self.response_body_bytes);
        if let (Some(cluster), Some(_)) = (&self.cluster, &self.host) {
            let sent = self.request_header_bytes + received;
            cluster.stats.upstream_cx_tx_bytes_total.add(sent);
            let got = self.response_header_bytes + self.response_body_bytes;
            cluster.stats.upstream_cx_rx_bytes_total.add(got);
        }
        let inbound = self.direction == TrafficDirection::Inbound;
        let upstream_peer = self.host.as_ref().map_or(PeerId::UNKNOWN, |host| host.peer);
        let series = self.worker.series(HttpKey {
            reporter: if inbound {
                Reporter::Destination
            } else {
                Reporter::Source
            },
            peer: if inbound { self.source } else { upstream_peer },
            principal: self.principal,
            service: self.service,
            grpc: self.grpc,
            status: self.status,
            grpc_status: self.grpc_status,
            flags: self.flags,
        });
        let elapsed = self.started.elapsed();
        let millis = elapsed.as_millis() as u64;
        self.http.downstream_rq_time.record(millis);
        if let (Some(cluster), Some(_)) = (&self.cluster, &self.host)
            && self.status != 0
        {
            cluster.stats.upstream_rq_time.record(millis);
        }
        series.requests.add(1);
        if self.grpc {
            let messages = self.request_body.as_ref().map_or(0, Replayed::messages);
            series.request_messages.add(messages);
            series.response_messages.add(self.response_messages.count);
        }
        series.duration.record(elapsed.as_micros() as u64);
        series
            .request_bytes
            .record(1000 * (self.request_header_bytes + received));
        series
            .response_bytes
            .record(1000 * (self.response_header_bytes + self.response_body_bytes));
        if let Some(span) = self.span.take() {
            let end = spans::End {
                direction: self.direction,
                status: self.status,
                grpc_status: self.grpc_status,
                flags: self.flags,
                cluster: self.cluster.as_ref().map(|cluster| &*cluster.name),
                request_bytes: received,
                response_bytes: self.response_body_bytes,
            };
            let shared = &self.worker.shared;
            if shared.spans.try_send(span.finish(&end)).is_err() {
                shared.registry.server.spans_dropped.add(1);
            }
        }
        if let Some(entry) = self.log.take() {
            if entry.logged {
                let line = self.line(&entry, received, millis);
                self.worker.log.write(&line);
            }
            if self.worker.shared.tap.is_watched() {
                self.tell(&entry, received, millis);
            }
        }
    }
}

impl Exchange {
    /// Its line in the access log.
    fn line(&self, entry: &Entry, received: u64, duration_ms: u64) -> String {
        let mut line = String::with_capacity(384);
        let record = Record {
            start: entry.start,
            method: Some(entry.method.as_str()),
            path: Some(&entry.path),
            protocol: Some(protocol(entry.version)),
            code: self.status,
            flags: self.flags,
            details: &self.details,
            received,
            sent: self.response_body_bytes,
            duration_ms,
            service_time_ms: self.upstream_time_ms,
            authority: Some(&entry.authority),
            upstream_host: self.host.as_ref().map(|host| host.address),
            cluster: self.known_cluster().map(|cluster| &*cluster.name),
            upstream_local: entry.upstream_local,
            downstream_local: Some(entry.connection.local),
            downstream_remote: Some(entry.connection.remote),
            server_name: entry
                .connection
                .hello
                .get()
                .map(|hello| &*hello.server_name),
            route: entry.route.as_deref(),
            request: entry.request.as_deref().unwrap_or_default(),
            response: &entry.response,
        };
        entry.format.write(&record, &mut line);
        line
    }

    /// Tells those who watch.
    fn tell(&self, entry: &Entry, bytes_received: u64, duration_ms: u64) {
        let shared = &self.worker.shared;
        let other = shared.labels.identity(self.principal);
        let inbound = self.direction == TrafficDirection::Inbound;
        let ends = Ends {
            downstream_remote_address: entry.connection.remote,
            upstream_cluster: self.known_cluster().map(|cluster| &*cluster.name),
            upstream_host: self.host.as_ref().map(|host| host.address),
            source_principal: None,
            destination_principal: None,
        };
        shared.tap.tell(&Event::Request(tap::Request {
            time: tap::time(entry.start),
            direction: tap::direction(self.direction),
            method: entry.method.as_str(),
            authority: &entry.authority,
            path: &entry.path,
            protocol: protocol(entry.version),
            response_code: self.status,
            response_flags: self.flags.to_string(),
            response_code_details: &self.details,
            route_name: entry.route.as_deref(),
            duration_ms,
            bytes_received,
            bytes_sent: self.response_body_bytes,
            ends: ends.principals(inbound, &other, &shared.node.load().workload.identity),
        }));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record();
        self.http.downstream_rq_active.sub(1);
        self.worker.active.set(self.worker.active.get() - 1);
    }
}
