//! What makes a request go to the same host as another: a hash of something that it carries.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, header};
use mesh_config::{HashCookie, HashPolicy};
use twox_hash::XxHash64;

/// The hash of a request, and the cookie that its answer sets so that the client comes back.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Hashed {
    pub(crate) hash: Option<u64>,
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// What is hashed, of a request.
pub(crate) struct Subject<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a str,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Joins the hashes of all policies that find something; none: no hash.
pub(crate) fn hash(policies: &[HashPolicy], subject: &Subject<'_>) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        let found = match policy {
            HashPolicy::Header(name) => {
                let value = subject.headers.get(name.as_str());
                value.map(|value| of(value.as_bytes()))
            }
            HashPolicy::QueryParameter(name) => {
                parameter(subject.query, name).map(|value| of(value.as_bytes()))
            }
            HashPolicy::SourceIp => Some(of_address(subject.remote.ip())),
            HashPolicy::Cookie(wanted) => match cookie(subject.headers, &wanted.name) {
                Some(value) => Some(of(value.as_bytes())),
                None if wanted.ttl.is_some() => {
                    let value = new_value(subject);
                    hashed.set_cookie = set_cookie(wanted, &value);
                    Some(of(value.as_bytes()))
                }
                None => None,
            },
        };
        if let Some(found) = found {
            let joined = hashed.hash.map_or(0, |before| before.rotate_left(1));
            hashed.hash = Some(joined ^ found);
        }
    }
    hashed
}

/// The hash of a client's address.
pub(crate) fn of_address(client: IpAddr) -> u64 {
    of(client.to_string().as_bytes())
}

fn of(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .into_iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(value.trim_matches('"'))
}

/// Sixteen hexadecimal digits, the same for all requests of one connection.
fn new_value(subject: &Subject<'_>) -> String {
    let ends = format!("{}{}", subject.remote, subject.local);
    format!("{:016x}", of(ends.as_bytes()))
}

fn set_cookie(cookie: &HashCookie, value: &str) -> Option<HeaderValue> {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if let Some(seconds) = cookie
        .ttl
        .map(|ttl| ttl.as_secs())
        .filter(|seconds| *seconds > 0)
    {
        text.push_str(&format!("; Max-Age={seconds}"));
    }
    if !cookie.path.is_empty() {
        text.push_str(&format!("; Path={}", cookie.path));
    }
    for (name, value) in &cookie.attributes {
        text.push_str("; ");
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    }
    text.push_str("; HttpOnly");
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hashed(policies: &[HashPolicy], headers: &HeaderMap, query: &str) -> Hashed {
        let subject = Subject {
            headers,
            query,
            remote: ([10, 0, 0, 1], 5000).into(),
            local: ([10, 0, 0, 2], 80).into(),
        };
        hash(policies, &subject)
    }

    #[test]
    fn what_is_not_there_has_no_hash() {
        let none = HeaderMap::new();
        for policy in [
            HashPolicy::Header("x".into()),
            HashPolicy::QueryParameter("q".into()),
        ] {
            assert_eq!(hashed(&[policy], &none, "p=1"), Hashed::default());
        }
        assert!(hashed(&[HashPolicy::SourceIp], &none, "").hash.is_some());
    }

    #[test]
    fn equal_values_have_equal_hashes() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([("x".parse().unwrap(), HeaderValue::from_static(value))])
        };
        let policy = [HashPolicy::Header("x".into())];
        assert_eq!(
            hashed(&policy, &headers("a"), ""),
            hashed(&policy, &headers("a"), "")
        );
        assert_ne!(
            hashed(&policy, &headers("a"), ""),
            hashed(&policy, &headers("b"), "")
        );
        let policy = [HashPolicy::QueryParameter("q".into())];
        let none = HeaderMap::new();
        assert_eq!(
            hashed(&policy, &none, "a=1&q=x"),
            hashed(&policy, &none, "q=x&b=2")
        );
        // Envoy hashes with XXH64, seed 0.
        assert_eq!(of(b""), 0xef46_db37_51d8_e999);
    }

    #[test]
    fn a_cookie_is_read_or_set() {
        let mut cookie = HashCookie {
            name: "user".into(),
            ttl: Some(Duration::from_secs(10)),
            path: "/a".into(),
            attributes: vec![("SameSite".into(), "Strict".into())],
        };
        let policy = |cookie: &HashCookie| [HashPolicy::Cookie(cookie.clone())];
        let first = hashed(&policy(&cookie), &HeaderMap::new(), "");
        let text = first.set_cookie.unwrap().to_str().unwrap().to_owned();
        assert!(text.starts_with("user=\""), "{text}");
        assert!(
            text.ends_with("\"; Max-Age=10; Path=/a; SameSite=Strict; HttpOnly"),
            "{text}"
        );
        let pair = text.split(';').next().unwrap();
        let headers = HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::from_str(&format!("a=b; {pair}")).unwrap(),
        )]);
        let again = hashed(&policy(&cookie), &headers, "");
        assert_eq!((again.hash, again.set_cookie), (first.hash, None));
        cookie.ttl = Some(Duration::ZERO);
        let session = hashed(&policy(&cookie), &HeaderMap::new(), "")
            .set_cookie
            .unwrap();
        assert!(!session.to_str().unwrap().contains("Max-Age"));
        cookie.ttl = None;
        assert_eq!(
            hashed(&policy(&cookie), &HeaderMap::new(), ""),
            Hashed::default()
        );
    }
}
