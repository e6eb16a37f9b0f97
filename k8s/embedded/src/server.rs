//! The API server: one axum `Router`.
//!
//! A request is authenticated ([`authenticate`]), its path becomes a [`target::Target`], the caller's
//! roles are asked ([`authorize`]), and the verb's module answers: [`read`], [`watch`], [`create`], [`update`] (PUT and PATCH), [`delete`],
//! [`subresources`], [`streaming`] (exec and the like). Writes share [`write`]: decode, admit, default, validate, store.

mod answer;
mod authenticate;
mod authorize;
mod body;
mod bootstrap;
mod create;
mod custom;
mod delete;
mod dependents;
mod documents;
mod listener;
mod meant;
mod metrics;
mod options;
mod read;
mod selectors;
mod streaming;
mod subresources;
mod target;
mod update;
mod watch;
mod write;

pub use listener::serve;

use crate::auth::{Authority, User};
use crate::discovery::Registry;
use crate::network::addresses::AddressPlan;
use crate::node::Node;
use crate::status::{ApiError, Cause};
use crate::store::Store;
use answer::Form;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::Method;
use options::Options;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use target::Target;

/// Largest body of a request, in bytes.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// What an API server needs to know besides its store.
pub struct Config {
    /// Addresses of the cluster: where services get theirs.
    pub addresses: AddressPlan,
    /// Certificates and token key.
    pub authority: Authority,
}

/// The API server. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    store: Store,
    registry: Registry,
    config: Config,
    node: OnceLock<Arc<dyn Node>>,
    /// Serializes the allocation of service addresses and node ports.
    allocation: tokio::sync::Mutex<()>,
}

impl ApiServer {
    /// A server over a store. Call [`ApiServer::bootstrap`] before it is used.
    pub fn new(store: Store, config: Config) -> Self {
        let server = ApiServer(Arc::new(Inner {
            store,
            registry: Registry::new(),
            config,
            node: OnceLock::new(),
            allocation: tokio::sync::Mutex::new(()),
        }));
        custom::load(&server.0);
        server
    }

    /// Creates what a cluster is born with, unless it is there: the namespaces and the `kubernetes`
    /// service.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn bootstrap(&self) -> Result<(), ApiError> {
        custom::clean_up(&self.0);
        bootstrap::run(&self.0).await
    }

    /// Tells clients of the `kubernetes` service where the API is.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn publish(&self, address: SocketAddr) -> Result<(), ApiError> {
        bootstrap::publish(&self.0, address).await
    }

    /// Tells who answers for the pods. Only the first call counts.
    pub fn set_node(&self, node: Arc<dyn Node>) {
        // a second runtime in one process would be a mistake of the caller, and has no effect
        let _ = self.0.node.set(node);
    }

    /// The API as a router. A request is authenticated by its bearer token, or by the extension
    /// [`User`] that the TLS listener sets from the client certificate.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api", any(documents::api))
            .route("/apis", any(documents::apis))
            .route("/apis/{group}", any(documents::group))
            .route("/openapi/v2", any(documents::openapi_v2))
            .route("/openapi/v3", any(documents::openapi_index))
            .route("/openapi/v3/{*path}", any(documents::openapi))
            .route("/version", any(documents::version))
            .route("/livez", any(documents::health))
            .route("/readyz", any(documents::health))
            .route("/healthz", any(documents::health))
            .fallback(resources)
            .layer(axum::middleware::from_fn_with_state(
                self.clone(),
                authenticate::layer,
            ))
            .with_state(self.clone())
    }

    /// A client in this process, without a socket, as a part of the cluster.
    pub fn client(&self) -> kube::Client {
        self.client_as(User::cluster())
    }

    /// A client in this process that is taken for `user`.
    pub fn client_as(&self, user: User) -> kube::Client {
        let router = self.router().layer(axum::Extension(user));
        let service = tower::ServiceBuilder::new()
            .map_request(|request: http::Request<kube::client::Body>| request.map(Body::new))
            .service(router);
        kube::Client::new(service, "default")
    }

    /// The certificates of this cluster.
    pub fn authority(&self) -> &Authority {
        &self.0.config.authority
    }
}

/// A request for a resource: everything that a verb needs.
struct Call<'a> {
    api: &'a Arc<Inner>,
    user: &'a User,
    target: &'a Target,
    options: &'a Options,
    form: Form,
    media_type: &'a str,
}

async fn resources(State(server): State<ApiServer>, request: Request) -> Response {
    match answer_resources(&server.0, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer_resources(api: &Arc<Inner>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(document) = documents::resource_list(api, &path, &parts.method) {
        return document;
    }
    let Some(target) = Target::parse(&api.registry, &path)? else {
        return Ok(answer::text(
            http::StatusCode::NOT_FOUND,
            "404 page not found\n",
        ));
    };
    let options = Options::parse(&parts)?;
    // the authentication layer sets the extension on every request
    let user = parts
        .extensions
        .get::<User>()
        .cloned()
        .unwrap_or_else(User::anonymous);
    let reading = parts.method == Method::GET || parts.method == Method::HEAD;
    let watching = reading && (target.watch || (options.watch && target.name.is_none()));
    let verb = match streaming::is_stream(&target) {
        // whichever method opens a stream, it does something
        true => "create",
        false => verb(&parts.method, &target)?,
    };
    let asked = if watching { "watch" } else { verb };
    authorize::resource(api, &user, &target, asked, options.get("fieldSelector"))?;
    if streaming::is_stream(&target) {
        return streaming::run(api, &target, &mut parts).await;
    }
    let form = answer::form(&parts.headers)?;
    let body = if reading {
        bytes::Bytes::new()
    } else {
        body::read(body).await?
    };
    let call = Call {
        api,
        user: &user,
        target: &target,
        options: &options,
        form,
        media_type: body::media_type(&parts.headers),
    };
    if watching {
        return watch::run(api.clone(), &call);
    }
    let mut response = match dispatch(&call, verb, body).await {
        Ok(response) => response,
        Err(error) if error.reason == "NotFound" && typed(&parts.headers) => {
            let meant = meant::instead(&call);
            let mut response = error.into_response();
            meant
                .iter()
                .for_each(|hint| write::warn(&mut response, hint));
            return Ok(response);
        }
        Err(error) => return Err(error),
    };
    if let Some(warning) = target
        .resource
        .custom()
        .and_then(|kind| kind.deprecation.as_deref())
    {
        write::warn(&mut response, warning);
    }
    Ok(response)
}

/// Whether a person typed the name: kubectl says what it is and which command it carries out. `apply`
/// and `diff` ask for what they are about to make.
fn typed(headers: &http::HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let makes = |command: &str| matches!(command, "kubectl apply" | "kubectl diff");
    text("user-agent").is_some_and(|agent| agent.starts_with("kubectl"))
        && !text("kubectl-command").is_some_and(makes)
}

fn verb(method: &Method, target: &Target) -> Result<&'static str, ApiError> {
    Ok(match (method.as_str(), &target.name) {
        ("GET" | "HEAD", None) => "list",
        ("GET" | "HEAD", Some(_)) => "get",
        ("POST", _) => "create",
        ("PUT", Some(_)) => "update",
        ("PATCH", Some(_)) => "patch",
        ("DELETE", Some(_)) => "delete",
        ("DELETE", None) => "deletecollection",
        _ => return Err(ApiError::method_not_allowed()),
    })
}

async fn dispatch(call: &Call<'_>, verb: &str, body: bytes::Bytes) -> Result<Response, ApiError> {
    if let Some(subresource) = &call.target.subresource {
        let known = call.target.resource.subresource(subresource);
        let known = known.ok_or_else(ApiError::no_resource)?;
        if !known.verbs.contains(&verb) {
            return Err(ApiError::method_not_allowed());
        }
        return subresources::run(call, known, verb, body).await;
    }
    if !call.target.resource.verbs.contains(&verb)
        || (verb == "create" && call.target.name.is_some())
    {
        return Err(ApiError::method_not_allowed());
    }
    if call.target.resource.gvk.group == metrics::GROUP {
        return metrics::run(call, verb).await;
    }
    match verb {
        "list" => read::list(call),
        "get" => read::get(call),
        "create" => create::run(call, body).await,
        "update" => update::put(call, body).await,
        "patch" => update::patch(call, body).await,
        "delete" => delete::one(call, body).await,
        _ => delete::collection(call, body).await,
    }
}
