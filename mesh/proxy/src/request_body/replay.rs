//! A request body that streams to the first attempt and is kept, within bounds, for the next.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;

use crate::grpc::Messages;

/// Bytes kept for a retry; Envoy's buffer limit. A longer body is sent once.
const KEPT: usize = 1024 * 1024;
/// The longest that a body is held back for the upstream to ask for it.
const CONTINUE: Duration = Duration::from_secs(1);

/// The body of a request, from which each attempt takes a [`ReplayBody`].
#[derive(Clone)]
pub(crate) struct Replayed(Rc<Source>);

struct Source {
    incoming: RefCell<Incoming>,
    /// What attempts have taken so far, unless it became too much.
    kept: RefCell<Vec<Bytes>>,
    trailers: RefCell<Option<HeaderMap>>,
    keep: Cell<bool>,
    received: Cell<u64>,
    /// Of a gRPC call.
    messages: Option<RefCell<Messages>>,
    failure: Cell<Option<Failure>>,
    ended: Cell<bool>,
    end: Notify,
}

/// Why a request's body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It breaks HTTP's rules.
    Malformed,
    /// The client left.
    Gone,
}

/// One attempt's reading of a request body.
pub(crate) struct ReplayBody {
    source: Rc<Source>,
    next: usize,
    trailers_sent: bool,
    /// Nothing is sent before this.
    leave: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Replayed {
    /// `keep`: the body may be needed again; `grpc`: its messages are counted.
    pub(crate) fn new(incoming: Incoming, keep: bool, grpc: bool) -> Self {
        Self(Rc::new(Source {
            incoming: RefCell::new(incoming),
            kept: RefCell::default(),
            trailers: RefCell::default(),
            keep: Cell::new(keep),
            received: Cell::new(0),
            messages: grpc.then(RefCell::default),
            failure: Cell::new(None),
            ended: Cell::new(false),
            end: Notify::new(),
        }))
    }

    pub(crate) fn attempt(&self) -> ReplayBody {
        ReplayBody {
            source: self.0.clone(),
            next: 0,
            trailers_sent: false,
            leave: None,
        }
    }

    /// Another attempt can still send all of it.
    pub(crate) fn can_replay(&self) -> bool {
        self.0.keep.get() || self.0.received.get() == 0
    }

    /// Bytes that came from the client.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.get()
    }

    /// gRPC messages that came from the client.
    pub(crate) fn messages(&self) -> u64 {
        let messages = self.0.messages.as_ref();
        messages.map_or(0, |messages| messages.borrow().count)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        self.0.failure.get()
    }

    /// Waits until the client has sent all of it.
    pub(crate) async fn ended(&self) {
        while !self.0.ended.get() {
            self.0.end.notified().await;
        }
    }
}

impl Source {
    fn end(&self) {
        self.ended.set(true);
        self.end.notify_waiters();
    }

    fn take(&self, data: &Bytes) {
        let received = self.received.get() + data.len() as u64;
        self.received.set(received);
        if let Some(messages) = &self.messages {
            messages.borrow_mut().read(data);
        }
        if received > KEPT as u64 {
            self.keep.set(false);
            self.kept.take();
        }
        if self.keep.get() {
            self.kept.borrow_mut().push(data.clone());
        }
    }
}

impl ReplayBody {
    /// Holds the body back until the upstream asks for it (`100 Continue`): the client was promised
    /// that. An upstream that does not know the promise gets it after a while.
    pub(crate) fn wait_for(&mut self, asked: Arc<Notify>) {
        self.leave = Some(Box::pin(async move {
            let _ = tokio::time::timeout(CONTINUE, asked.notified()).await;
        }));
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(leave) = &mut self.leave {
            ready!(leave.as_mut().poll(cx));
            self.leave = None;
        }
        let kept = self.source.kept.borrow().get(self.next).cloned();
        if let Some(data) = kept {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if self.source.ended.get() {
            if self.trailers_sent {
                return Poll::Ready(None);
            }
            self.trailers_sent = true;
            let trailers = self.source.trailers.borrow().clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = {
            let mut incoming = self.source.incoming.borrow_mut();
            let frame = Pin::new(&mut *incoming).poll_frame(cx);
            if incoming.is_end_stream() {
                self.source.end();
            }
            frame
        };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.source.take(data);
                    self.next += 1;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    *self.source.trailers.borrow_mut() = Some(trailers.clone());
                    self.trailers_sent = true;
                    self.source.end();
                }
            }
            Poll::Ready(None) => self.source.end(),
            Poll::Ready(Some(Err(error))) => self.source.failure.set(Some(failure(error))),
            Poll::Pending => {}
        }
        frame
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.source.ended.get()
            && self.next >= self.source.kept.borrow().len()
            && (self.trailers_sent || self.source.trailers.borrow().is_none())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let sent_before = self.source.received.get();
        if self.next == 0 && sent_before == 0 {
            return self.source.incoming.borrow().size_hint();
        }
        match self.source.incoming.borrow().size_hint().exact() {
            // Asked once, at the start of an attempt: what is kept plus what is still to come.
            Some(rest) if self.next == 0 => SizeHint::with_exact(rest + sent_before),
            _ => SizeHint::default(),
        }
    }
}

fn failure(error: &hyper::Error) -> Failure {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    let bad_chunk = |error: &std::io::Error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
        )
    };
    if source.is_some_and(bad_chunk) {
        Failure::Malformed
    } else {
        Failure::Gone
    }
}
