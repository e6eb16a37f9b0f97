//! The mesh-wide settings: key `mesh` of the ConfigMap `istio`.

use mesh_config::Percent;
use serde_json::Value;

/// What becomes of traffic to hosts that the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// It is let through.
    #[default]
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

/// The settings that are honoured, and what else was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshSettings {
    /// `accessLogFile` is `/dev/stdout`.
    pub access_log: bool,
    /// `outboundTrafficPolicy.mode`.
    pub outbound: OutboundPolicy,
    /// `defaultConfig.tracing.sampling` while `enableTracing` is on; Istio's default is 1 %.
    pub trace_sampling: Percent,
    /// What is not honoured, each with the reason.
    pub complaints: Vec<String>,
}

impl MeshSettings {
    /// From YAML. What cannot be read or is unknown becomes a complaint, never a silence.
    pub fn read(yaml: &str) -> Self {
        let mut settings = Self::default();
        let mesh: Value = match serde_norway::from_str(yaml) {
            Ok(mesh) => mesh,
            Err(error) => {
                settings.complaints.push(format!(
                    "ConfigMap istio, key mesh: {error}; defaults are used"
                ));
                return settings;
            }
        };
        let mut tracing = false;
        let mut sampling = 1.0;
        for (path, value) in leaves(&mesh) {
            let known = match (path.as_str(), value) {
                ("accessLogFile", Value::String(file)) => {
                    settings.access_log = file == "/dev/stdout";
                    file.is_empty() || file == "/dev/stdout"
                }
                ("outboundTrafficPolicy.mode", Value::String(mode)) => match mode.as_str() {
                    "ALLOW_ANY" => true,
                    "REGISTRY_ONLY" => {
                        settings.outbound = OutboundPolicy::RegistryOnly;
                        true
                    }
                    _ => false,
                },
                ("enableTracing", Value::Bool(on)) => {
                    tracing = *on;
                    true
                }
                ("defaultConfig.tracing.sampling", Value::Number(percent)) => {
                    sampling = percent.as_f64().unwrap_or(-1.0);
                    Percent::from_percent(sampling).is_some()
                }
                ("rootNamespace", Value::String(name)) => name == crate::ROOT_NAMESPACE,
                ("trustDomain", Value::String(name)) => name == "cluster.local",
                _ => false,
            };
            if !known {
                settings.complaints.push(format!(
                    "ConfigMap istio, key mesh: {path}: {value} is not carried out"
                ));
            }
        }
        if tracing {
            settings.trace_sampling = Percent::from_percent(sampling).unwrap_or_default();
        }
        settings
    }
}

/// Every scalar with its dotted path.
fn leaves(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| {
                leaves(value).into_iter().map(move |(path, leaf)| {
                    (
                        if path.is_empty() {
                            name.clone()
                        } else {
                            format!("{name}.{path}")
                        },
                        leaf,
                    )
                })
            })
            .collect(),
        Value::Null => Vec::new(),
        leaf => vec![(String::new(), leaf)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honours_what_it_knows_and_complains_about_the_rest() {
        let settings = MeshSettings::read(
            "accessLogFile: /dev/stdout\nenableTracing: true\ndefaultConfig: {tracing: {sampling: 50}, concurrency: 2}\n\
             outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
        );
        assert!(settings.access_log);
        assert_eq!(settings.outbound, OutboundPolicy::RegistryOnly);
        assert_eq!(settings.trace_sampling.millionths(), 500_000);
        assert_eq!(
            settings.complaints,
            ["ConfigMap istio, key mesh: defaultConfig.concurrency: 2 is not carried out"]
        );
    }
}
