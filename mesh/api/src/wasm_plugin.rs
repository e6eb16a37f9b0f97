//! WasmPlugin: extensions of the proxy.

use crate::{
    PolicyTargetReference, WorkloadSelector, envoy_filter::Struct, virtual_service::PortSelector,
};

messages! {
    /// Adds a WebAssembly extension to some proxies.
    #[schemars(extend("required" = ["url"]))]
    WasmPlugin {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// Older form of targetRefs, with one target.
        target_ref: Option<PolicyTargetReference>,
        /// Objects that it is for.
        target_refs: Vec<PolicyTargetReference>,
        /// Where the module is: oci://, https:// or file://.
        url: String,
        /// Hash of the module.
        sha256: String,
        /// When the module is fetched again.
        image_pull_policy: Option<PullPolicy>,
        /// Secret for fetching it.
        image_pull_secret: String,
        /// Key that the module is checked with.
        verification_key: String,
        /// Configuration that the module gets.
        plugin_config: Option<Struct>,
        /// Name of the plugin in the module.
        plugin_name: String,
        /// Where in the chain it stands.
        phase: Option<PluginPhase>,
        /// Order within the phase: higher ones first.
        priority: Option<i32>,
        /// What happens when the module fails.
        fail_strategy: Option<FailStrategy>,
        /// Settings of the virtual machine.
        vm_config: Option<VmConfig>,
        /// Traffic that it is for; one is enough.
        r#match: Vec<TrafficSelector>,
        /// HTTP or network filter.
        r#type: Option<PluginType>,
    }

    /// Settings of the virtual machine.
    VmConfig {
        /// Environment of the module.
        env: Vec<EnvVar>,
    }

    /// A variable of the environment.
    #[schemars(extend("required" = ["name"]))]
    EnvVar {
        /// Its name.
        name: String,
        /// Where its value comes from.
        value_from: Option<EnvValueSource>,
        /// Its value.
        value: String,
    }

    /// Traffic that a plugin is for.
    TrafficSelector {
        /// Side of the proxy.
        mode: Option<WorkloadMode>,
        /// Ports.
        ports: Vec<PortSelector>,
    }
}

choices! {
    /// When a module is fetched again.
    PullPolicy {
        /// By its tag.
        #[serde(rename = "UNSPECIFIED_POLICY")]
        Unspecified,
        /// When it is not there.
        #[serde(rename = "IfNotPresent")]
        IfNotPresent,
        /// Always.
        #[serde(rename = "Always")]
        Always,
    }

    /// Where in the chain a plugin stands.
    PluginPhase {
        /// At the end.
        UnspecifiedPhase,
        /// Before authentication.
        Authn,
        /// Before authorization.
        Authz,
        /// Before the statistics.
        Stats,
    }

    /// What happens when a module fails.
    FailStrategy {
        /// Requests are refused.
        FailClose,
        /// Requests pass.
        FailOpen,
        /// The module is loaded again.
        FailReload,
    }

    /// Where a value comes from.
    EnvValueSource {
        /// It is given.
        Inline,
        /// The proxy's environment.
        Host,
    }

    /// Side of the proxy.
    WorkloadMode {
        /// Both.
        Undefined,
        /// From the workload.
        Client,
        /// To the workload.
        Server,
        /// Both.
        ClientAndServer,
    }

    /// Kind of plugin.
    PluginType {
        /// As HTTP.
        UnspecifiedPluginType,
        /// An HTTP filter.
        Http,
        /// A network filter.
        Network,
    }
}
