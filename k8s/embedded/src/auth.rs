//! Who is calling: client certificates and bearer tokens.
//!
//! What they may do then is said by [`rbac`]. Without a credential only version and health are open.

mod certificates;
pub mod rbac;
pub mod reviews;
mod tokens;

pub use certificates::Authority;
pub(crate) use certificates::write_private;
pub use tokens::{Binding, Claims, TokenKey};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// e.g. `kubernetes-admin`, `system:serviceaccount:default:web`.
    pub name: String,
    /// The uid of a ServiceAccount; else empty.
    pub uid: String,
    /// Groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What the credential says besides, e.g. the pod to which a token is bound.
    pub extra: Vec<(String, Vec<String>)>,
}

impl User {
    /// A caller with a name and groups; `system:authenticated` is added.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        groups.push("system:authenticated".into());
        User {
            name: name.into(),
            uid: String::new(),
            groups,
            extra: Vec::new(),
        }
    }

    /// The owner of the cluster: the client certificate in the kubeconfig.
    pub fn admin() -> Self {
        User::new("kubernetes-admin", &["system:masters"])
    }

    /// The cluster's own parts: controllers and runtime.
    pub fn cluster() -> Self {
        User::new("system:kube-controller-manager", &["system:masters"])
    }

    /// Nobody.
    pub fn anonymous() -> Self {
        User {
            name: "system:anonymous".into(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".into()],
            extra: Vec::new(),
        }
    }

    /// A ServiceAccount.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let mut user = User::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &of_namespace],
        );
        user.uid = uid.to_owned();
        user
    }

    /// Whether the caller has shown a credential.
    pub fn is_authenticated(&self) -> bool {
        self.groups
            .iter()
            .any(|group| group == "system:authenticated")
    }
}
