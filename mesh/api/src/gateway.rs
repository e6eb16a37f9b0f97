//! Gateway: what the proxies at the edge listen for.

use std::collections::BTreeMap;

messages! {
    /// Ports and hosts that the proxies at the edge of the mesh accept.
    #[schemars(extend("required" = ["servers"]))]
    Gateway {
        /// What is accepted.
        servers: Vec<Server>,
        /// Labels of the gateway pods; in any namespace.
        selector: BTreeMap<String, String>,
    }

    /// One port and the hosts that are served there.
    #[schemars(extend("required" = ["port", "hosts"]))]
    Server {
        /// The port, as the Service of the gateway numbers it.
        port: Port,
        /// Address to listen on; unusual.
        bind: String,
        /// Hosts, optionally with the namespace whose VirtualServices may use them:
        /// example.com, *.example.com, shop/example.com.
        hosts: Vec<String>,
        /// TLS of the port.
        tls: Option<ServerTlsSettings>,
        /// Where traffic goes without a route; not implemented by Istio.
        default_endpoint: String,
        /// Name of the server.
        name: String,
    }

    /// A port.
    #[schemars(extend("required" = ["number", "protocol", "name"]))]
    Port {
        /// Its number.
        #[schemars(range(min = 0, max = 65535))]
        number: u32,
        /// HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TCP, TLS, MONGO, REDIS or MYSQL.
        protocol: String,
        /// Its name.
        name: String,
        /// Without effect on gateways.
        #[schemars(range(min = 0, max = 65535))]
        target_port: Option<u32>,
    }

    /// TLS of a port.
    ServerTlsSettings {
        /// Answer plain HTTP with a redirect to https.
        https_redirect: bool,
        /// Who shows a certificate, or whether TLS is passed through.
        mode: Option<ServerTlsMode>,
        /// File with the server's certificate.
        server_certificate: String,
        /// File with the server's private key.
        private_key: String,
        /// File with the authorities that clients are checked against.
        ca_certificates: String,
        /// File with revoked certificates.
        ca_crl: String,
        /// Secret that holds the certificate and the key.
        credential_name: String,
        /// Several such Secrets, for keys of different types.
        credential_names: Vec<String>,
        /// Certificate and key files, for keys of different types.
        tls_certificates: Vec<TlsCertificate>,
        /// Names that a client's certificate must carry.
        subject_alt_names: Vec<String>,
        /// Hashes of the public keys that are accepted.
        verify_certificate_spki: Vec<String>,
        /// Hashes of the certificates that are accepted.
        verify_certificate_hash: Vec<String>,
        /// Oldest TLS version; 1.2 when absent.
        min_protocol_version: Option<TlsProtocol>,
        /// Newest TLS version.
        max_protocol_version: Option<TlsProtocol>,
        /// Cipher suites that are accepted.
        cipher_suites: Vec<String>,
    }

    /// Files of a certificate.
    TlsCertificate {
        /// File with the certificate.
        server_certificate: String,
        /// File with the private key.
        private_key: String,
        /// File with the authorities that clients are checked against.
        ca_certificates: String,
    }
}

choices! {
    /// Who shows a certificate, or whether TLS is passed through.
    ServerTlsMode {
        /// Not terminated: chosen by SNI and passed on.
        Passthrough,
        /// The server shows one.
        Simple,
        /// Both do.
        Mutual,
        /// Not terminated, and the service is named by the SNI.
        AutoPassthrough,
        /// Both show the certificates of the mesh.
        IstioMutual,
        /// The client may.
        OptionalMutual,
    }

    /// A TLS version.
    TlsProtocol {
        /// The proxy decides.
        TlsAuto,
        /// TLS 1.0.
        #[serde(rename = "TLSV1_0")]
        Tlsv1_0,
        /// TLS 1.1.
        #[serde(rename = "TLSV1_1")]
        Tlsv1_1,
        /// TLS 1.2.
        #[serde(rename = "TLSV1_2")]
        Tlsv1_2,
        /// TLS 1.3.
        #[serde(rename = "TLSV1_3")]
        Tlsv1_3,
    }
}
