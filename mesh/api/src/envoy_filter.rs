//! EnvoyFilter: patches of what proxies are told.

use serde_json::{Map, Value};

use crate::{PolicyTargetReference, WorkloadSelectorLabels};

/// Any JSON object: a piece of Envoy's configuration.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct Struct(pub Map<String, Value>);

impl schemars::JsonSchema for Struct {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Struct".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

messages! {
    /// Changes the generated configuration of some proxies, in Envoy's own terms.
    EnvoyFilter {
        /// Pods that it is for; all of the namespace when absent.
        workload_selector: Option<WorkloadSelectorLabels>,
        /// Objects that it is for.
        target_refs: Vec<PolicyTargetReference>,
        /// The changes, in order.
        config_patches: Vec<EnvoyConfigObjectPatch>,
        /// Order among EnvoyFilters: lower ones first.
        priority: i32,
    }

    /// One change.
    EnvoyConfigObjectPatch {
        /// Which kind of object is changed.
        apply_to: Option<ApplyTo>,
        /// Which objects of that kind.
        r#match: Option<EnvoyConfigObjectMatch>,
        /// What is changed.
        patch: Option<Patch>,
    }

    /// Which objects are changed.
    EnvoyConfigObjectMatch {
        /// On which side of which proxy.
        context: Option<PatchContext>,
        /// Conditions on the proxy.
        proxy: Option<ProxyMatch>,
        /// Conditions on the listener.
        listener: Option<ListenerMatch>,
        /// Conditions on the route table.
        route_configuration: Option<RouteConfigurationMatch>,
        /// Conditions on the cluster.
        cluster: Option<ClusterMatch>,
        /// Conditions on the waypoint.
        waypoint: Option<WaypointMatch>,
    }

    /// Conditions on the proxy.
    ProxyMatch {
        /// A regular expression for its version.
        proxy_version: String,
        /// Metadata that it must carry.
        metadata: std::collections::BTreeMap<String, String>,
    }

    /// Conditions on a cluster.
    ClusterMatch {
        /// Port of the service.
        port_number: u32,
        /// Host of the service.
        service: String,
        /// Name of the subset.
        subset: String,
        /// Exact name of the cluster.
        name: String,
    }

    /// Conditions on a route table.
    RouteConfigurationMatch {
        /// Port of the service or of the gateway.
        port_number: u32,
        /// Name of the port, at a gateway.
        port_name: String,
        /// Gateway, as NAMESPACE/NAME.
        gateway: String,
        /// Conditions on the virtual host.
        vhost: Option<VirtualHostMatch>,
        /// Exact name of the table.
        name: String,
    }

    /// Conditions on a virtual host.
    VirtualHostMatch {
        /// Its name, HOST:PORT.
        name: String,
        /// Conditions on the route.
        route: Option<RouteMatch>,
        /// A domain that it serves.
        domain_name: String,
    }

    /// Conditions on a route.
    RouteMatch {
        /// Its name.
        name: String,
        /// What it does.
        action: Option<RouteAction>,
    }

    /// Conditions on a listener.
    ListenerMatch {
        /// Its port.
        port_number: u32,
        /// Unused.
        port_name: String,
        /// Conditions on the filter chain.
        filter_chain: Option<FilterChainMatch>,
        /// A listener filter by name.
        listener_filter: String,
        /// Exact name of the listener.
        name: String,
    }

    /// Conditions on a filter chain.
    FilterChainMatch {
        /// Its name.
        name: String,
        /// Server name that it is chosen by.
        sni: String,
        /// Transport that it is chosen by.
        transport_protocol: String,
        /// Application protocols that it is chosen by.
        application_protocols: String,
        /// A filter in it.
        filter: Option<FilterMatch>,
        /// Port that it is chosen by.
        destination_port: u32,
    }

    /// A network filter.
    FilterMatch {
        /// Its name.
        name: String,
        /// A filter within it.
        sub_filter: Option<SubFilterMatch>,
    }

    /// An HTTP filter.
    SubFilterMatch {
        /// Its name.
        name: String,
    }

    /// Conditions on a waypoint.
    WaypointMatch {
        /// A network filter.
        filter: Option<FilterMatch>,
        /// Port of the service.
        port_number: u32,
        /// Conditions on the route.
        route: Option<SubFilterMatch>,
    }

    /// What is changed.
    Patch {
        /// How.
        operation: Option<PatchOperation>,
        /// A piece of Envoy's configuration.
        value: Option<Struct>,
        /// Where an added filter stands.
        filter_class: Option<FilterClass>,
    }
}

choices! {
    /// Kind of object.
    ApplyTo {
        /// None.
        Invalid,
        /// A listener.
        Listener,
        /// A filter chain of a listener.
        FilterChain,
        /// A filter of a chain.
        NetworkFilter,
        /// An HTTP filter.
        HttpFilter,
        /// A route table.
        RouteConfiguration,
        /// A virtual host.
        VirtualHost,
        /// A route.
        HttpRoute,
        /// A cluster.
        Cluster,
        /// An extension.
        ExtensionConfig,
        /// The bootstrap configuration.
        Bootstrap,
        /// A listener filter.
        ListenerFilter,
    }

    /// Side of a proxy.
    PatchContext {
        /// Any.
        Any,
        /// To the workload.
        SidecarInbound,
        /// From the workload.
        SidecarOutbound,
        /// At a gateway.
        Gateway,
        /// At a waypoint.
        Waypoint,
    }

    /// What a route does.
    RouteAction {
        /// Anything.
        Any,
        /// Forwards.
        Route,
        /// Redirects.
        Redirect,
        /// Answers.
        DirectResponse,
    }

    /// How an object is changed.
    PatchOperation {
        /// None.
        Invalid,
        /// Fields are merged; lists grow.
        Merge,
        /// The value is added.
        Add,
        /// The object is removed.
        Remove,
        /// The value is put before it.
        InsertBefore,
        /// The value is put after it.
        InsertAfter,
        /// The value is put first.
        InsertFirst,
        /// The value takes its place.
        Replace,
        /// Fields are merged; lists are replaced.
        MergeAndReplaceList,
    }

    /// Where an added filter stands.
    FilterClass {
        /// The proxy decides.
        Unspecified,
        /// After authentication.
        Authn,
        /// After authorization.
        Authz,
        /// Among the statistics.
        Stats,
    }
}
