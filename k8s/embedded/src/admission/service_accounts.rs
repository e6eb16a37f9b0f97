//! The ServiceAccount of a pod, and the volume with its token.

use crate::store::Store;
use rand::RngExt;
use serde_json::{Map, Value, json};

/// Where programs look for the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const VOLUME_PREFIX: &str = "kube-api-access-";

/// Seconds that a pod's token lives; it is renewed before.
const TOKEN_SECONDS: u64 = 3607;

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Gives a new pod its ServiceAccount, the token volume and a mount of it in each container. Safe
/// to repeat.
///
/// # Errors
/// Why the pod is forbidden: its ServiceAccount does not exist.
pub fn admit(store: &Store, namespace: &str, pod: &mut Value) -> Result<(), String> {
    let spec = &mut pod["spec"];
    let named = |value: &Value| {
        value
            .as_str()
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
    };
    let name = named(&spec["serviceAccountName"])
        .or_else(|| named(&spec["serviceAccount"]))
        .unwrap_or_else(|| "default".into());
    spec["serviceAccountName"] = name.as_str().into();
    spec["serviceAccount"] = name.as_str().into();
    let account = store
        .get("core/serviceaccounts", namespace, &name)
        .ok_or_else(|| {
            format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            )
        })?
        .value();
    if spec["imagePullSecrets"]
        .as_array()
        .is_none_or(Vec::is_empty)
        && account["imagePullSecrets"].is_array()
    {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let wanted = spec["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if wanted {
        mount(spec);
    }
    Ok(())
}

fn mount(spec: &mut Value) {
    let existing = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| {
        let mut random = rand::rng();
        let suffix: String = (0..5)
            .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
            .collect();
        format!("{VOLUME_PREFIX}{suffix}")
    });
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            used |= mount_into(container, &volume);
        }
    }
    if used && existing.is_none() {
        let token = json!({
            "name": volume,
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                    {"configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
                "defaultMode": 420,
            },
        });
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(token),
            None => spec["volumes"] = json!([token]),
        }
    }
}

/// Mounts the volume unless something is mounted there already; says whether it did.
fn mount_into(container: &mut Map<String, Value>, volume: &str) -> bool {
    let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
    let Some(mounts) = mounts.as_array_mut() else {
        return false;
    };
    if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
        return false;
    }
    mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_container_gets_the_token_once() {
        let store = Store::in_memory();
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}});
        assert!(
            admit(&store, "demo", &mut pod)
                .unwrap_err()
                .contains("demo/default")
        );
        let account = json!({"metadata": {"name": "default", "namespace": "demo"}});
        store
            .create("core/serviceaccounts", "demo", "default", account)
            .await
            .unwrap();
        admit(&store, "demo", &mut pod).unwrap();
        // a webhook adds a container
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "b"}));
        admit(&store, "demo", &mut pod).unwrap();
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        for container in spec["containers"].as_array().unwrap() {
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert_eq!(mounts.len(), 1);
            assert_eq!(mounts[0]["name"], spec["volumes"][0]["name"]);
        }
    }
}
