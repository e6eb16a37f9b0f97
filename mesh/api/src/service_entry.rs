//! ServiceEntry: services outside the registry.

use crate::{WorkloadSelectorLabels, workload::WorkloadEntry};

messages! {
    /// Makes a service known that is not a Kubernetes Service: an API on the internet, a machine
    /// outside the cluster.
    #[schemars(extend("required" = ["hosts"]))]
    ServiceEntry {
        /// Names of the service.
        hosts: Vec<String>,
        /// Virtual addresses or CIDRs, for traffic that carries no name.
        addresses: Vec<String>,
        /// Ports of the service.
        ports: Vec<ServicePort>,
        /// Whether it belongs to the mesh.
        location: Option<Location>,
        /// How its endpoints are found.
        resolution: Option<Resolution>,
        /// Its endpoints.
        endpoints: Vec<WorkloadEntry>,
        /// Pods and WorkloadEntries that are its endpoints.
        workload_selector: Option<WorkloadSelectorLabels>,
        /// Namespaces that see this resource: "*" is all, "." its own.
        export_to: Vec<String>,
        /// Names that certificates of its endpoints must carry.
        subject_alt_names: Vec<String>,
    }

    /// A port of a service.
    #[schemars(extend("required" = ["number", "name"]))]
    ServicePort {
        /// Its number.
        #[schemars(range(min = 0, max = 65535))]
        number: u32,
        /// HTTP, HTTPS, HTTP2, GRPC, TCP, TLS, MONGO, ...
        protocol: String,
        /// Its name.
        name: String,
        /// Port of the endpoints, when it differs.
        #[schemars(range(min = 0, max = 65535))]
        target_port: Option<u32>,
    }
}

choices! {
    /// Whether a service belongs to the mesh.
    Location {
        /// Outside: no mutual TLS.
        MeshExternal,
        /// Part of the mesh.
        MeshInternal,
    }

    /// How endpoints are found.
    Resolution {
        /// Where the caller dialled.
        None,
        /// The addresses of the endpoints.
        Static,
        /// By DNS; every address is used.
        Dns,
        /// By DNS; one address is used.
        DnsRoundRobin,
        /// By DNS, as requests name them.
        DynamicDns,
    }
}
