//! Faults: failures made on purpose, before the router.

use http::StatusCode;
use mesh_config::{AbortStatus, Fault};

use crate::{exchange::Exchange, flags::Flags, reply::LocalReply, worker::Worker};

/// Holds the request back, then answers it, each by its own draw.
pub(crate) async fn inject(
    fault: &Fault,
    worker: &Worker,
    exchange: &mut Exchange,
) -> Option<LocalReply> {
    if let Some(delay) = &fault.delay
        && delay.percent.hits(worker.draw_millionths())
    {
        exchange.flags.insert(Flags::DELAY_INJECTED);
        exchange.http().fault_delays_injected.add(1);
        tokio::time::sleep(delay.fixed).await;
    }
    let abort = fault.abort.as_ref()?;
    if !abort.percent.hits(worker.draw_millionths()) {
        return None;
    }
    exchange.http().fault_aborts_injected.add(1);
    Some(match abort.status {
        AbortStatus::Http(status) => {
            LocalReply::fault_abort(StatusCode::from_u16(status).unwrap_or(StatusCode::OK))
        }
        AbortStatus::Grpc(status) => {
            exchange.abort_grpc_status = Some(status);
            LocalReply::fault_abort(StatusCode::OK)
        }
    })
}
