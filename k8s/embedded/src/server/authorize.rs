//! The second layer: whether the caller may do it, by the roles bound to them.

use super::{ApiError, Inner, Target};
use crate::auth::User;
use crate::auth::rbac::{self, Attributes};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Paths that are open to everybody, whatever the roles say.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// A request for a resource.
pub(super) fn resource(
    api: &Inner,
    user: &User,
    target: &Target,
    verb: &str,
    field_selector: Option<&str>,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    let about_namespace = resource.gvk.kind == "Namespace" && target.name.is_some();
    let wanted = Attributes {
        verb: verb.to_owned(),
        group: resource.gvk.group.clone(),
        resource: match &target.subresource {
            Some(sub) => format!("{}/{sub}", resource.plural),
            None => resource.plural.clone(),
        },
        // a namespace is in itself, so that a role in it can be about it
        namespace: match about_namespace {
            true => target.name().to_owned(),
            false => target.namespace().to_owned(),
        },
        name: match &target.name {
            Some(name) => name.clone(),
            None => selected_name(field_selector).to_owned(),
        },
        path: String::new(),
    };
    match rbac::allowed(&api.store, user, &wanted) {
        Some(_) => Ok(()),
        None => Err(ApiError::forbidden(
            resource,
            target.name(),
            &wanted.refusal(user),
        )),
    }
}

/// The one object that a list or watch is about, so that a role for that name allows it.
fn selected_name(field_selector: Option<&str>) -> &str {
    let mut terms = field_selector.unwrap_or_default().split(',');
    let name = terms.find_map(|term| term.strip_prefix("metadata.name="));
    name.map_or("", |name| name.trim_start_matches('='))
}

/// A request for a path that names no resource.
pub(super) fn path(api: &Inner, user: &User, method: &Method, path: &str) -> Result<(), ApiError> {
    let wanted = Attributes {
        verb: match method.as_str() {
            "HEAD" => "get".to_owned(),
            "POST" => "create".to_owned(),
            "PUT" => "update".to_owned(),
            other => other.to_lowercase(),
        },
        path: path.to_owned(),
        ..Attributes::default()
    };
    if HEALTH.contains(&path) || rbac::allowed(&api.store, user, &wanted).is_some() {
        return Ok(());
    }
    let message = format!("forbidden: {}", wanted.refusal(user));
    let mut error = ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message);
    error.details = Some(Box::new(json!({})));
    Err(error)
}

/// Whether a path names a resource, whose own rules decide then.
pub(super) fn names_resource(path: &str) -> bool {
    let segments = path.trim_matches('/').split('/');
    match path.starts_with("/api/") {
        true => segments.count() > 2,
        false => path.starts_with("/apis/") && segments.count() > 3,
    }
}

/// A role or binding that is about to be written must not give away what its writer does not hold.
pub(super) fn escalation(
    api: &Inner,
    user: &User,
    target: &Target,
    object: &Value,
) -> Result<(), ApiError> {
    let resource = &target.resource;
    if resource.gvk.group != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let missing = rbac::missing(&api.store, user, &resource.gvk.kind, object);
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = user.groups.iter().map(|g| json!(g).to_string()).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::forbidden(resource, name, &why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_selector_may_name_the_object() {
        assert_eq!(selected_name(Some("a=b,metadata.name=istio")), "istio");
        assert_eq!(selected_name(Some("metadata.name==istio")), "istio");
        assert_eq!(selected_name(Some("metadata.name!=istio")), "");
        assert_eq!(selected_name(None), "");
    }

    #[test]
    fn documents_are_told_from_resources() {
        for path in [
            "/api",
            "/api/v1",
            "/apis/apps/v1",
            "/openapi/v3",
            "/metrics",
        ] {
            assert!(!names_resource(path), "{path}");
        }
        for path in ["/api/v1/pods", "/apis/apps/v1/deployments"] {
            assert!(names_resource(path), "{path}");
        }
    }
}
