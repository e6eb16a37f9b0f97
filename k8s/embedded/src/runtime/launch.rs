//! What a container runs: image, arguments, environment and folders, put together.

use super::context::Context;
use super::downward::Place;
use super::env::{Env, Sources, compose, expand, references, service_links};
use super::paths::ROOT;
use super::privilege;
use super::process::Launch;
use super::shim::CLUSTER_MARK;
use super::volumes::{self, Folders};
use crate::images::{Catalogue, Reference, SELF};
use crate::network::addresses::DOOR_PORT;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret};
use kube::{Api, ResourceExt};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// Annotation of a pod whose address is owned by one of its containers: `CONTAINER:PORT`, where
/// PORT is that container's outbound proxy on the pod's loopback.
pub const DOOR: &str = "embedded.meshdojo.dev/door";
/// The folder in a cluster's state folder whose programs containers find before those of the
/// machine. Whoever starts the cluster fills it.
pub const TOOLS: &str = "tools";
/// Where a pod's ServiceAccount token is mounted.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a container cannot be started: the waiting reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The reference is not one.
    InvalidImage(String),
    /// The catalogue does not know the image, or says why nothing stands for it.
    UnknownImage(String, Option<String>),
    /// What the manifest refers to is not there.
    Config(String),
}

/// The addresses of a pod as one of its containers sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// What the container listens on.
    pub listen: Ipv4Addr,
    /// The pod's localhost.
    pub loopback: Ipv4Addr,
    /// The pod's address.
    pub pod: Ipv4Addr,
    /// The container's outbound door.
    pub door: (Ipv4Addr, u16),
}

/// The door annotation of a pod: the container that owns the pod's address, and its port.
pub fn door(pod: &Pod) -> Option<(&str, u16)> {
    let (container, port) = pod
        .metadata
        .annotations
        .as_ref()?
        .get(DOOR)?
        .split_once(':')?;
    Some((container, port.parse().ok()?))
}

/// The addresses of a container in a pod with address `pod_ip` and loopback `loopback`.
pub fn addresses(pod: &Pod, container: &str, pod_ip: Ipv4Addr, loopback: Ipv4Addr) -> Addresses {
    let node_door = (pod_ip, DOOR_PORT);
    match door(pod) {
        None => Addresses {
            listen: pod_ip,
            loopback: pod_ip,
            pod: pod_ip,
            door: node_door,
        },
        Some((owner, _)) if owner == container => Addresses {
            listen: pod_ip,
            loopback,
            pod: pod_ip,
            door: node_door,
        },
        Some((_, port)) => Addresses {
            listen: loopback,
            loopback,
            pod: pod_ip,
            door: (loopback, port),
        },
    }
}

/// Puts together what the container runs.
///
/// # Errors
/// See [`Refusal`].
pub async fn prepare(
    context: &Context,
    pod: &Pod,
    container: &Container,
    place: &Place,
    folders: &Folders,
) -> Result<Launch, Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let image_name = container.image.as_deref().unwrap_or_default();
    let reference = Reference::parse(image_name).map_err(|error| {
        Refusal::InvalidImage(format!(
            "Failed to apply default image tag {image_name:?}: {error}"
        ))
    })?;
    let added = Catalogue::added(&context.config.state_dir)
        .map_err(|error| Refusal::Config(error.to_string()))?;
    let image = added
        .find(&reference)
        .or_else(|| context.config.images.find(&reference))
        .ok_or_else(|| Refusal::UnknownImage(image_name.to_owned(), None))?;
    if let Some(why) = &image.absent {
        return Err(Refusal::UnknownImage(
            image_name.to_owned(),
            Some(why.clone()),
        ));
    }

    volumes::link(container, folders).map_err(Refusal::Config)?;
    let loopback = context.plan.loopback(place.pod_ip).unwrap_or(place.pod_ip);
    let addresses = addresses(pod, &container.name, place.pod_ip, loopback);
    let root = folders.root(&container.name);
    let sources = sources(context, pod, container).await?;
    let mut base = base_env(context, pod, &spec, addresses, &root);
    base.extend(image.env.clone());
    if spec.enable_service_links != Some(false) {
        let services = context.informers.services.list();
        base.extend(service_links(
            &services,
            &pod.namespace().unwrap_or_default(),
        ));
    }
    base.extend(api_env(context));
    if let Some(path) = kubeconfig(context, container, folders).map_err(Refusal::Config)? {
        base.insert("KUBECONFIG".into(), path.display().to_string());
    }
    let env = compose(base, pod, &spec, container, place, &sources).map_err(Refusal::Config)?;

    let expanded = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        Some(list.as_ref()?.iter().map(|s| expand(s, &env)).collect())
    };
    let own = context.config.self_exe.display().to_string();
    let argv = image.argv(
        expanded(&container.command).as_deref(),
        expanded(&container.args).as_deref(),
        &own,
    );
    let dir = match container.working_dir.as_deref().filter(|d| !d.is_empty()) {
        Some(dir) => root.join(dir.trim_start_matches('/')),
        None => root,
    };
    std::fs::create_dir_all(&dir)
        .map_err(|error| Refusal::Config(format!("{}: {error}", dir.display())))?;
    let programs = image
        .programs
        .iter()
        .map(|(name, instead)| {
            let instead = instead.iter().map(|word| word.replace(SELF, &own));
            (name.clone(), instead.collect())
        })
        .collect();
    Ok(Launch {
        argv,
        env,
        dir,
        programs,
    })
}

fn base_env(
    context: &Context,
    pod: &Pod,
    spec: &PodSpec,
    addresses: Addresses,
    root: &std::path::Path,
) -> Env {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".into());
    let path = format!("{}:{path}", context.config.state_dir.join(TOOLS).display());
    let hostname = spec.hostname.clone().unwrap_or_else(|| pod.name_any());
    let (door_ip, door_port) = addresses.door;
    let door = format!("http://{door_ip}:{door_port}");
    let root = root.display().to_string();
    let lowest = privilege::lowest_port();
    let lowest = (lowest > 0).then(|| (privilege::LOWEST_PORT, lowest.to_string()));
    [
        ("PATH", path),
        ("HOME", root.clone()),
        ("TMPDIR", format!("{root}/tmp")),
        ("HOSTNAME", hostname),
        (ROOT, root),
        ("DOJO_LISTEN_IP", addresses.listen.to_string()),
        ("DOJO_LOOPBACK_IP", addresses.loopback.to_string()),
        ("DOJO_POD_IP", addresses.pod.to_string()),
        ("http_proxy", door.clone()),
        ("HTTP_PROXY", door),
        (CLUSTER_MARK, context.config.state_dir.display().to_string()),
    ]
    .into_iter()
    .chain(lowest)
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Where clients in the pod find the API server. The Service's port 443 may not be bound without
/// privilege, so these variables name the server's own address.
fn api_env(context: &Context) -> Env {
    let api = context.config.api_address;
    Env::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), api.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), api.port().to_string()),
        (
            "KUBERNETES_SERVICE_PORT_HTTPS".to_owned(),
            api.port().to_string(),
        ),
    ])
}

/// Writes a kubeconfig for a container that has a token, since the token is not where in-cluster
/// clients look for it. The token file is named in it, so renewals are seen.
fn kubeconfig(
    context: &Context,
    container: &Container,
    folders: &Folders,
) -> Result<Option<PathBuf>, String> {
    let mounted = container
        .volume_mounts
        .iter()
        .flatten()
        .any(|m| m.mount_path.trim_end_matches('/') == ACCOUNT);
    if !mounted {
        return Ok(None);
    }
    let account = folders
        .root(&container.name)
        .join(ACCOUNT.trim_start_matches('/'));
    let namespace = std::fs::read_to_string(account.join("namespace")).unwrap_or_default();
    // JSON is YAML
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {
            "server": format!("https://{}", context.config.api_address),
            "certificate-authority": account.join("ca.crt"),
        }}],
        "users": [{"name": "pod", "user": {"tokenFile": account.join("token")}}],
        "contexts": [{"name": "pod", "context": {
            "cluster": "cluster", "user": "pod", "namespace": namespace,
        }}],
        "current-context": "pod",
    });
    let path = folders.container(&container.name).join("kubeconfig");
    volumes::write_atomically(&path, config.to_string().as_bytes(), 0o600)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(path))
}

async fn sources(context: &Context, pod: &Pod, container: &Container) -> Result<Sources, Refusal> {
    let namespace = pod.namespace().unwrap_or_default();
    let (maps, secrets) = references(container);
    let mut sources = Sources::default();
    let failed = |error: kube::Error| Refusal::Config(error.to_string());
    for name in maps {
        let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
        let found = api.get_opt(&name).await.map_err(failed)?;
        let data = found.map(|m| m.data.unwrap_or_default());
        sources.config_maps.insert(name, data);
    }
    for name in secrets {
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
        let found = api.get_opt(&name).await.map_err(failed)?;
        let data = found.map(|s| {
            let text = |ByteString(b): ByteString| String::from_utf8_lossy(&b).into_owned();
            s.data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, text(value)))
                .collect()
        });
        sources.secrets.insert(name, data);
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_door_container_owns_the_pods_address() {
        let pod_ip = Ipv4Addr::new(127, 20, 0, 2);
        let loopback = Ipv4Addr::new(127, 20, 192, 2);
        let plain: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        let a = addresses(&plain, "app", pod_ip, loopback);
        assert_eq!(
            (a.listen, a.loopback, a.door),
            (pod_ip, pod_ip, (pod_ip, DOOR_PORT))
        );
        let meshed: Pod = serde_json::from_value(
            json!({"metadata": {"name": "a", "annotations": {DOOR: "istio-proxy:15001"}}}),
        )
        .unwrap();
        let app = addresses(&meshed, "app", pod_ip, loopback);
        assert_eq!((app.listen, app.door), (loopback, (loopback, 15001)));
        let proxy = addresses(&meshed, "istio-proxy", pod_ip, loopback);
        assert_eq!((proxy.listen, proxy.loopback), (pod_ip, loopback));
        assert_eq!(proxy.door, (pod_ip, DOOR_PORT));
    }
}
