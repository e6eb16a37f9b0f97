//! PeerAuthentication, AuthorizationPolicy and RequestAuthentication: who may call.

use std::collections::BTreeMap;

use crate::{Duration, PolicyTargetReference, WorkloadSelector};

messages! {
    /// Whether workloads accept plain text, mutual TLS, or both.
    PeerAuthentication {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// For all ports.
        mtls: Option<MutualTls>,
        /// For single ports of the container; needs a selector.
        port_level_mtls: BTreeMap<String, MutualTls>,
    }

    /// Whether mutual TLS is asked for.
    MutualTls {
        /// What is accepted.
        mode: Option<MutualTlsMode>,
    }

    /// Who may call what.
    AuthorizationPolicy {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// Older form of targetRefs, with one target.
        target_ref: Option<PolicyTargetReference>,
        /// Objects that it is for.
        target_refs: Vec<PolicyTargetReference>,
        /// Requests that it is about; one matching rule is enough.
        rules: Option<Vec<Rule>>,
        /// What becomes of matching requests.
        action: Option<AuthorizationAction>,
        /// Who decides, for CUSTOM.
        provider: Option<ExtensionProvider>,
    }

    /// Requests: from whom, to what, under which conditions. All three must hold.
    Rule {
        /// Who calls; one is enough.
        from: Option<Vec<RuleFrom>>,
        /// What is called; one is enough.
        to: Option<Vec<RuleTo>>,
        /// Further conditions; all must hold.
        when: Vec<Condition>,
    }

    /// Who calls.
    RuleFrom {
        /// The caller.
        source: Option<Source>,
    }

    /// What is called.
    RuleTo {
        /// The operation.
        operation: Option<Operation>,
    }

    /// A caller; all fields that are given must match. Fields beginning with "not" must not.
    Source {
        /// Identities of workloads, as in cluster.local/ns/NAMESPACE/sa/SERVICEACCOUNT.
        principals: Vec<String>,
        /// Identities that are excluded.
        not_principals: Vec<String>,
        /// Identities in tokens, as ISSUER/SUBJECT.
        request_principals: Vec<String>,
        /// Identities in tokens that are excluded.
        not_request_principals: Vec<String>,
        /// Namespaces.
        namespaces: Vec<String>,
        /// Namespaces that are excluded.
        not_namespaces: Vec<String>,
        /// Addresses of the connection.
        ip_blocks: Vec<String>,
        /// Addresses that are excluded.
        not_ip_blocks: Vec<String>,
        /// Addresses of the client, as X-Forwarded-For tells.
        remote_ip_blocks: Vec<String>,
        /// Client addresses that are excluded.
        not_remote_ip_blocks: Vec<String>,
        /// ServiceAccounts, as NAMESPACE/NAME or NAME.
        service_accounts: Vec<String>,
        /// ServiceAccounts that are excluded.
        not_service_accounts: Vec<String>,
    }

    /// An operation; all fields that are given must match. Fields beginning with "not" must not.
    Operation {
        /// Hosts.
        hosts: Vec<String>,
        /// Hosts that are excluded.
        not_hosts: Vec<String>,
        /// Ports, as text.
        ports: Vec<String>,
        /// Ports that are excluded.
        not_ports: Vec<String>,
        /// Methods.
        methods: Vec<String>,
        /// Methods that are excluded.
        not_methods: Vec<String>,
        /// Paths; /a* and *b are prefix and suffix.
        paths: Vec<String>,
        /// Paths that are excluded.
        not_paths: Vec<String>,
    }

    /// A condition on an attribute of the request.
    #[schemars(extend("required" = ["key"]))]
    Condition {
        /// Name of the attribute, such as request.headers[x-user].
        key: String,
        /// Values; one must match.
        values: Vec<String>,
        /// Values that must not match.
        not_values: Vec<String>,
    }

    /// A provider that the mesh configuration defines.
    ExtensionProvider {
        /// Its name.
        name: String,
    }

    /// Which tokens are checked, and how.
    RequestAuthentication {
        /// Pods that it is for; all of the namespace when absent.
        selector: Option<WorkloadSelector>,
        /// Older form of targetRefs, with one target.
        target_ref: Option<PolicyTargetReference>,
        /// Objects that it is for.
        target_refs: Vec<PolicyTargetReference>,
        /// Issuers of tokens.
        jwt_rules: Vec<JwtRule>,
    }

    /// An issuer of tokens.
    JwtRule {
        /// Name of the issuer, the token's iss.
        issuer: String,
        /// Audiences, one of which the token's aud must hold.
        audiences: Vec<String>,
        /// Where the keys are.
        jwks_uri: String,
        /// The keys themselves.
        jwks: String,
        /// Headers that may hold the token; Authorization when nothing is given.
        from_headers: Vec<JwtHeader>,
        /// Query parameters that may hold the token.
        from_params: Vec<String>,
        /// Cookies that may hold the token.
        from_cookies: Vec<String>,
        /// Header that gets the payload.
        output_payload_to_header: String,
        /// Headers that get single claims.
        output_claim_to_headers: Vec<ClaimToHeader>,
        /// The destination gets the token.
        forward_original_token: bool,
        /// How long fetching the keys may take; 5s when absent.
        timeout: Option<Duration>,
        /// Whether spaces separate the values of this claim.
        space_delimited_claims: Vec<String>,
    }

    /// A header that may hold a token.
    #[schemars(extend("required" = ["name"]))]
    JwtHeader {
        /// Name of the header.
        name: String,
        /// What stands before the token.
        prefix: String,
    }

    /// A claim that becomes a header.
    #[schemars(extend("required" = ["header", "claim"]))]
    ClaimToHeader {
        /// Name of the header.
        header: String,
        /// Name of the claim.
        claim: String,
    }
}

choices! {
    /// What is accepted.
    MutualTlsMode {
        /// As the level above says.
        Unset,
        /// Plain text alone.
        Disable,
        /// Both.
        Permissive,
        /// Mutual TLS alone.
        Strict,
    }

    /// What becomes of matching requests.
    AuthorizationAction {
        /// They are allowed; others are not.
        Allow,
        /// They are refused.
        Deny,
        /// They are noted.
        Audit,
        /// A provider decides.
        Custom,
    }
}
