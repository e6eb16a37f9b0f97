//! ProxyConfig: settings of the proxies themselves.

use std::collections::BTreeMap;

use crate::WorkloadSelector;

messages! {
    /// Settings of the proxies of some pods.
    ProxyConfig {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// Worker threads; 0 for one per core.
        #[schemars(range(min = 0))]
        concurrency: Option<i32>,
        /// Environment of the proxy.
        environment_variables: BTreeMap<String, String>,
        /// Image of the proxy.
        image: Option<ProxyImage>,
    }

    /// Image of the proxy.
    ProxyImage {
        /// Flavour of the image, such as distroless.
        image_type: String,
    }
}
