//! What a proxy tells about itself and about requests.

use serde::{Deserialize, Serialize};

/// Which statistics a proxy shows: what matches any of these, and always those of the process.
/// Istio's annotations `sidecar.istio.io/statsInclusion...` and `proxyStatsMatcher`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatsMatcher {
    /// Beginnings of names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Ends of names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<String>,
    /// Regular expressions for whole names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regexps: Vec<String>,
}

impl StatsMatcher {
    /// Nothing is said: all statistics are shown.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.suffixes.is_empty() && self.regexps.is_empty()
    }
}
