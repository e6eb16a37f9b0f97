//! Failures that name a resource.

use super::Resource;
use crate::status::ApiError;
use crate::store::StoreError;
use http::StatusCode;

impl ApiError {
    fn about_resource(self, resource: &Resource, name: &str) -> Self {
        self.about(name, &resource.gvk.group, &resource.plural)
    }

    /// 403 by admission: `pods "p" is forbidden: WHY`.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let what = resource.qualified();
        let message = match name {
            "" => format!("{what} is forbidden: {why}"),
            name => format!("{what} {name:?} is forbidden: {why}"),
        };
        ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message).about_resource(resource, name)
    }

    /// 404 of an object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message).about_resource(resource, name)
    }

    /// 409 of a name that is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        ApiError::new(StatusCode::CONFLICT, "AlreadyExists", message).about_resource(resource, name)
    }

    /// 409 of a write that others have overtaken.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        ApiError::new(StatusCode::CONFLICT, "Conflict", message).about_resource(resource, name)
    }

    /// 409 of a stale resourceVersion.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(resource, name, why)
    }

    /// A failed write of an object.
    pub fn of_store(error: StoreError, resource: &Resource, name: &str) -> Self {
        match error {
            StoreError::Exists => ApiError::already_exists(resource, name),
            StoreError::NotFound => ApiError::not_found(resource, name),
            StoreError::Conflict => ApiError::modified(resource, name),
            StoreError::Disk(_) => ApiError::internal(error.to_string()),
        }
    }
}
