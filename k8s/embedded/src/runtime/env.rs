//! A container's environment: the image's, the Services', the manifest's, the runtime's.

use super::downward::{self, Place};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Service};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An environment.
pub type Env = BTreeMap<String, String>;

/// Key and value pairs of ConfigMaps and Secrets that an environment refers to, by name; `None`
/// for one that is not there.
#[derive(Debug, Default)]
pub struct Sources {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// Names of the ConfigMaps and of the Secrets that a container's environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut maps = Vec::new();
    let mut secrets = Vec::new();
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// Replaces `$(NAME)` by the variable's value; `$$(` is a literal `$(`; a name that is not known
/// stays as it is written.
pub fn expand(text: &str, env: &Env) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|r| r.split_once(')'))
        {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

/// The variables by which programs find Services without DNS: `NAME_SERVICE_HOST`,
/// `NAME_SERVICE_PORT`, and so on, for the Services of the pod's namespace and for `kubernetes`.
pub fn service_links(services: &[Arc<Service>], namespace: &str) -> Env {
    let mut env = Env::new();
    for service in services {
        let meta = &service.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let here = meta.namespace.as_deref() == Some(namespace);
        let kubernetes = meta.namespace.as_deref() == Some("default") && name == "kubernetes";
        let Some(spec) = service.spec.as_ref().filter(|_| here || kubernetes) else {
            continue;
        };
        let Some(ip) = spec
            .cluster_ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
        let prefix = name.to_uppercase().replace('-', "_");
        env.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        for (at, port) in spec.ports.iter().flatten().enumerate() {
            let number = port.port;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            if at == 0 {
                env.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
                env.insert(format!("{prefix}_PORT"), format!("{lower}://{ip}:{number}"));
            }
            if let Some(name) = &port.name {
                let name = name.to_uppercase().replace('-', "_");
                env.insert(format!("{prefix}_SERVICE_PORT_{name}"), number.to_string());
            }
            let base = format!("{prefix}_PORT_{number}_{protocol}");
            env.insert(base.clone(), format!("{lower}://{ip}:{number}"));
            env.insert(format!("{base}_PROTO"), lower);
            env.insert(format!("{base}_PORT"), number.to_string());
            env.insert(format!("{base}_ADDR"), ip.to_owned());
        }
    }
    env
}

/// The environment that the manifest asks for, over `base`.
///
/// # Errors
/// The kubelet's words for what is missing, for `CreateContainerConfigError`.
pub fn compose(
    base: Env,
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    place: &Place,
    sources: &Sources,
) -> Result<Env, String> {
    let mut env = base;
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (name, optional, data, kind) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (
                &r.name,
                r.optional,
                sources.config_maps.get(&r.name),
                "configmap",
            ),
            (_, Some(r)) => (&r.name, r.optional, sources.secrets.get(&r.name), "secret"),
            _ => continue,
        };
        match data.and_then(Option::as_ref) {
            Some(data) => {
                env.extend(
                    data.iter()
                        .map(|(k, v)| (format!("{prefix}{k}"), v.clone())),
                );
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{kind} \"{name}\" not found")),
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, None) => Some(expand(variable.value.as_deref().unwrap_or_default(), &env)),
            (_, Some(from)) => value_from(from, pod, spec, container, place, sources)?,
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

fn value_from(
    from: &k8s_openapi::api::core::v1::EnvVarSource,
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    place: &Place,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let keyed = |kind: &str,
                 title: &str,
                 name: &str,
                 key: &str,
                 optional: Option<bool>,
                 data: Option<&Option<BTreeMap<String, String>>>| {
        match data.and_then(Option::as_ref) {
            _ if optional == Some(true) => Ok(data
                .and_then(Option::as_ref)
                .and_then(|d| d.get(key))
                .cloned()),
            None => Err(format!("{kind} \"{name}\" not found")),
            Some(data) => match data.get(key) {
                Some(value) => Ok(Some(value.clone())),
                None => Err(format!(
                    "couldn't find key {key} in {title} {namespace}/{name}"
                )),
            },
        }
    };
    if let Some(r) = &from.config_map_key_ref {
        let data = sources.config_maps.get(&r.name);
        return keyed("configmap", "ConfigMap", &r.name, &r.key, r.optional, data);
    }
    if let Some(r) = &from.secret_key_ref {
        let data = sources.secrets.get(&r.name);
        return keyed("secret", "Secret", &r.name, &r.key, r.optional, data);
    }
    if let Some(r) = &from.field_ref {
        return downward::field(pod, place, r).map(Some);
    }
    if let Some(r) = &from.resource_field_ref {
        return downward::resource(spec, container, r).map(Some);
    }
    Err(
        "unsupported valueFrom: use configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn expansion() {
        let vars = env(&[("A", "1"), ("B", "two")]);
        assert_eq!(expand("$(A)-$(B)-$(C)", &vars), "1-two-$(C)");
        assert_eq!(expand("$$(A) $A $", &vars), "$(A) $A $");
        assert_eq!(expand("$(A", &vars), "$(A");
    }

    #[test]
    fn links_of_the_namespace_and_kubernetes() {
        let service = |ns: &str, name: &str, ip: &str| {
            Arc::new(
                serde_json::from_value::<Service>(json!({
                    "metadata": {"name": name, "namespace": ns},
                    "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]},
                }))
                .unwrap(),
            )
        };
        let links = service_links(
            &[
                service("a", "my-web", "127.20.128.2"),
                service("b", "other", "127.20.128.3"),
                service("default", "kubernetes", "127.20.128.1"),
                service("a", "headless", "None"),
            ],
            "a",
        );
        assert_eq!(links["MY_WEB_SERVICE_HOST"], "127.20.128.2");
        assert_eq!(links["MY_WEB_SERVICE_PORT_HTTP"], "80");
        assert_eq!(links["MY_WEB_PORT_80_TCP"], "tcp://127.20.128.2:80");
        assert!(links.contains_key("KUBERNETES_SERVICE_HOST"));
        assert!(
            !links
                .keys()
                .any(|k| k.starts_with("OTHER") || k.starts_with("HEADLESS"))
        );
    }

    fn composed(container: serde_json::Value, sources: &Sources) -> Result<Env, String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}})).unwrap();
        let place = Place {
            pod_ip: Ipv4Addr::new(127, 20, 0, 2),
            host_ip: Ipv4Addr::new(127, 20, 0, 1),
        };
        let container = serde_json::from_value(container).unwrap();
        compose(
            Env::new(),
            &pod,
            &PodSpec::default(),
            &container,
            &place,
            sources,
        )
    }

    #[test]
    fn sources_and_order() {
        let sources = Sources {
            config_maps: [("cm".to_owned(), Some(env(&[("K", "v")])))].into(),
            secrets: [("s".to_owned(), Some(env(&[("P", "w")])))].into(),
        };
        let env = composed(
            json!({
                "name": "c",
                "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}],
                "env": [
                    {"name": "A", "value": "$(X_K)!"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "P"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}},
                ],
            }),
            &sources,
        )
        .unwrap();
        assert_eq!(
            (env["A"].as_str(), env["B"].as_str(), env["C"].as_str()),
            ("v!", "w", "p")
        );
        assert!(!env.contains_key("D"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |e: serde_json::Value| {
            let sources = Sources {
                config_maps: [("cm".to_owned(), Some(Env::new()))].into(),
                ..Sources::default()
            };
            composed(
                json!({"name": "c", "env": [{"name": "A", "valueFrom": e}]}),
                &sources,
            )
            .unwrap_err()
        };
        assert_eq!(
            error(json!({"configMapKeyRef": {"name": "nosuch", "key": "k"}})),
            "configmap \"nosuch\" not found"
        );
        assert_eq!(
            error(json!({"configMapKeyRef": {"name": "cm", "key": "k"}})),
            "couldn't find key k in ConfigMap ns/cm"
        );
    }
}
