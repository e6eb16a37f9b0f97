//! The single fields of rules as conditions.

use mesh_api::security::{Condition, Operation, Source};
use mesh_config::{Cidr, Matcher, Text};

use super::{Field, Fields};
use crate::TRUST_DOMAIN;

type Make = fn(&str) -> Option<Matcher>;

/// `values`: one of them; `not`: none of them.
fn field(http: bool, make: Make, values: &[String], not: &[String]) -> Fields {
    let matchers = |values: &[String]| -> Vec<Matcher> {
        // A value that says nothing (a broken address) matches nothing; validation refuses it.
        values.iter().filter_map(|value| make(value)).collect()
    };
    let mut fields = Vec::new();
    if !values.is_empty() {
        let mut all = matchers(values);
        let matcher = match all.len() {
            1 => all.remove(0),
            _ => Matcher::OneOf(all),
        };
        fields.push(Field { matcher, http });
    }
    if !not.is_empty() {
        let matcher = Matcher::Not(Box::new(Matcher::OneOf(matchers(not))));
        fields.push(Field { matcher, http });
    }
    fields
}

const PRINCIPAL: Make = |text| Some(Matcher::Principal(Text::parse(text)));
const NAMESPACE: Make = |text| Some(Matcher::Namespace(Text::parse(text)));
const REQUEST_PRINCIPAL: Make = |text| Some(Matcher::RequestPrincipal(Text::parse(text)));
const SOURCE_IP: Make = |text| Cidr::parse(text).map(Matcher::SourceIp);
const REMOTE_IP: Make = |text| Cidr::parse(text).map(Matcher::RemoteIp);
const PORT: Make = |text| text.parse().ok().map(Matcher::DestinationPort);
const METHOD: Make = |text| Some(Matcher::Method(Text::parse(text)));
const HOST: Make = |text| Some(Matcher::Host(Text::parse(&text.to_ascii_lowercase())));
const SERVICE_ACCOUNT: Make = |text| {
    let (namespace, name) = text.split_once('/')?;
    let identity = format!("{TRUST_DOMAIN}/ns/{namespace}/sa/{name}");
    Some(Matcher::Principal(Text::Exact(identity)))
};
const TRUST_DOMAINS: Make = |text| {
    Some(Matcher::Principal(match Text::parse(text) {
        Text::Exact(name) => Text::Prefix(format!("{name}/")),
        other => other,
    }))
};

/// Who calls; all fields must hold. Names of ServiceAccounts without a namespace are of the
/// policy's own.
pub(super) fn source(source: &Source, namespace: &str) -> Fields {
    let accounts = |names: &[String]| -> Vec<String> {
        let full = |name: &String| match name.contains('/') {
            true => name.clone(),
            false => format!("{namespace}/{name}"),
        };
        names.iter().map(full).collect()
    };
    [
        field(false, PRINCIPAL, &source.principals, &source.not_principals),
        field(
            true,
            REQUEST_PRINCIPAL,
            &source.request_principals,
            &source.not_request_principals,
        ),
        field(false, NAMESPACE, &source.namespaces, &source.not_namespaces),
        field(false, SOURCE_IP, &source.ip_blocks, &source.not_ip_blocks),
        field(
            true,
            REMOTE_IP,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
        ),
        field(
            false,
            SERVICE_ACCOUNT,
            &accounts(&source.service_accounts),
            &accounts(&source.not_service_accounts),
        ),
    ]
    .concat()
}

/// What is called; all fields must hold.
pub(super) fn operation(operation: &Operation) -> Fields {
    [
        field(true, HOST, &operation.hosts, &operation.not_hosts),
        field(false, PORT, &operation.ports, &operation.not_ports),
        field(true, METHOD, &operation.methods, &operation.not_methods),
        field(true, path, &operation.paths, &operation.not_paths),
    ]
    .concat()
}

/// `{*}` in a path stands for one segment, `{**}` for any number.
fn path(text: &str) -> Option<Matcher> {
    if !text.contains('{') {
        return Some(Matcher::Path(Text::parse(text)));
    }
    let pattern: String = text
        .split_inclusive('}')
        .map(|part| match part.split_once('{') {
            Some((before, "**}")) => regex::escape(before) + ".*",
            Some((before, "*}")) => regex::escape(before) + "[^/]+",
            _ => regex::escape(part),
        })
        .collect();
    Some(Matcher::Path(Text::Regex(pattern)))
}

/// A condition of `when`. A key that does not exist matches nothing; it is reported.
pub(super) fn condition(condition: &Condition) -> Fields {
    let (values, not) = (&condition.values, &condition.not_values);
    let simple: Option<(bool, Make)> = match condition.key.as_str() {
        "source.ip" => Some((false, SOURCE_IP)),
        "remote.ip" => Some((true, REMOTE_IP)),
        "source.namespace" => Some((false, NAMESPACE)),
        "source.principal" => Some((false, PRINCIPAL)),
        "source.serviceAccount" => Some((false, SERVICE_ACCOUNT)),
        "source.trustDomain" => Some((false, TRUST_DOMAINS)),
        "request.auth.principal" => Some((true, REQUEST_PRINCIPAL)),
        "destination.ip" => Some((false, |text| Cidr::parse(text).map(Matcher::DestinationIp))),
        "destination.port" => Some((false, PORT)),
        "connection.sni" => Some((false, |text| Some(Matcher::ServerName(Text::parse(text))))),
        _ => None,
    };
    if let Some((http, make)) = simple {
        return field(http, make, values, not);
    }
    let claim = |path: Vec<String>| {
        move |text: &str| Matcher::Claim {
            path: path.clone(),
            value: Text::parse(text),
        }
    };
    let key = condition.key.as_str();
    if let Some(name) = bracketed(key, "request.headers") {
        let name = name.to_ascii_lowercase();
        let header = |text: &str| Matcher::Header {
            name: name.clone(),
            value: Text::parse(text),
        };
        return made(header, values, not);
    }
    match key {
        "request.auth.audiences" => made(claim(vec!["aud".into()]), values, not),
        "request.auth.presenter" => made(claim(vec!["azp".into()]), values, not),
        _ => match claim_path(key) {
            Some(path) => made(claim(path), values, not),
            None => vec![Field {
                matcher: Matcher::OneOf(Vec::new()),
                http: false,
            }],
        },
    }
}

fn made(make: impl Fn(&str) -> Matcher, values: &[String], not: &[String]) -> Fields {
    let all = |values: &[String]| values.iter().map(|value| make(value)).collect();
    let mut fields = Vec::new();
    if !values.is_empty() {
        fields.push(Matcher::OneOf(all(values)));
    }
    if !not.is_empty() {
        fields.push(Matcher::Not(Box::new(Matcher::OneOf(all(not)))));
    }
    let field = |matcher| Field {
        matcher,
        http: true,
    };
    fields.into_iter().map(field).collect()
}

fn bracketed<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')
}

/// `request.auth.claims[a][b]`.
fn claim_path(key: &str) -> Option<Vec<String>> {
    let inside = bracketed(key, "request.auth.claims")?;
    Some(inside.split("][").map(str::to_owned).collect())
}

/// The key names something.
pub(crate) fn is_known(key: &str) -> bool {
    const KNOWN: [&str; 12] = [
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.principal",
        "source.serviceAccount",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    ];
    KNOWN.contains(&key) || bracketed(key, "request.headers").is_some() || claim_path(key).is_some()
}
