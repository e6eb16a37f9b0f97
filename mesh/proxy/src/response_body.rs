//! The body of an answer on its way downstream. The exchange is recorded when it ends or is dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::{exchange::Exchange, flags::Flags, pool::Lease};

/// See the [module](self).
pub(crate) struct ResponseBody {
    content: Content,
    exchange: Option<Box<Exchange>>,
}

enum Content {
    Full(Option<Bytes>),
    Upstream {
        body: Incoming,
        lease: Option<Lease>,
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

/// The downstream connection is closed, or its stream reset, in the middle of a response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Aborted {
    #[error("the upstream ended in the middle of its response")]
    Upstream(#[source] hyper::Error),
    #[error("the route's timeout ended in the middle of the response")]
    Timeout,
}

impl ResponseBody {
    pub(crate) fn full(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        let mut this = Self::detached(bytes);
        this.exchange = Some(exchange);
        this
    }

    /// A body that ends no exchange.
    pub(crate) fn detached(bytes: Bytes) -> Self {
        Self {
            content: Content::Full(Some(bytes).filter(|bytes| !bytes.is_empty())),
            exchange: None,
        }
    }

    pub(crate) fn upstream(
        body: Incoming,
        lease: Lease,
        deadline: Option<Pin<Box<Sleep>>>,
        exchange: Box<Exchange>,
    ) -> Self {
        let mut this = Self {
            content: Content::Upstream {
                body,
                lease: Some(lease),
                deadline,
            },
            exchange: Some(exchange),
        };
        if this.is_end_stream() {
            this.finish();
        }
        this
    }

    /// All of the body has been handed on.
    fn finish(&mut self) {
        if let Content::Upstream { lease, .. } = &mut self.content
            && let Some(lease) = lease.take()
        {
            lease.release();
        }
        if let Some(mut exchange) = self.exchange.take() {
            exchange.complete = true;
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = self.get_mut();
        let (body, deadline) = match &mut this.content {
            Content::Full(bytes) => {
                let frame = bytes.take().map(|bytes| {
                    if let Some(exchange) = &mut this.exchange {
                        exchange.response_body_bytes += bytes.len() as u64;
                    }
                    Ok(Frame::data(bytes))
                });
                this.finish();
                return Poll::Ready(frame);
            }
            Content::Upstream { body, deadline, .. } => (body, deadline),
        };
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(exchange) = &mut this.exchange {
                    if let Some(data) = frame.data_ref() {
                        exchange.response_body_bytes += data.len() as u64;
                        if exchange.grpc {
                            exchange.response_messages.read(data);
                        }
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        exchange.note_grpc_status(trailers);
                    }
                }
                // Nobody asks for more after trailers.
                if body.is_end_stream() || frame.is_trailers() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(exchange) = &mut this.exchange {
                    exchange.flags.insert(Flags::UPSTREAM_PROTOCOL_ERROR);
                    if let Some(cluster) = &exchange.cluster {
                        cluster.stats.upstream_cx_protocol_error.add(1);
                    }
                    exchange.details =
                        "upstream_reset_after_response_started{protocol_error}".into();
                    exchange.complete = true;
                }
                this.exchange = None;
                Poll::Ready(Some(Err(Aborted::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match deadline.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    if let Some(mut exchange) = this.exchange.take() {
                        exchange.flags.insert(Flags::UPSTREAM_TIMEOUT);
                        exchange.details = "response_timeout".into();
                        exchange.complete = true;
                    }
                    Poll::Ready(Some(Err(Aborted::Timeout)))
                }
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.is_none(),
            Content::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    /// A body that the codec had nothing to take from (a HEAD or an empty answer) is complete.
    fn drop(&mut self) {
        if self.is_end_stream() || self.exchange.as_ref().is_some_and(|e| e.bodiless) {
            self.finish();
        }
    }
}
