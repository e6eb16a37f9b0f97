//! What the phases of a request know of it.

use std::rc::Rc;

use http::{HeaderMap, Version};
use mesh_config::TrafficDirection;

use crate::{
    access_log::protocol,
    config::{Destination, HeaderContext, Route},
    conventions,
    downstream::Downstream,
    flags::Flags,
};

/// A request on its way.
pub(crate) struct RequestContext<'a> {
    pub(crate) connection: &'a Rc<Downstream>,
    pub(crate) direction: TrafficDirection,
    /// As routed: of the absolute form, `:authority` or `Host`.
    pub(crate) authority: String,
    /// Normalised, without the query.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) version: Version,
    /// Where the client wanted to go, for passthrough.
    pub(crate) destination: Option<Destination>,
}

impl RequestContext<'_> {
    /// The normalised path with the query.
    pub(crate) fn path_and_query(&self) -> String {
        match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }

    /// What header operators may refer to.
    pub(crate) fn for_headers<'a>(
        &'a self,
        request: &'a HeaderMap,
        method: &'a str,
        route: &'a Route,
    ) -> HeaderContext<'a> {
        HeaderContext {
            request,
            response: None,
            method,
            path: &self.path,
            query: &self.query,
            authority: &self.authority,
            scheme: conventions::scheme(request),
            protocol: protocol(self.version),
            remote: self.connection.remote,
            local: self.connection.local,
            upstream_host: None,
            cluster: "-",
            route: &route.name,
            status: 0,
            flags: Flags::default(),
        }
    }
}
