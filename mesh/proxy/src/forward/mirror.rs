//! Mirroring: copies of a request to other clusters. Nobody waits for them and nothing that becomes
//! of them shows to the caller.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Version};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{Outgoing, speaks};
use crate::{
    balance::{self, Ask},
    config::{Cluster, Forward},
    context::RequestContext,
    conventions,
    headers::{ATTEMPT_COUNT, INTERNAL},
    worker::Worker,
};

/// Copies that may be under way on one worker; more are not made.
const MOST: usize = 1024;

/// The longest a copy may take where the route sets no timeout.
const PATIENCE: Duration = Duration::from_secs(60);

/// Draws the clusters that get a copy of a request.
pub(super) fn draw(forward: &Forward, worker: &Worker) -> Vec<Arc<Cluster>> {
    let hit = forward
        .mirrors
        .iter()
        .filter(|(_, percent)| percent.hits(worker.draw_millionths()));
    hit.map(|(cluster, _)| cluster.clone()).collect()
}

/// Sends copies of a request, whose body must be kept as it comes.
pub(super) fn send(
    context: &RequestContext<'_>,
    forward: &Forward,
    clusters: Vec<Arc<Cluster>>,
    outgoing: &Outgoing,
) {
    let connection = context.connection;
    let worker = &connection.worker;
    for cluster in clusters {
        if worker.mirrored.get() >= MOST {
            cluster.stats.upstream_rq_pending_overflow.add(1);
            continue;
        }
        let mut copy = Outgoing {
            method: outgoing.method.clone(),
            uri: outgoing.uri.clone(),
            headers: outgoing.headers.clone(),
            body: outgoing.body.clone(),
        };
        let yes = HeaderValue::from_static("true");
        copy.headers.insert(INTERNAL, yes);
        if let Ok(own) = HeaderValue::from_str(&connection.local.ip().to_string()) {
            conventions::append_forwarded_for(&mut copy.headers, &own);
        }
        let limit = forward.timeout.unwrap_or(PATIENCE);
        let (worker, version) = (worker.clone(), context.version);
        worker.mirrored.set(worker.mirrored.get() + 1);
        tokio::task::spawn_local(async move {
            // Whatever becomes of it, nobody asks.
            let _ = timeout(limit, carry(&worker, &cluster, copy, version)).await;
            worker.mirrored.set(worker.mirrored.get() - 1);
        });
    }
}

/// Sends one copy when all of the body is there, and reads its answer to the end.
async fn carry(worker: &Rc<Worker>, cluster: &Arc<Cluster>, mut copy: Outgoing, version: Version) {
    if let Some(body) = &copy.body {
        body.ended().await;
        if !body.can_replay() {
            return;
        }
    }
    let Some(members) = cluster.members.load_full() else {
        return;
    };
    let Some(host) = balance::choose(cluster, &members, Ask::default(), || worker.draw()) else {
        cluster.stats.upstream_cx_none_healthy.add(1);
        return;
    };
    if host.in_mesh
        && let Some(own) = &*worker.shared.own_metadata.load()
    {
        own.put(&mut copy.headers);
    }
    let http2 = speaks(members.config.protocol, version);
    copy.headers.insert(ATTEMPT_COUNT, 1.into());
    let mut request = Some(copy.into_request(http2));
    let stats = &cluster.stats;
    match worker
        .pool
        .send(cluster, host, http2, &members.config, &mut request)
        .await
    {
        Ok((response, lease)) => {
            stats.upstream_rq.add(response.status().as_u16());
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            lease.release();
        }
        Err(_) => host.stats.rq_error.add(1),
    }
}
