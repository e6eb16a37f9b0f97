//! Rules of Gateway.

use std::collections::BTreeSet;

use crate::gateway::*;

pub(super) fn check(spec: &Gateway, errors: &mut Vec<String>) {
    if spec.servers.is_empty() {
        errors.push("gateway must have at least one server".into());
    }
    let mut names = BTreeSet::new();
    for server in &spec.servers {
        let name = &server.port.name;
        if !names.insert(name) {
            errors.push(format!(
                "port names in servers must be unique: duplicate name {name}"
            ));
        }
        if server.hosts.is_empty() {
            errors.push("server config must contain at least one host".into());
        }
        if !(1..=65535).contains(&server.port.number) {
            errors.push(format!(
                "port number {} must be in the range 1..65535",
                server.port.number
            ));
        }
        self::server(server, errors);
    }
}

fn server(server: &Server, errors: &mut Vec<String>) {
    let protocol = server.port.protocol.to_ascii_uppercase();
    let secure = matches!(protocol.as_str(), "HTTPS" | "TLS");
    let plain_http = matches!(protocol.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB");
    if !secure && !plain_http && !matches!(protocol.as_str(), "TCP" | "MONGO" | "REDIS" | "MYSQL") {
        errors.push(format!(
            "invalid protocol {:?}, supported protocols are HTTP, HTTP2, HTTPS, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP, TLS",
            server.port.protocol
        ));
    }
    let Some(tls) = &server.tls else {
        if secure {
            errors.push("server must have TLS settings for HTTPS/TLS protocols".into());
        }
        return;
    };
    let terminates = tls
        .mode
        .is_some_and(|mode| mode != ServerTlsMode::Passthrough);
    if plain_http && terminates {
        errors.push("server cannot have TLS settings for plain text HTTP ports".into());
    }
    let from_secret = !tls.credential_name.is_empty()
        || !tls.credential_names.is_empty()
        || !tls.tls_certificates.is_empty();
    let mode = match tls.mode {
        Some(ServerTlsMode::Simple) => "SIMPLE",
        Some(ServerTlsMode::Mutual) => "MUTUAL",
        _ => return,
    };
    if secure && !from_secret {
        if tls.server_certificate.is_empty() {
            errors.push(format!("{mode} TLS requires a server certificate"));
        }
        if tls.private_key.is_empty() {
            errors.push(format!("{mode} TLS requires a private key"));
        }
        if mode == "MUTUAL" && tls.ca_certificates.is_empty() {
            errors.push("MUTUAL TLS requires a client CA bundle".into());
        }
    }
}
