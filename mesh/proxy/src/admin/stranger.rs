//! Web pages have no business here: one may make a browser send requests to a loopback address, in
//! its own name or under a host name of its owner's (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, header, uri::Authority};

/// A browser sent this for a page that is not ours.
pub(crate) fn is_stranger(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or("localhost");
    let own =
        text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    !own || !is_local(host)
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_are_told_apart() {
        for (host, origin, stranger) in [
            ("localhost:15000", None, false),
            ("127.16.192.5:15000", None, false),
            ("[::1]:15000", None, false),
            ("localhost:15000", Some("http://localhost:15000"), false),
            ("localhost:15000", Some("http://localhost:8080"), true),
            ("localhost:15000", Some("null"), true),
            ("127.0.0.1:15000", Some("https://evil.test"), true),
            ("rebound.evil.test:15000", None, true),
            ("10.0.0.5:15000", None, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_stranger(&headers), stranger, "{host} {origin:?}");
        }
        assert!(!is_stranger(&HeaderMap::new()));
    }
}
