//! Whether a request may pass: tokens, an outside judge, policies. Asked in this order.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// What an HTTP request must pass before it is routed. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// Outside judges of the requests that match their policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<ExternalAuthorization>,
    /// Issuers of tokens; a request without a token passes, one with a bad token does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<JwtProvider>,
    /// Policies.
    #[serde(skip_serializing_if = "Rbac::is_empty")]
    pub rbac: Rbac,
}

/// Policies: DENY first, then ALLOW.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rbac {
    /// One that matches refuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Policy>,
    /// When present, one must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Policy>>,
    /// As `deny`, but only counted and logged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow_deny: Vec<Policy>,
    /// As `allow`, but only counted and logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_allow: Option<Vec<Policy>>,
    /// Matches are only noted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audit: Vec<Policy>,
}

impl Rbac {
    /// Lets everything pass.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One rule of an AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, as in the details of a refusal.
    pub name: String,
    /// Requests that it is about.
    pub matches: Matcher,
}

/// A condition on a request or a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Matcher {
    /// All of them; none: always.
    All(Vec<Matcher>),
    /// At least one of them; none: never.
    OneOf(Vec<Matcher>),
    /// The opposite.
    Not(Box<Matcher>),
    /// Host of the request, without regard to case.
    Host(Text),
    /// Method of the request.
    Method(Text),
    /// Normalised path of the request, without the query.
    Path(Text),
    /// Port of the workload.
    DestinationPort(u16),
    /// Address of the workload.
    DestinationIp(Cidr),
    /// Name that the client asked for (SNI).
    ServerName(Text),
    /// A header of the request.
    Header {
        /// Its name.
        name: String,
        /// Its value; of several one is enough.
        value: Text,
    },
    /// Identity of the client, without `spiffe://`; nobody without mutual TLS.
    Principal(Text),
    /// Namespace of the client's identity.
    Namespace(Text),
    /// Address of the connection's other end.
    SourceIp(Cidr),
    /// Address of the client, as the proxies before say.
    RemoteIp(Cidr),
    /// `ISSUER/SUBJECT` of a valid token.
    RequestPrincipal(Text),
    /// A claim of a valid token; of a list one member is enough.
    Claim {
        /// Where it is.
        path: Vec<String>,
        /// What it is.
        value: Text,
    },
}

/// A condition on a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Text {
    /// Not empty.
    Present,
    /// Equal.
    Exact(String),
    /// Begins so.
    Prefix(String),
    /// Ends so.
    Suffix(String),
    /// Matches as a whole.
    Regex(String),
}

impl Text {
    /// Istio's form: `*` anything, `a*` a prefix, `*a` a suffix, else exact.
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else {
            Self::Exact(text.into())
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cidr {
    /// An address of the range.
    pub address: IpAddr,
    /// Bits that all addresses of the range share.
    pub prefix: u8,
}

impl Cidr {
    /// `10.0.0.0/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { address, prefix })
    }

    /// The address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        shared >= u32::from(self.prefix)
    }
}

/// Someone outside who is asked over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuthorization {
    /// Name of the provider.
    pub provider: String,
    /// Only requests that match one of these are asked about.
    pub policies: Vec<Policy>,
    /// Cluster that is asked. Unknown: requests are refused.
    pub cluster: String,
    /// Value of `host` when it is asked.
    pub authority: String,
    /// How long the answer may take.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Comes before the path of the request.
    #[serde(default)]
    pub path_prefix: String,
    /// Headers of the request that are shown (`x-*` for prefixes), beside `authorization`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Headers of its answer that are added to a request that passes.
    #[serde(default)]
    pub headers_to_upstream: Vec<String>,
    /// Headers of its answer that the client gets when refused; empty: all.
    #[serde(default)]
    pub headers_to_downstream: Vec<String>,
    /// Requests pass when it cannot be asked.
    #[serde(default)]
    pub fail_open: bool,
    /// Status when it cannot be asked and that is no pass.
    pub status_on_error: u16,
}

/// An issuer of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtProvider {
    /// The token's `iss`; empty: any.
    pub issuer: String,
    /// One of them must be in the token's `aud`; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The keys: a JSON Web Key Set. One that cannot be read verifies no token.
    pub jwks: String,
    /// Headers that may hold the token, with what stands before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_headers: Vec<(String, String)>,
    /// Query parameters that may hold it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_params: Vec<String>,
    /// Cookies that may hold it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_cookies: Vec<String>,
    /// The workload gets the token.
    pub forward: bool,
    /// Header that gets the payload as it is in the token; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub payload_header: String,
    /// Headers that get single claims: header, claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_headers: Vec<(String, String)>,
}
