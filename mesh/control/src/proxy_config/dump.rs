//! The sections of `/config_dump`.

use serde_json::Value;

/// A kind of resource.
#[derive(Clone, Copy)]
pub(crate) enum Section {
    Clusters,
    Endpoints,
    Listeners,
    Routes,
    Secrets,
}

impl Section {
    /// Type of the section, the list in it, and where in a member of the list the resource is.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Clusters => ("ClustersConfigDump", "dynamic_active_clusters", "/cluster"),
            Self::Endpoints => (
                "EndpointsConfigDump",
                "dynamic_endpoint_configs",
                "/endpoint_config",
            ),
            Self::Listeners => (
                "ListenersConfigDump",
                "dynamic_listeners",
                "/active_state/listener",
            ),
            Self::Routes => ("RoutesConfigDump", "dynamic_route_configs", "/route_config"),
            Self::Secrets => ("SecretsConfigDump", "dynamic_active_secrets", "/secret"),
        }
    }

    /// The resources of this kind; `None`: there is no such section.
    pub(crate) fn resources(self, dump: &Value) -> Option<Vec<&Value>> {
        let (_, list, resource) = self.place();
        let members = section(dump, self)?[list].as_array();
        let members = members.into_iter().flatten();
        Some(
            members
                .filter_map(|member| member.pointer(resource))
                .collect(),
        )
    }
}

/// The part of `/config_dump` that tells of a kind.
pub(crate) fn section(dump: &Value, of: Section) -> Option<&Value> {
    let (wanted, ..) = of.place();
    let kind = |config: &&Value| {
        let name = config["@type"].as_str().unwrap_or_default();
        name.ends_with(wanted)
    };
    dump["configs"].as_array()?.iter().find(kind)
}

pub(super) fn text<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_default()
}

/// The Istio resource behind a cluster or a route, as `NAME.NAMESPACE`; empty: none.
pub(super) fn resource_behind(message: &Value) -> String {
    let path = &message["metadata"]["filter_metadata"]["istio"]["config"];
    let path = path.as_str().unwrap_or_default();
    match *path.split('/').collect::<Vec<_>>() {
        [.., "namespaces", namespace, _, name] => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_resource_behind_is_read_from_its_path() {
        let path = mesh_config::names::config("destination-rule", "shop", "web");
        let message = json!({"metadata": {"filter_metadata": {"istio": {"config": path}}}});
        assert_eq!(resource_behind(&message), "web.shop");
        assert_eq!(resource_behind(&json!({"name": "x"})), "");
    }
}
