//! What kinds a cluster has, and what they are called: `po`, `pods`, `pod`, `deployments.apps`, `all`.

use anyhow::{anyhow, bail};
use futures::TryFutureExt;
use serde_json::Value;

use super::server::Server;

/// Asks for all kinds of a group tree in one answer.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `apps`; empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `deployments`.
    pub plural: String,
    /// `deployment`.
    pub singular: String,
    /// `Deployment`.
    pub kind: String,
    /// `deploy`.
    pub short: Vec<String>,
    /// `all`.
    categories: Vec<String>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// `deployment.apps`: what stands before a name.
    pub fn title(&self) -> String {
        if self.group.is_empty() {
            self.singular.clone()
        } else {
            format!("{}.{}", self.singular, self.group)
        }
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where its objects are; those of all namespaces when none is given.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let version = self.api_version();
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{version}/{}", self.plural),
        }
    }

    /// Where one object is.
    pub fn path_of(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.path(Some(namespace)))
    }

    fn is_called(&self, word: &str) -> bool {
        [
            &self.plural,
            &self.singular,
            &self.kind.to_ascii_lowercase(),
        ]
        .into_iter()
        .chain(&self.short)
        .any(|name| name == word)
    }
}

/// All kinds, in the order in which the server tells them.
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer, or is older than Kubernetes 1.27.
    pub async fn of(server: &Server) -> anyhow::Result<Self> {
        let ask = |path| {
            server
                .get_as(path, AGGREGATED)
                .map_ok(|answer| read(&answer))
        };
        let (mut core, groups) = futures::try_join!(ask("/api"), ask("/apis"))?;
        core.extend(groups);
        if core.is_empty() {
            bail!(
                "this cluster does not tell its kinds in one answer: Kubernetes 1.27 or later does"
            );
        }
        Ok(Self(core))
    }

    /// All of them.
    pub fn all(&self) -> &[Kind] {
        &self.0
    }

    /// The kinds that a word of a command line means: `deploy`, `all`, `deployments.apps`.
    ///
    /// # Errors
    /// When there is none.
    pub fn called(&self, word: &str) -> anyhow::Result<Vec<Kind>> {
        let lower = word.to_ascii_lowercase();
        let in_category: Vec<Kind> = self
            .0
            .iter()
            .filter(|kind| kind.categories.contains(&lower))
            .cloned()
            .collect();
        if !in_category.is_empty() {
            return Ok(in_category);
        }
        let (name, group) = lower.split_once('.').unwrap_or((&lower, ""));
        // `deployments.v1.apps` names the version too.
        let fits = |kind: &&Kind| {
            let with_version = format!("{}.{}", kind.version, kind.group);
            kind.is_called(name)
                && (group.is_empty() || kind.group == group || with_version == group)
        };
        let found = self.0.iter().find(fits).cloned();
        found
            .map(|kind| vec![kind])
            .ok_or_else(|| anyhow!("the server doesn't have a resource type {word:?}"))
    }

    /// The kind of a manifest.
    ///
    /// # Errors
    /// When the server has none like it.
    pub fn of_manifest(&self, api_version: &str, kind: &str) -> anyhow::Result<Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = self
            .0
            .iter()
            .find(|known| known.group == group && known.kind == kind);
        match found {
            Some(known) => Ok(Kind {
                version: version.to_owned(),
                ..known.clone()
            }),
            None => bail!(
                "no matches for kind {kind:?} in version {api_version:?}\nensure CRDs are installed first"
            ),
        }
    }
}

/// The kinds of an aggregated answer, each in its preferred version.
fn read(answer: &Value) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for group in items(&answer["items"]) {
        // The preferred version stands first.
        let mut known: Vec<String> = Vec::new();
        for version in items(&group["versions"]) {
            for resource in items(&version["resources"]) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let plural = text(&resource["resource"]);
                if known.contains(&plural) {
                    continue;
                }
                known.push(plural.clone());
                let kind = text(&resource["responseKind"]["kind"]);
                let singular = Some(text(&resource["singularResource"])).filter(|s| !s.is_empty());
                let words = |list: &Value| items(list).map(text).collect();
                kinds.push(Kind {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    singular: singular.unwrap_or_else(|| kind.to_ascii_lowercase()),
                    short: words(&resource["shortNames"]),
                    categories: words(&resource["categories"]),
                    namespaced: resource["scope"] == "Namespaced",
                    plural,
                    kind,
                });
            }
        }
    }
    kinds
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A few kinds.
    pub fn some() -> Kinds {
        let resource = |plural: &str, kind: &str, short: &str, categories: &[&str], scope: &str| {
            json!({ "resource": plural, "responseKind": { "kind": kind }, "scope": scope,
                "singularResource": kind.to_lowercase(), "shortNames": [short], "categories": categories })
        };
        let group = |name: &str, resources: Value| {
            json!({ "metadata": { "name": name },
                "versions": [{ "version": "v1", "resources": resources }, { "version": "v1beta1", "resources": resources }] })
        };
        let answer = json!({ "items": [
            group("", json!([
                resource("namespaces", "Namespace", "ns", &[], "Cluster"),
                resource("pods", "Pod", "po", &["all"], "Namespaced"),
            ])),
            group("apps", json!([resource("deployments", "Deployment", "deploy", &["all"], "Namespaced")])),
            group("networking.istio.io", json!([resource("gateways", "Gateway", "gw", &[], "Namespaced")])),
        ]});
        Kinds(read(&answer))
    }

    #[test]
    fn kinds_are_found_by_every_name() {
        let kinds = some();
        for word in ["po", "pod", "pods", "Pod"] {
            assert_eq!(kinds.called(word).unwrap()[0].plural, "pods");
        }
        for word in [
            "deployments.apps",
            "deployment.apps",
            "deploy",
            "deployments.v1.apps",
        ] {
            assert_eq!(kinds.called(word).unwrap()[0].title(), "deployment.apps");
        }
        let all: Vec<String> = kinds
            .called("all")
            .unwrap()
            .iter()
            .map(Kind::title)
            .collect();
        assert_eq!(all, ["pod", "deployment.apps"]);
        assert!(kinds.called("gateways.gateway.networking.k8s.io").is_err());
        assert_eq!(
            kinds.called("user02").unwrap_err().to_string(),
            "the server doesn't have a resource type \"user02\""
        );
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let kinds = some();
        let one = |word: &str| kinds.called(word).unwrap().remove(0);
        assert_eq!(one("po").path_of("a", "b"), "/api/v1/namespaces/a/pods/b");
        assert_eq!(one("ns").path_of("a", "b"), "/api/v1/namespaces/b");
        assert_eq!(one("deploy").path(None), "/apis/apps/v1/deployments");
        let old = kinds
            .of_manifest("networking.istio.io/v1alpha3", "Gateway")
            .unwrap();
        assert_eq!(
            old.path_of("a", "b"),
            "/apis/networking.istio.io/v1alpha3/namespaces/a/gateways/b"
        );
    }
}
