//! `pods/binding`: a scheduler gives a pod its node.

use crate::gvk::Gvk;
use crate::server::{Call, answer, body, read, write};
use crate::status::ApiError;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) async fn run(call: &Call<'_>, body: &Bytes) -> Result<Response, ApiError> {
    let mut binding = body::object(call.media_type, body)?;
    write::check_gvk(&Gvk::new("", "v1", "Binding"), &mut binding)?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request("target.name: the node is required"));
    }
    loop {
        let (stored, mut pod) = read::stored(call)?;
        check(call, &binding, &pod)?;
        bind(&mut pod, node);
        match write::replace(call, stored.revision, pod).await {
            // somebody else wrote in between: look again
            Err(error) if error.reason == "Conflict" => {}
            result => {
                result?;
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {},
                    "status": "Success", "code": 201,
                });
                return Ok(answer::json(StatusCode::CREATED, &status));
            }
        }
    }
}

fn check(call: &Call<'_>, binding: &Value, pod: &Value) -> Result<(), ApiError> {
    let name = call.target.name();
    let refuse = |why: &str| Err(ApiError::conflict(&call.target.resource, name, why));
    let uid = binding["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && pod["metadata"]["uid"] != uid {
        return refuse(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod["metadata"]["uid"].as_str().unwrap_or_default()
        ));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return refuse(&format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    match pod["spec"]["nodeName"].as_str() {
        Some(node) if !node.is_empty() => {
            refuse(&format!("pod {name} is already assigned to node {node:?}"))
        }
        _ => Ok(()),
    }
}

fn bind(pod: &mut Value, node: &str) {
    pod["spec"]["nodeName"] = node.into();
    let generation = pod["metadata"]["generation"].clone();
    let condition = json!({
        "type": "PodScheduled",
        "observedGeneration": generation,
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": crate::status::timestamp(),
    });
    match pod["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => pod["status"]["conditions"] = json!([condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_pod_is_scheduled() {
        let mut pod = json!({"metadata": {"generation": 1}, "spec": {},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False"}]}});
        bind(&mut pod, "node-1");
        assert_eq!(pod["spec"]["nodeName"], "node-1");
        assert_eq!(pod["status"]["conditions"].as_array().unwrap().len(), 1);
        assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    }
}
