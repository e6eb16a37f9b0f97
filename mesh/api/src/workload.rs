//! WorkloadEntry and WorkloadGroup: workloads that are not pods.

use std::collections::BTreeMap;

messages! {
    /// A workload outside Kubernetes, such as a virtual machine.
    WorkloadEntry {
        /// IP address or DNS name.
        address: String,
        /// Numbers of the ports by name.
        ports: BTreeMap<String, u32>,
        /// Labels, as a pod would have them.
        labels: BTreeMap<String, String>,
        /// Network that it is in.
        network: String,
        /// Where it is, region/zone/subzone.
        locality: String,
        /// Share of the traffic, relative to the others.
        weight: u32,
        /// ServiceAccount that it runs as.
        service_account: String,
    }

    /// What the WorkloadEntries of similar machines have in common.
    #[schemars(extend("required" = ["template"]))]
    WorkloadGroup {
        /// Labels and annotations of the entries.
        metadata: Option<ObjectMeta>,
        /// The rest of the entries.
        template: WorkloadEntry,
        /// How the workloads are checked.
        probe: Option<ReadinessProbe>,
    }

    /// Labels and annotations.
    ObjectMeta {
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    }

    /// How a workload is checked.
    ReadinessProbe {
        /// Time before the first check.
        #[schemars(range(min = 0))]
        initial_delay_seconds: Option<i32>,
        /// Limit of one check.
        #[schemars(range(min = 0))]
        timeout_seconds: Option<i32>,
        /// Time between checks.
        #[schemars(range(min = 0))]
        period_seconds: Option<i32>,
        /// Good checks in a row that make it ready.
        #[schemars(range(min = 0))]
        success_threshold: Option<i32>,
        /// Bad checks in a row that make it not ready.
        #[schemars(range(min = 0))]
        failure_threshold: Option<i32>,
        /// By an HTTP request.
        http_get: Option<HttpHealthCheck>,
        /// By connecting.
        tcp_socket: Option<TcpHealthCheck>,
        /// By a command.
        exec: Option<ExecHealthCheck>,
        /// By gRPC's health protocol.
        grpc: Option<GrpcHealthCheck>,
    }

    /// A check by an HTTP request.
    #[schemars(extend("required" = ["port"]))]
    HttpHealthCheck {
        /// Path of the request.
        path: String,
        /// Port of the request.
        #[schemars(range(min = 0, max = 65535))]
        port: u32,
        /// Host that is connected to.
        host: String,
        /// http or https.
        scheme: String,
        /// Headers of the request.
        http_headers: Vec<HttpHeader>,
    }

    /// A header.
    HttpHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// A check by connecting.
    #[schemars(extend("required" = ["port"]))]
    TcpHealthCheck {
        /// Host that is connected to.
        host: String,
        /// Port that is connected to.
        #[schemars(range(min = 0, max = 65535))]
        port: u32,
    }

    /// A check by a command.
    ExecHealthCheck {
        /// The command and its arguments.
        command: Vec<String>,
    }

    /// A check by gRPC's health protocol.
    GrpcHealthCheck {
        /// Port that is connected to.
        #[schemars(range(min = 0, max = 65535))]
        port: u32,
        /// Service that is asked about.
        service: String,
    }
}
