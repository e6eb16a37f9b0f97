//! ServiceAccount tokens in volumes: requested for the pod, renewed before they expire.

use super::volumes::{MountedToken, write_atomically};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;

/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_secs(30);

/// Requests a token of the pod's ServiceAccount, bound to the pod.
///
/// # Errors
/// What the API server answered.
pub async fn request(
    client: &Client,
    pod: &Pod,
    token: &MountedToken,
) -> Result<String, kube::Error> {
    let api: Api<ServiceAccount> =
        Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: token.audience.clone().map(|audience| vec![audience]),
            expiration_seconds: Some(token.seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    Ok(answer.status.and_then(|s| s.token).unwrap_or_default())
}

/// When to renew a token of that validity: after four fifths of it, as the kubelet does.
fn renewal(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(3600).max(60) * 4 / 5)
}

/// Renews the tokens of a pod until dropped.
pub async fn renew(client: Client, pod: Arc<Pod>, tokens: Vec<MountedToken>) {
    let each = tokens.iter().map(|token| async {
        loop {
            tokio::time::sleep(renewal(token.seconds)).await;
            while let Err(error) = renew_one(&client, &pod, token).await {
                tracing::warn!(pod = pod.name_any(), %error, "token not renewed, will retry");
                tokio::time::sleep(RETRY).await;
            }
        }
    });
    futures::future::join_all(each).await;
}

async fn renew_one(client: &Client, pod: &Pod, token: &MountedToken) -> Result<(), String> {
    let text = request(client, pod, token)
        .await
        .map_err(|e| e.to_string())?;
    write_atomically(&token.path, text.as_bytes(), 0o644).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_after_four_fifths() {
        assert_eq!(renewal(3600), Duration::from_secs(2880));
        assert_eq!(renewal(0), Duration::from_secs(48));
    }
}
