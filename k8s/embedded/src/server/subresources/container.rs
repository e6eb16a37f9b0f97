//! Which container of a pod a request means.

use crate::status::ApiError;
use serde_json::Value;

/// The container that is meant; the only one when none is named.
pub(in crate::server) fn choose(pod: &Value, wanted: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    match wanted {
        Some(wanted) => {
            let exists = containers
                .iter()
                .chain(&init)
                .chain(&names("ephemeralContainers"))
                .any(|container| container == wanted);
            match exists {
                true => Ok(wanted.to_owned()),
                false => Err(ApiError::bad_request(format!(
                    "container {wanted} is not valid for pod {name}"
                ))),
            }
        }
        None if containers.len() == 1 => Ok(containers[0].clone()),
        None => {
            let mut choice = format!("choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                choice.push_str(&format!(
                    " or one of the init containers: [{}]",
                    init.join(" ")
                ));
            }
            Err(ApiError::bad_request(format!(
                "a container name must be specified for pod {name}, {choice}"
            )))
        }
    }
}
