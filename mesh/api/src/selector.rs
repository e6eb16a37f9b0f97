//! How resources choose the workloads that they are about.

use std::collections::BTreeMap;

messages! {
    /// Chooses pods by their labels; all of them must match.
    WorkloadSelector {
        /// Labels that a pod must carry.
        match_labels: BTreeMap<String, String>,
    }

    /// Chooses pods by their labels; all of them must match.
    WorkloadSelectorLabels {
        /// Labels that a pod must carry.
        labels: BTreeMap<String, String>,
    }

    /// Names an object that a policy is attached to.
    #[schemars(extend("required" = ["kind", "name"]))]
    PolicyTargetReference {
        /// API group of the object; empty for the core group.
        group: String,
        /// Kind of the object, such as Gateway or Service.
        kind: String,
        /// Name of the object.
        name: String,
        /// Namespace of the object; only the policy's own is allowed.
        namespace: String,
    }
}
