//! A student's kubeconfig: the instructor's cluster, the student's token and namespace.

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{Cluster, Kubeconfig},
};
use serde_json::json;

use super::objects::ACCOUNT;

/// Asks for a token of the student's account.
///
/// # Errors
/// When the cluster refuses.
pub(super) async fn token(client: &Client, namespace: &str, hours: u32) -> anyhow::Result<String> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(i64::from(hours) * 3600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = api
        .create_token_request(ACCOUNT, &PostParams::default(), &request)
        .await
        .with_context(|| format!("asking for a token of ServiceAccount {namespace}/{ACCOUNT}"))?;
    let status = made.status.and_then(|status| status.token);
    status.context("the answer has no token")
}

/// The cluster of a context, with its authority in the file itself.
///
/// # Errors
/// When the context or its cluster is not there, or its authority cannot be read.
pub(super) fn cluster(
    kubeconfig: &Kubeconfig,
    context: Option<&str>,
    server: Option<&str>,
) -> anyhow::Result<Cluster> {
    let name = context
        .or(kubeconfig.current_context.as_deref())
        .context("the kubeconfig has no current context; name one with --context")?;
    let context = kubeconfig.contexts.iter().find(|c| c.name == name);
    let wanted = context
        .and_then(|c| c.context.as_ref())
        .with_context(|| format!("the kubeconfig has no context {name}"))?;
    let found = kubeconfig
        .clusters
        .iter()
        .find(|c| c.name == wanted.cluster);
    let mut cluster = found
        .and_then(|c| c.cluster.clone())
        .with_context(|| format!("the kubeconfig has no cluster {}", wanted.cluster))?;
    if let Some(file) = cluster.certificate_authority.take()
        && cluster.certificate_authority_data.is_none()
    {
        let pem = std::fs::read(&file).with_context(|| format!("reading {file}"))?;
        cluster.certificate_authority_data = Some(BASE64_STANDARD.encode(pem));
    }
    if let Some(server) = server {
        cluster.server = Some(server.to_owned());
    }
    Ok(cluster)
}

/// The file, as YAML.
///
/// # Errors
/// Never for a cluster that was read from a kubeconfig.
pub(super) fn kubeconfig(cluster: &Cluster, student: &str, token: &str) -> anyhow::Result<String> {
    let file = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "class", "cluster": cluster }],
        "users": [{ "name": student, "user": { "token": token } }],
        "contexts": [{
            "name": student,
            "context": { "cluster": "class", "user": student, "namespace": student },
        }],
        "current-context": student,
    });
    Ok(serde_norway::to_string(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_student_gets_the_cluster_and_nothing_of_the_instructors() {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.crt");
        std::fs::write(&authority, "PEM").unwrap();
        let own: Kubeconfig = serde_json::from_value(json!({
            "current-context": "admin",
            "clusters": [{ "name": "c", "cluster": { "server": "https://127.0.0.1:6443", "certificate-authority": authority } }],
            "contexts": [{ "name": "admin", "context": { "cluster": "c", "user": "admin" } }],
            "users": [{ "name": "admin", "user": { "token": "secret" } }],
        }))
        .unwrap();
        let found = cluster(&own, None, None).unwrap();
        let text = kubeconfig(&found, "kim", "of-kim").unwrap();
        let read = Kubeconfig::from_yaml(&text).unwrap();
        assert!(!text.contains("secret") && text.contains("of-kim"));
        assert_eq!(read.current_context.as_deref(), Some("kim"));
        let context = read.contexts[0].context.as_ref().unwrap();
        assert_eq!(context.namespace.as_deref(), Some("kim"));
        let made = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(made.certificate_authority_data.as_deref(), Some("UEVN"));
        let elsewhere = cluster(&own, Some("admin"), Some("https://api.test")).unwrap();
        assert_eq!(elsewhere.server.as_deref(), Some("https://api.test"));
        assert!(cluster(&own, Some("none"), None).is_err());
    }
}
