//! What the access log and those who watch say of a request, copied before the request moves on.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Version};

use crate::{access_log::Format, downstream::Downstream};

/// See the [module](self).
pub(crate) struct Entry {
    /// As it was when the request came.
    pub(super) format: Arc<Format>,
    /// Whether it becomes a line; else someone watches.
    pub(crate) logged: bool,
    pub(crate) start: jiff::Timestamp,
    pub(crate) method: Method,
    pub(crate) path: Box<str>,
    pub(crate) version: Version,
    /// The headers that the format needs; `None`: not copied yet.
    pub(super) request: Option<Box<[Option<HeaderValue>]>>,
    pub(super) response: Box<[Option<HeaderValue>]>,
    pub(crate) authority: Box<str>,
    pub(crate) route: Option<Arc<str>>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) connection: Rc<Downstream>,
}

impl Entry {
    /// What is known as soon as there is a request.
    pub(crate) fn new(connection: &Rc<Downstream>, method: Method, path: &str) -> Self {
        Self {
            format: connection.worker.shared.log_format.load_full(),
            logged: true,
            start: jiff::Timestamp::now(),
            method,
            path: path.into(),
            version: Version::HTTP_11,
            request: None,
            response: Box::default(),
            authority: "".into(),
            route: None,
            upstream_local: None,
            connection: connection.clone(),
        }
    }

    /// Copies what is needed of the request's headers, once.
    pub(crate) fn take_request(&mut self, headers: &HeaderMap) {
        self.request
            .get_or_insert_with(|| self.format.of_request(headers));
    }

    pub(crate) fn take_response(&mut self, headers: &HeaderMap) {
        self.response = self.format.of_response(headers);
    }
}
