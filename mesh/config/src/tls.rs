//! TLS towards clients and towards endpoints. Certificates and authorities are named, not held:
//! the names are those of Envoy's secrets.
//!
//! | name | what |
//! | --- | --- |
//! | [`WORKLOAD`] | the proxy's own certificate, signed by the mesh; its key never leaves the proxy |
//! | [`MESH_ROOT`] | the authorities of the mesh |
//! | `kubernetes://NAME`, `kubernetes://NAME-cacert` | a [`Secret`] of the snapshot |
//! | `file-cert:CERTIFICATE~KEY`, `file-root:AUTHORITIES` | files beside the proxy |
//! | [`SYSTEM_ROOT`] | the authorities that the system trusts |

use serde::{Deserialize, Serialize};

/// The proxy's own certificate.
pub const WORKLOAD: &str = "default";
/// The authorities of the mesh.
pub const MESH_ROOT: &str = "ROOTCA";
/// The authorities that the system trusts.
pub const SYSTEM_ROOT: &str = "file-root:system";

/// What a connection's first bytes must be for a filter chain to take it, and the TLS that the
/// chain then speaks. The default takes any connection and passes its bytes on as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Transport {
    /// Whether the client begins with TLS; absent: either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TransportProtocol>,
    /// The client offers one of these (ALPN); empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub application_protocols: Vec<String>,
    /// Absent: TLS, if it is that, is not ended here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<DownstreamTlsContext>,
}

impl Transport {
    /// Takes any connection.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a connection begins with a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportProtocol {
    /// Not TLS.
    RawBuffer,
    /// TLS.
    Tls,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "TLSv1_2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLSv1_3")]
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientCertificate {
    /// They are not asked.
    #[default]
    None,
    /// They may; what they show must be valid.
    Optional,
    /// They must.
    Required,
}

/// The server's side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownstreamTlsContext {
    /// Names of certificates; of several the first whose key type the client takes.
    pub certificates: Vec<String>,
    /// Whether clients show one.
    pub client_certificate: ClientCertificate,
    /// What a client's certificate must be; without it a client's certificate is not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<CertificateValidation>,
    /// Application protocols, the preferred first. A client that offers only others is served all
    /// the same, as Envoy does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn_protocols: Vec<String>,
    /// Oldest version; TLS 1.2 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_version: Option<TlsVersion>,
    /// Newest version; TLS 1.3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2, in OpenSSL's names; empty: all that are sound.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
}

/// The client's side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamTlsContext {
    /// Only towards endpoints that offer mutual TLS ([`Endpoint::mutual_tls`]); others get plain
    /// text. Istio's automatic mutual TLS.
    ///
    /// [`Endpoint::mutual_tls`]: crate::Endpoint::mutual_tls
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub where_offered: bool,
    /// Name of the certificate to show, if one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// What the endpoint's certificate must be; absent: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<CertificateValidation>,
    /// Host name to ask for; empty: none.
    pub sni: String,
    /// Application protocols to offer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn_protocols: Vec<String>,
}

/// What a peer's certificate must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateValidation {
    /// Name of the authorities, one of which must have signed.
    pub trust: String,
    /// Names (SPIFFE URIs, DNS names), one of which the certificate must carry: exact, or with a
    /// `*` at either end; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
}

/// A certificate with its key, or authorities; from a Kubernetes Secret. PEM.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// `kubernetes://NAME`.
    pub name: String,
    /// The certificate first, then what leads to its authority.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate_chain: String,
    /// Its key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub private_key: String,
    /// Authorities.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trusted_ca: String,
}

/// What the control plane answers to a certificate signing request. PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedCertificate {
    /// The workload's certificate first, then what leads to an authority.
    pub certificate_chain: String,
    /// The authorities of the mesh.
    pub trust_bundle: String,
}

/// Keys are not for logs.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
