//! Is the caller of the configuration stream the pod that it says it is? Asked of Kubernetes with a
//! TokenReview; the answer is remembered for a minute, and while the API server cannot be asked until the
//! token ends: a sidecar that starts again meanwhile gets its configuration.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use mesh_config::ProxyId;

/// Audience of the tokens that sidecars are given.
pub(crate) const AUDIENCE: &str = "istio-ca";

/// For so long Kubernetes is not asked again.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Pods whose tokens are remembered; each has one, and for a while after its renewal two.
const MOST_REMEMBERED: usize = 8192;
/// An API server that is silent for so long is away. Less than proxies wait for us.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

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
    #[error(
        "the API server cannot be asked about the token, which it has not vouched for before: {0}"
    )]
    Unavailable(String),
    #[error(
        "we may not ask the API server about tokens, which ClusterRole istiod-istio-system of k8s/install allows: {0}"
    )]
    MayNotAsk(String),
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

/// What Kubernetes said of a token.
#[derive(Clone, Debug)]
struct Known {
    caller: Caller,
    since: Instant,
    /// When the token ends, as it says itself.
    ends: SystemTime,
}

/// Reviews tokens.
pub(crate) struct Authenticator {
    client: Client,
    // By a keyed hash, so that tokens themselves are not kept.
    known: Mutex<HashMap<u64, Known>>,
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
        let known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let now = SystemTime::now();
            known.retain(|_, known| known.ends > now || known.since.elapsed() < REMEMBERED_FOR);
            known.get(&hash).cloned()
        };
        if let Some(known) = &known
            && known.since.elapsed() < REMEMBERED_FOR
        {
            return Ok(known.caller.clone());
        }
        let caller = match (self.review(token).await, known) {
            (Ok(caller), _) => caller,
            (Err(Refused::Unavailable(_)), Some(known)) => return Ok(known.caller),
            (Err(refused), _) => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if matches!(refused, Refused::Invalid(_)) {
                    known.remove(&hash);
                }
                return Err(refused);
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_REMEMBERED || known.contains_key(&hash) {
            let ends = end(token).unwrap_or(SystemTime::UNIX_EPOCH);
            let (caller, since) = (caller.clone(), Instant::now());
            known.insert(
                hash,
                Known {
                    caller,
                    since,
                    ends,
                },
            );
        }
        Ok(caller)
    }

    /// Asks Kubernetes.
    async fn review(&self, token: &str) -> Result<Caller, Refused> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: Some(vec![AUDIENCE.into()]),
            },
            ..TokenReview::default()
        };
        let api = Api::<TokenReview>::all(self.client.clone());
        let how = PostParams::default();
        let asking = tokio::time::timeout(ANSWER_WITHIN, api.create(&how, &review));
        let answer = match asking.await {
            Ok(Ok(answer)) => answer,
            // No outage, and no reason to trust anybody.
            Ok(Err(kube::Error::Api(status))) if status.code == 401 || status.code == 403 => {
                return Err(Refused::MayNotAsk(status.message.clone()));
            }
            Ok(Err(error)) => return Err(Refused::Unavailable(error.to_string())),
            Err(_) => {
                let text = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
                return Err(Refused::Unavailable(text));
            }
        };
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
        Ok(Caller {
            user: user.username.unwrap_or_default(),
            pod,
        })
    }
}

/// When a ServiceAccount token ends. Nothing is checked: Kubernetes has vouched for it.
fn end(token: &str) -> Option<SystemTime> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims["exp"].as_u64()?))
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
    use std::sync::Arc;

    use mesh_config::{Interception, Role};
    use serde_json::json;

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

    /// Answers of a Kubernetes API: of a token review, or none at all.
    enum Api {
        Vouches,
        Denies,
        Away,
    }

    fn kubernetes(api: Arc<Mutex<Api>>) -> Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let authenticated = match *api.lock().unwrap() {
                Api::Vouches => Some(true),
                Api::Denies => Some(false),
                Api::Away => None,
            };
            async move {
                drop(request);
                let authenticated = authenticated.ok_or("connection refused")?;
                let answer = json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": ""},
                    "status": { "authenticated": authenticated, "user": { "username": "system:serviceaccount:ns:sa" } },
                });
                let answer = kube::client::Body::from(answer.to_string().into_bytes());
                Ok::<_, tower::BoxError>(http::Response::new(answer))
            }
        });
        Client::new(service, "default")
    }

    /// A token that ends so many seconds from now, or before.
    fn token(left: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(now.unwrap().as_secs()).unwrap();
        let claims = json!({ "exp": now + left }).to_string();
        format!("head.{}.signature", URL_SAFE_NO_PAD.encode(claims))
    }

    #[tokio::test]
    async fn while_kubernetes_is_away_its_last_word_holds_until_the_token_ends() {
        let api = Arc::new(Mutex::new(Api::Vouches));
        let authenticator = Authenticator::new(kubernetes(api.clone()));
        let accepts = async |token: &str| authenticator.service_account(Some(token)).await;
        let (lasting, ended, unknown) = (token(3600), token(-60), token(7200));
        for token in [&lasting, &ended] {
            assert!(accepts(token).await.is_ok(), "Kubernetes vouches for it");
        }
        // Everything that is known is older than a minute.
        for known in authenticator.known.lock().unwrap().values_mut() {
            known.since = known.since.checked_sub(REMEMBERED_FOR * 2).unwrap();
        }
        *api.lock().unwrap() = Api::Away;
        assert!(accepts(&lasting).await.is_ok());
        assert!(matches!(
            accepts(&ended).await,
            Err(Refused::Unavailable(_))
        ));
        assert!(matches!(
            accepts(&unknown).await,
            Err(Refused::Unavailable(_))
        ));
        *api.lock().unwrap() = Api::Denies;
        assert!(matches!(accepts(&lasting).await, Err(Refused::Invalid(_))));
        *api.lock().unwrap() = Api::Away;
        let last = accepts(&lasting).await;
        assert!(last.is_err(), "its last word was no");
    }
}
