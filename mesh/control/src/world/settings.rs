//! The mesh-wide settings: key `mesh` of the ConfigMap `istio`.

use std::collections::BTreeMap;

use mesh_api::{Duration, destination_rule::LocalityLbSetting, virtual_service::HttpRetry};
use mesh_config::{AccessLogFormat, Percent, SpanProtocol};
use serde::Deserialize;
use serde_json::Value;

use super::ext_authz::{self, ExtAuthzProvider};

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
#[derive(Clone, Debug, PartialEq)]
pub struct MeshSettings {
    /// `accessLogFile` is `/dev/stdout`.
    pub access_log: bool,
    /// `accessLogFormat` and `accessLogEncoding`; absent: Istio's default text.
    pub access_log_format: Option<AccessLogFormat>,
    /// Where spans go when no Telemetry says: of `defaultProviders.tracing`, else
    /// `defaultConfig.tracing.zipkin` while `enableTracing` is on.
    pub tracing: Option<mesh_config::Tracing>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound: OutboundPolicy,
    /// `defaultConfig.tracing.sampling` while `enableTracing` is on; Istio's default is 1 %.
    pub trace_sampling: Percent,
    /// `defaultHttpRetryPolicy`: for routes that say nothing of retries; absent: Istio's own.
    pub default_retry: Option<HttpRetry>,
    /// `enableAutoMtls`: mutual TLS where both sides can.
    pub auto_mtls: bool,
    /// `localityLbSetting`: for DestinationRules without one.
    pub locality_lb: Option<LocalityLbSetting>,
    /// `connectTimeout`: for DestinationRules without one.
    pub connect_timeout: Option<std::time::Duration>,
    /// `defaultServiceExportTo`; empty: everybody.
    pub service_export_to: Vec<String>,
    /// `defaultVirtualServiceExportTo`; empty: everybody.
    pub virtual_service_export_to: Vec<String>,
    /// `defaultDestinationRuleExportTo`; empty: everybody.
    pub destination_rule_export_to: Vec<String>,
    /// Names of `extensionProviders` that write access logs to standard output, and that take spans.
    pub providers: Providers,
    /// Who decides about requests of CUSTOM policies.
    pub ext_authz: Vec<ExtAuthzProvider>,
    /// What is not honoured, each with the reason.
    pub complaints: Vec<String>,
}

/// Who takes what workloads report, by the names that Telemetry knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    /// Access logs to standard output; `envoy` is always one.
    pub access_logs: Vec<String>,
    /// Spans.
    pub tracing: BTreeMap<String, mesh_config::Tracing>,
}

/// Fields of Istio's MeshConfig that are honoured.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    access_log_file: String,
    access_log_encoding: String,
    access_log_format: String,
    default_providers: DefaultProviders,
    outbound_traffic_policy: OutboundTrafficPolicy,
    enable_tracing: bool,
    enable_auto_mtls: Option<bool>,
    enable_prometheus_merge: Option<bool>,
    root_namespace: Option<String>,
    trust_domain: Option<String>,
    default_config: DefaultConfig,
    default_http_retry_policy: Option<HttpRetry>,
    locality_lb_setting: Option<LocalityLbSetting>,
    connect_timeout: Option<Duration>,
    default_service_export_to: Vec<String>,
    default_virtual_service_export_to: Vec<String>,
    default_destination_rule_export_to: Vec<String>,
    extension_providers: Vec<Provider>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OutboundTrafficPolicy {
    mode: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DefaultConfig {
    hold_application_until_proxy_starts: Option<bool>,
    tracing: Tracing,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tracing {
    sampling: Option<f64>,
    zipkin: Option<ZipkinAddress>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ZipkinAddress {
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DefaultProviders {
    tracing: Vec<String>,
}

/// A collector of spans: `opentelemetry` (with `http`) or `zipkin`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Collector {
    service: String,
    #[serde(deserialize_with = "super::port::number_or_text")]
    port: u16,
    path: String,
    http: Option<CollectorHttp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CollectorHttp {
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Provider {
    name: String,
    envoy_file_access_log: Option<FileAccessLog>,
    opentelemetry: Option<Collector>,
    zipkin: Option<Collector>,
    prometheus: Option<Value>,
    envoy_ext_authz_http: Option<ext_authz::Http>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FileAccessLog {
    path: String,
}

/// Where a Zipkin collector takes spans.
const ZIPKIN_PATH: &str = "/api/v2/spans";

impl Collector {
    fn tracing(&self, protocol: SpanProtocol, path: &str) -> mesh_config::Tracing {
        // NAMESPACE/HOST, where the host may be in several.
        let (service, port) = (self.service.rsplit('/').next().unwrap_or(""), self.port);
        mesh_config::Tracing {
            collector: format!("http://{service}:{port}/{}", path.trim_start_matches('/')),
            protocol,
            tags: BTreeMap::new(),
        }
    }
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            access_log: false,
            access_log_format: None,
            tracing: None,
            outbound: OutboundPolicy::AllowAny,
            trace_sampling: Percent::ZERO,
            default_retry: None,
            auto_mtls: true,
            locality_lb: None,
            connect_timeout: None,
            service_export_to: Vec::new(),
            virtual_service_export_to: Vec::new(),
            destination_rule_export_to: Vec::new(),
            providers: Providers::default(),
            ext_authz: Vec::new(),
            complaints: Vec::new(),
        }
    }
}

impl MeshSettings {
    /// From YAML. What is unknown or not honoured becomes a complaint, never a silence.
    ///
    /// # Errors
    /// A value of the wrong type: with the field, so that what was in force may stay.
    pub fn read(yaml: &str) -> Result<Self, String> {
        let mut complaints = Vec::new();
        let mesh: MeshConfig = if yaml.trim().is_empty() {
            MeshConfig::default()
        } else {
            let from = serde_norway::Deserializer::from_str(yaml);
            serde_ignored::deserialize(from, |path| {
                complaints.push(format!("{path} is not carried out"));
            })
            .map_err(|error| format!("ConfigMap istio, key mesh: {error}"))?
        };
        let mut settings = Self {
            access_log: mesh.access_log_file == "/dev/stdout",
            auto_mtls: mesh.enable_auto_mtls.unwrap_or(true),
            default_retry: mesh.default_http_retry_policy,
            locality_lb: mesh.locality_lb_setting,
            connect_timeout: mesh.connect_timeout.map(|limit| limit.0),
            service_export_to: mesh.default_service_export_to,
            virtual_service_export_to: mesh.default_virtual_service_export_to,
            destination_rule_export_to: mesh.default_destination_rule_export_to,
            ..Self::default()
        };
        let mut refuse = |wrong: bool, field: &str, value: &str| {
            if wrong {
                complaints.push(format!("{field}: {value:?} is not carried out"));
            }
        };
        let file = mesh.access_log_file.as_str();
        refuse(
            !file.is_empty() && !settings.access_log,
            "accessLogFile",
            file,
        );
        let encoding = mesh.access_log_encoding.as_str();
        settings.access_log_format = match (encoding, mesh.access_log_format.as_str()) {
            ("" | "TEXT", "") => None,
            ("" | "TEXT", text) => Some(AccessLogFormat::Text(text.to_owned())),
            ("JSON", "") => Some(AccessLogFormat::istio_json()),
            ("JSON", text) => match serde_json::from_str(text) {
                Ok(fields) => Some(AccessLogFormat::Json(fields)),
                Err(_) => {
                    refuse(true, "accessLogFormat", text);
                    None
                }
            },
            (other, _) => {
                refuse(true, "accessLogEncoding", other);
                None
            }
        };
        match mesh.outbound_traffic_policy.mode.as_str() {
            "" | "ALLOW_ANY" => {}
            "REGISTRY_ONLY" => settings.outbound = OutboundPolicy::RegistryOnly,
            other => refuse(true, "outboundTrafficPolicy.mode", other),
        }
        let sampling = mesh.default_config.tracing.sampling.unwrap_or(1.0);
        match Percent::from_percent(sampling) {
            Some(share) if mesh.enable_tracing => settings.trace_sampling = share,
            Some(_) => {}
            None => refuse(
                true,
                "defaultConfig.tracing.sampling",
                &sampling.to_string(),
            ),
        }
        let root = mesh.root_namespace.unwrap_or(crate::ROOT_NAMESPACE.into());
        refuse(root != crate::ROOT_NAMESPACE, "rootNamespace", &root);
        let trust = mesh.trust_domain.unwrap_or("cluster.local".into());
        refuse(trust != "cluster.local", "trustDomain", &trust);
        // The proxy starts before the application, and its metrics are merged, always.
        let hold = mesh.default_config.hold_application_until_proxy_starts;
        refuse(
            hold == Some(false),
            "defaultConfig.holdApplicationUntilProxyStarts",
            "false",
        );
        refuse(
            mesh.enable_prometheus_merge == Some(false),
            "enablePrometheusMerge",
            "false",
        );
        for provider in mesh.extension_providers {
            match provider {
                Provider {
                    envoy_file_access_log: Some(log),
                    name,
                    ..
                } => {
                    let path = log.path.as_str();
                    let stdout = matches!(path, "" | "/dev/stdout");
                    refuse(!stdout, "extensionProviders.envoyFileAccessLog.path", path);
                    settings
                        .providers
                        .access_logs
                        .extend(stdout.then_some(name));
                }
                Provider {
                    opentelemetry: Some(collector),
                    name,
                    ..
                } => match &collector.http {
                    Some(http) => {
                        let tracing = collector.tracing(SpanProtocol::Otlp, &http.path);
                        settings.providers.tracing.insert(name, tracing);
                    }
                    // Spans are told over HTTP, not over gRPC.
                    None => refuse(true, "extensionProviders.opentelemetry without http", &name),
                },
                Provider {
                    zipkin: Some(collector),
                    name,
                    ..
                } => {
                    let path = match collector.path.as_str() {
                        "" => ZIPKIN_PATH,
                        path => path,
                    };
                    let tracing = collector.tracing(SpanProtocol::Zipkin, path);
                    settings.providers.tracing.insert(name, tracing);
                }
                Provider {
                    prometheus: Some(_),
                    ..
                } => {}
                Provider {
                    envoy_ext_authz_http: Some(http),
                    name,
                    ..
                } => {
                    let status = http.status_on_error.clone();
                    match ExtAuthzProvider::new(&name, http) {
                        Some(provider) => settings.ext_authz.push(provider),
                        None => refuse(true, "extensionProviders.statusOnError", &status),
                    }
                }
                other => refuse(true, "extensionProviders", &other.name),
            }
        }
        let zipkin = mesh.default_config.tracing.zipkin.map(|zipkin| {
            let collector = format!("http://{}{ZIPKIN_PATH}", zipkin.address);
            mesh_config::Tracing {
                collector,
                protocol: SpanProtocol::Zipkin,
                tags: BTreeMap::new(),
            }
        });
        let chosen = mesh.default_providers.tracing.first();
        settings.tracing = match chosen {
            Some(name) => {
                let known = settings.providers.tracing.get(name).cloned();
                refuse(known.is_none(), "defaultProviders.tracing", name);
                known
            }
            None => zipkin.filter(|_| mesh.enable_tracing),
        };
        let named = |text| format!("ConfigMap istio, key mesh: {text}");
        settings.complaints = complaints.into_iter().map(named).collect();
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honours_what_it_knows_and_complains_about_the_rest() {
        let settings = MeshSettings::read(
            "accessLogFile: /dev/stdout\nenableTracing: true\nenableAutoMtls: false\n\
             defaultConfig: {tracing: {sampling: 50}, concurrency: 2}\n\
             outboundTrafficPolicy: {mode: REGISTRY_ONLY}\ndefaultServiceExportTo: [\".\"]\n\
             defaultHttpRetryPolicy: {attempts: 5, retryOn: \"503\", perTryTimeout: 2s}\n\
             extensionProviders: [{name: log, envoyFileAccessLog: {path: /dev/stdout}}, {name: x, datadog: {}},\n\
             {name: otel, opentelemetry: {service: istio-system/jaeger.istio-system.svc.cluster.local, port: 4318, http: {path: /v1/traces}}}]\n\
             rootNamespace: elsewhere\naccessLogEncoding: JSON\n\
             defaultProviders: {tracing: [otel]}\n",
        )
        .unwrap();
        assert!(settings.access_log && !settings.auto_mtls);
        assert_eq!(settings.outbound, OutboundPolicy::RegistryOnly);
        assert_eq!(settings.trace_sampling.millionths(), 500_000);
        assert_eq!(settings.default_retry.unwrap().attempts, Some(5));
        assert_eq!(settings.service_export_to, ["."]);
        assert_eq!(settings.providers.access_logs, ["log"]);
        assert_eq!(
            settings.access_log_format,
            Some(AccessLogFormat::istio_json())
        );
        let collector = "http://jaeger.istio-system.svc.cluster.local:4318/v1/traces";
        assert_eq!(settings.tracing.unwrap().collector, collector);
        assert_eq!(
            settings.complaints,
            [
                "ConfigMap istio, key mesh: defaultConfig.concurrency is not carried out",
                "ConfigMap istio, key mesh: extensionProviders.1.datadog is not carried out",
                "ConfigMap istio, key mesh: rootNamespace: \"elsewhere\" is not carried out",
                "ConfigMap istio, key mesh: extensionProviders: \"x\" is not carried out",
            ]
        );
        assert_eq!(MeshSettings::read(""), Ok(MeshSettings::default()));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = MeshSettings::read("enableTracing: perhaps\n").unwrap_err();
        assert!(error.contains("enableTracing"), "{error}");
    }
}
