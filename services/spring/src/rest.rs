//! Serving a repository as Spring Data REST does: HAL documents, pages, and its status codes.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde_json::{Map, Value, json};

use crate::entity::{self, Object};
use crate::pretty;
use crate::problem::{MAX_BODY, Problem};
use crate::repository::Repository;

/// The content type of resources.
const HAL: &str = "application/hal+json;charset=UTF-8";
/// How many objects a page has unless asked otherwise, and at most.
const PAGE_SIZE: (usize, usize) = (20, 1000);

/// Both addresses of a resource: `/COLLECTION` and `/COLLECTION/{id}`.
pub fn routes(repository: &Repository) -> Router {
    Router::new()
        .route(
            &collection_path(repository),
            collection(repository).merge(creation(repository)),
        )
        .route(&item_path(repository), item(repository))
}

/// The path of the collection.
#[must_use]
pub fn collection_path(repository: &Repository) -> String {
    format!("/{}", repository.resource.collection)
}

/// The path of one object, as a route.
#[must_use]
pub fn item_path(repository: &Repository) -> String {
    format!("/{}/{{id}}", repository.resource.collection)
}

/// GET of the collection.
pub fn collection(repository: &Repository) -> MethodRouter {
    get(list).with_state(repository.clone())
}

/// POST to the collection.
pub fn creation(repository: &Repository) -> MethodRouter {
    axum::routing::post(create)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(repository.clone())
}

/// GET, PUT, PATCH and DELETE of one object.
pub fn item(repository: &Repository) -> MethodRouter {
    get(show)
        .put(replace)
        .patch(amend)
        .delete(remove)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(repository.clone())
}

async fn list(
    State(repository): State<Repository>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let number = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.parse::<u32>().ok())
            .map(|number| number as usize)
    };
    let size = number("size")
        .filter(|size| *size > 0)
        .unwrap_or(PAGE_SIZE.0)
        .min(PAGE_SIZE.1);
    let page = number("page").unwrap_or(0);
    let (objects, total) = repository.page(page.saturating_mul(size), size);
    let resource = repository.resource;
    let base = base(&headers, &uri);
    let address = format!("{base}/{}", resource.collection);
    let objects: Vec<Value> = objects
        .into_iter()
        .map(|(id, object)| document(&repository, &base, id, object))
        .collect();
    let pages = total.div_ceil(size);
    let link = |page: usize| json!({"href": format!("{address}?page={page}&size={size}")});
    let mut links = Map::new();
    if pages > 1 {
        links.insert("first".into(), link(0));
        if page > 0 {
            links.insert("prev".into(), link(page - 1));
        }
    }
    links.insert("self".into(), json!({"href": address}));
    if pages > 1 {
        if page + 1 < pages {
            links.insert("next".into(), link(page + 1));
        }
        links.insert("last".into(), link(pages - 1));
    }
    links.insert(
        "profile".into(),
        json!({"href": format!("{base}/profile/{}", resource.collection)}),
    );
    hal(
        StatusCode::OK,
        &json!({
            "_embedded": {resource.collection: objects},
            "_links": links,
            "page": {"size": size, "totalElements": total, "totalPages": pages, "number": page},
        }),
    )
}

async fn create(
    State(repository): State<Repository>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    let object = read_new(&repository, &headers, &body)?;
    let id = repository.insert(object.clone())?;
    Ok(created(&repository, &headers, &uri, id, object))
}

/// The object that a POST or PUT sent.
///
/// # Errors
/// Those of [`entity::read`].
pub fn read_new(
    repository: &Repository,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Object, Problem> {
    let fields = repository.resource.fields;
    entity::read(fields, headers, body, entity::blank(fields))
}

/// The answer to a POST that made an object: 201, `Location` and the object.
pub fn created(
    repository: &Repository,
    headers: &HeaderMap,
    uri: &Uri,
    id: u64,
    object: Object,
) -> Response {
    let base = base(headers, uri);
    let location = format!("{base}/{}/{id}", repository.resource.collection);
    let document = document(repository, &base, id, object);
    (
        [(header::LOCATION, location)],
        hal(StatusCode::CREATED, &document),
    )
        .into_response()
}

async fn show(
    State(repository): State<Repository>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = number(&id)?;
    let object = repository.get(id).ok_or_else(Problem::not_found)?;
    let base = base(&headers, &uri);
    Ok(hal(
        StatusCode::OK,
        &document(&repository, &base, id, object),
    ))
}

async fn replace(
    State(repository): State<Repository>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = number(&id)?;
    let object = read_new(&repository, &headers, &body)?;
    repository
        .update(id, |kept| kept.clone_from(&object))
        .ok_or_else(Problem::not_found)?;
    let base = base(&headers, &uri);
    Ok(hal(
        StatusCode::OK,
        &document(&repository, &base, id, object),
    ))
}

async fn amend(
    State(repository): State<Repository>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    let id = number(&id)?;
    let fields = repository.resource.fields;
    let object = repository
        .update(id, |kept| {
            *kept = entity::read(fields, &headers, &body, kept.clone())?;
            Ok(kept.clone())
        })
        .ok_or_else(Problem::not_found)??;
    let base = base(&headers, &uri);
    Ok(hal(
        StatusCode::OK,
        &document(&repository, &base, id, object),
    ))
}

async fn remove(
    State(repository): State<Repository>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    repository
        .remove(number(&id)?)
        .map(|_| StatusCode::NO_CONTENT)
        .ok_or_else(Problem::not_found)
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the id `{id}` is not a number"),
        )
    })
}

/// Where the client thinks that this service is: links lead back the way it came.
fn base(headers: &HeaderMap, uri: &Uri) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
        .unwrap_or("localhost");
    format!("http://{host}")
}

fn document(repository: &Repository, base: &str, id: u64, object: Object) -> Value {
    let resource = repository.resource;
    let link = json!({"href": format!("{base}/{}/{id}", resource.collection)});
    let mut document = object;
    document.insert("_links".into(), json!({"self": link, resource.item: link}));
    Value::Object(document)
}

fn hal(status: StatusCode, document: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, HAL)],
        pretty::text(document),
    )
        .into_response()
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
