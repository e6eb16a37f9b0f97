//! The HTTP client with which a service calls other services.
//!
//! It honours `http_proxy`, as HTTP clients do: in a pod that variable names the pod's outbound
//! door, which is how a service reaches names without knowing of any mesh.

use std::net::IpAddr;
use std::time::Duration;

/// The longest that establishing a connection may take where the caller sets no shorter limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that opens a new connection for every call, so that how calls are spread over the
/// copies of a service is plain to see. Calls leave from `source` when it is given: behind a door
/// the container's own address is what tells the door who calls.
///
/// # Errors
/// When the proxy named in the environment cannot be used.
pub fn client(source: Option<IpAddr>) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .local_address(source)
        .build()
}
