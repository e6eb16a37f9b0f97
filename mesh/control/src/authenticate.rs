//! Is the caller of the configuration stream the pod that it says it is? Asked of Kubernetes with a
//! TokenReview; the answer is remembered for a minute.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use mesh_config::ProxyId;

/// Audience of the tokens that sidecars are given.
pub(crate) const AUDIENCE: &str = "istio-ca";

const REMEMBERED_FOR: Duration = Duration::from_secs(60);
const MOST_REMEMBERED: usize = 1024;

/// Why a proxy is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "no bearer token: mount a ServiceAccount token with audience {AUDIENCE} and send it as Authorization: Bearer"
    )]
    NoToken,
    #[error("the token is not valid: {0}")]
    Invalid(String),
    #[error("the token is that of {user}, which does not run pod {namespace}/{pod}")]
    OtherPod {
        user: String,
        namespace: String,
        pod: String,
    },
    #[error("the token is that of {0}, which is no ServiceAccount and has no identity in the mesh")]
    NoServiceAccount(String),
    #[error("asking Kubernetes about the token: {0}")]
    Unavailable(#[from] kube::Error),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Caller {
    user: String,
    /// The pod that the token is bound to, when Kubernetes tells.
    pod: Option<String>,
}

impl Caller {
    fn service_account(&self) -> Option<(&str, &str)> {
        let user = self.user.strip_prefix("system:serviceaccount:")?;
        user.split_once(':')
    }
}

/// The bearer token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

/// Reviews tokens.
pub(crate) struct Authenticator {
    client: Client,
    // By a keyed hash, so that tokens themselves are not kept.
    known: Mutex<HashMap<u64, (Caller, Instant)>>,
    hasher: RandomState,
}

impl Authenticator {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Checks that `token` belongs to the pod of `proxy`, which runs as `service_account` where
    /// that is known.
    pub(crate) async fn check(
        &self,
        token: Option<&str>,
        proxy: &ProxyId,
        service_account: Option<&str>,
    ) -> Result<(), Refused> {
        let caller = self.caller(token.ok_or(Refused::NoToken)?).await?;
        if runs(&caller, proxy, service_account) {
            return Ok(());
        }
        let (namespace, pod) = (proxy.namespace.clone(), proxy.pod.clone());
        Err(Refused::OtherPod {
            user: caller.user,
            namespace,
            pod,
        })
    }

    /// Namespace and name of the ServiceAccount that a token is of.
    pub(crate) async fn service_account(
        &self,
        token: Option<&str>,
    ) -> Result<(String, String), Refused> {
        let caller = self.caller(token.ok_or(Refused::NoToken)?).await?;
        match caller.service_account() {
            Some((namespace, account)) => Ok((namespace.to_owned(), account.to_owned())),
            None => Err(Refused::NoServiceAccount(caller.user)),
        }
    }

    async fn caller(&self, token: &str) -> Result<Caller, Refused> {
        let hash = self.hasher.hash_one(token);
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (_, since)| since.elapsed() < REMEMBERED_FOR);
            if let Some((caller, _)) = known.get(&hash) {
                return Ok(caller.clone());
            }
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![AUDIENCE.into()]),
            },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Err(Refused::Invalid(
                status.error.unwrap_or_else(|| "not authenticated".into()),
            ));
        }
        let user = status.user.unwrap_or_default();
        let pod = user.extra.and_then(|extra| {
            extra
                .get("authentication.kubernetes.io/pod-name")?
                .first()
                .cloned()
        });
        let caller = Caller {
            user: user.username.unwrap_or_default(),
            pod,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_REMEMBERED {
            known.insert(hash, (caller.clone(), Instant::now()));
        }
        Ok(caller)
    }
}

fn runs(caller: &Caller, proxy: &ProxyId, service_account: Option<&str>) -> bool {
    let Some((namespace, account)) = caller.service_account() else {
        return false;
    };
    namespace == proxy.namespace
        && service_account.is_none_or(|expected| expected == account)
        && caller.pod.as_ref().is_none_or(|pod| *pod == proxy.pod)
}

#[cfg(test)]
mod tests {
    use mesh_config::{Interception, Role};

    use super::*;

    #[test]
    fn a_token_speaks_for_its_own_pod_alone() {
        let proxy = ProxyId {
            role: Role::Sidecar,
            pod: "a".into(),
            namespace: "ns".into(),
            address: [127, 0, 0, 1].into(),
            interception: Interception::Redirect,
        };
        for (user, pod, account, allowed) in [
            ("system:serviceaccount:ns:sa", None, Some("sa"), true),
            ("system:serviceaccount:ns:sa", Some("a"), None, true),
            ("system:serviceaccount:ns:sa", Some("b"), Some("sa"), false),
            ("system:serviceaccount:ns:sa", None, Some("other"), false),
            ("system:serviceaccount:other:sa", None, Some("sa"), false),
            ("admin", None, None, false),
        ] {
            let caller = Caller {
                user: user.into(),
                pod: pod.map(str::to_owned),
            };
            assert_eq!(
                runs(&caller, &proxy, account),
                allowed,
                "{caller:?} {account:?}"
            );
        }
    }
}
