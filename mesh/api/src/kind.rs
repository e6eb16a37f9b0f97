//! The kinds of Istio's API: names, versions, and what `kubectl get` prints.

use schemars::{Schema, SchemaGenerator};

use crate::{
    destination_rule, envoy_filter, gateway, proxy_config, security, service_entry, sidecar,
    telemetry, virtual_service, wasm_plugin, workload,
};

/// A printed column: name, JSONPath, type, description.
pub type Column = (&'static str, &'static str, &'static str, &'static str);

/// One kind of Istio's API.
#[derive(Debug)]
pub struct Kind {
    /// `VirtualService`.
    pub kind: &'static str,
    /// `virtualservices`.
    pub plural: &'static str,
    /// `vs`.
    pub short_names: &'static [&'static str],
    /// `networking.istio.io`.
    pub group: &'static str,
    /// All that are served, the stored one first.
    pub versions: &'static [&'static str],
    /// Between name and age.
    pub columns: &'static [Column],
    /// The control plane compiles it. Others are stored and reported as without effect.
    pub carried_out: bool,
    pub(crate) spec: fn(&mut SchemaGenerator) -> Schema,
}

impl Kind {
    /// `virtualservice`.
    pub fn singular(&self) -> String {
        self.kind.to_ascii_lowercase()
    }
}

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == name)
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const ALL: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const STABLE: &[&str] = &["v1", "v1beta1"];

/// Every kind, in the order in which the CustomResourceDefinitions are printed.
pub const KINDS: &[Kind] = &[
    Kind {
        kind: "VirtualService",
        plural: "virtualservices",
        short_names: &["vs"],
        group: NETWORKING,
        versions: ALL,
        columns: &[
            (
                "Gateways",
                ".spec.gateways",
                "string",
                "Gateways that apply the rules",
            ),
            (
                "Hosts",
                ".spec.hosts",
                "string",
                "Hosts that the rules are for",
            ),
        ],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<virtual_service::VirtualService>,
    },
    Kind {
        kind: "DestinationRule",
        plural: "destinationrules",
        short_names: &["dr"],
        group: NETWORKING,
        versions: ALL,
        columns: &[(
            "Host",
            ".spec.host",
            "string",
            "Service that the rule is for",
        )],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<destination_rule::DestinationRule>,
    },
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short_names: &["gw"],
        group: NETWORKING,
        versions: ALL,
        columns: &[],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<gateway::Gateway>,
    },
    Kind {
        kind: "ServiceEntry",
        plural: "serviceentries",
        short_names: &["se"],
        group: NETWORKING,
        versions: ALL,
        columns: &[
            ("Hosts", ".spec.hosts", "string", "Names of the service"),
            (
                "Location",
                ".spec.location",
                "string",
                "Whether it belongs to the mesh",
            ),
            (
                "Resolution",
                ".spec.resolution",
                "string",
                "How its endpoints are found",
            ),
        ],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<service_entry::ServiceEntry>,
    },
    Kind {
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short_names: &["we"],
        group: NETWORKING,
        versions: ALL,
        columns: &[(
            "Address",
            ".spec.address",
            "string",
            "Address of the workload",
        )],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<workload::WorkloadEntry>,
    },
    Kind {
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short_names: &["wg"],
        group: NETWORKING,
        versions: ALL,
        columns: &[],
        carried_out: false,
        spec: SchemaGenerator::subschema_for::<workload::WorkloadGroup>,
    },
    Kind {
        kind: "Sidecar",
        plural: "sidecars",
        short_names: &[],
        group: NETWORKING,
        versions: ALL,
        columns: &[],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<sidecar::Sidecar>,
    },
    Kind {
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        short_names: &[],
        group: NETWORKING,
        versions: &["v1alpha3"],
        columns: &[],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<envoy_filter::EnvoyFilter>,
    },
    Kind {
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short_names: &[],
        group: NETWORKING,
        versions: &["v1beta1"],
        columns: &[],
        carried_out: false,
        spec: SchemaGenerator::subschema_for::<proxy_config::ProxyConfig>,
    },
    Kind {
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short_names: &["pa"],
        group: SECURITY,
        versions: STABLE,
        columns: &[("Mode", ".spec.mtls.mode", "string", "What is accepted")],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<security::PeerAuthentication>,
    },
    Kind {
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short_names: &["ap"],
        group: SECURITY,
        versions: STABLE,
        columns: &[(
            "Action",
            ".spec.action",
            "string",
            "What becomes of matching requests",
        )],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<security::AuthorizationPolicy>,
    },
    Kind {
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short_names: &["ra"],
        group: SECURITY,
        versions: STABLE,
        columns: &[],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<security::RequestAuthentication>,
    },
    Kind {
        kind: "Telemetry",
        plural: "telemetries",
        short_names: &[],
        group: "telemetry.istio.io",
        versions: &["v1", "v1alpha1"],
        columns: &[],
        carried_out: true,
        spec: SchemaGenerator::subschema_for::<telemetry::Telemetry>,
    },
    Kind {
        kind: "WasmPlugin",
        plural: "wasmplugins",
        short_names: &[],
        group: "extensions.istio.io",
        versions: &["v1alpha1"],
        columns: &[],
        carried_out: false,
        spec: SchemaGenerator::subschema_for::<wasm_plugin::WasmPlugin>,
    },
];
