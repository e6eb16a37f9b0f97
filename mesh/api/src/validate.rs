//! What a schema cannot say: rules that span several fields. Messages are worded as Istio's.

mod destination_rule;
mod gateway;
mod security;
mod virtual_service;

use serde_json::Value;

use crate::{DestinationRule, Gateway, VirtualService, parse, security as types};

/// Every error of an object of the named kind: unknown fields, wrong types, and what Istio's own
/// validation refuses. Kinds that are not Istio's have none.
pub fn validate(kind: &str, object: &Value) -> Vec<String> {
    match kind {
        "VirtualService" => check::<VirtualService>(kind, object, virtual_service::check),
        "DestinationRule" => check::<DestinationRule>(kind, object, destination_rule::check),
        "Gateway" => check::<Gateway>(kind, object, gateway::check),
        "PeerAuthentication" => {
            check::<types::PeerAuthentication>(kind, object, security::peer_authentication)
        }
        "AuthorizationPolicy" => {
            check::<types::AuthorizationPolicy>(kind, object, security::authorization_policy)
        }
        "RequestAuthentication" => {
            check::<types::RequestAuthentication>(kind, object, security::request_authentication)
        }
        _ => Vec::new(),
    }
}

fn check<T: serde::de::DeserializeOwned>(
    kind: &str,
    object: &Value,
    rules: fn(&T, &mut Vec<String>),
) -> Vec<String> {
    match parse::<T>(kind, object) {
        Err(error) => vec![error.to_string()],
        Ok(parsed) => {
            let mut errors: Vec<_> = parsed
                .unknown
                .iter()
                .map(|field| format!("unknown field {field:?}"))
                .collect();
            rules(&parsed.resource.spec, &mut errors);
            errors
        }
    }
}
