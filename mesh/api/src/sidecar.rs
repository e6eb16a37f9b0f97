//! Sidecar: what the proxies of some pods are told about.

use crate::{
    WorkloadSelectorLabels, destination_rule::ConnectionPoolSettings, gateway::ServerTlsSettings,
    service_entry::ServicePort, virtual_service::Destination,
};

messages! {
    /// Limits what the sidecars of some pods know and accept.
    Sidecar {
        /// Pods that it is for; all of the namespace when absent.
        workload_selector: Option<WorkloadSelectorLabels>,
        /// Ports that the sidecar accepts.
        ingress: Vec<IstioIngressListener>,
        /// Services that the sidecar knows.
        egress: Vec<IstioEgressListener>,
        /// Limits of connections to the workload.
        inbound_connection_pool: Option<ConnectionPoolSettings>,
        /// What becomes of traffic to unknown services.
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// A port that the sidecar accepts.
    #[schemars(extend("required" = ["port"]))]
    IstioIngressListener {
        /// The port.
        port: ServicePort,
        /// Address to listen on.
        bind: String,
        /// How traffic gets there.
        capture_mode: Option<CaptureMode>,
        /// Where the workload listens: 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///PATH.
        default_endpoint: String,
        /// TLS of the port.
        tls: Option<ServerTlsSettings>,
        /// Limits of connections to the workload.
        connection_pool: Option<ConnectionPoolSettings>,
    }

    /// Services that the sidecar knows.
    #[schemars(extend("required" = ["hosts"]))]
    IstioEgressListener {
        /// Port to listen on; the services' own when absent.
        port: Option<ServicePort>,
        /// Address to listen on.
        bind: String,
        /// How traffic gets there.
        capture_mode: Option<CaptureMode>,
        /// Services as NAMESPACE/HOST; "*" is all and "." the own namespace.
        hosts: Vec<String>,
    }

    /// What becomes of traffic to unknown services.
    OutboundTrafficPolicy {
        /// Let it through or refuse it.
        mode: Option<OutboundTrafficPolicyMode>,
        /// A service that takes it.
        egress_proxy: Option<Destination>,
    }
}

choices! {
    /// How traffic gets to a listener.
    CaptureMode {
        /// As for the rest of the proxy.
        Default,
        /// Redirected by iptables.
        Iptables,
        /// Not at all: clients connect to it.
        None,
    }

    /// What becomes of traffic to unknown services.
    OutboundTrafficPolicyMode {
        /// It is refused.
        RegistryOnly,
        /// It is let through.
        AllowAny,
    }
}
