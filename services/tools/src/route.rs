//! Which way a request goes: straight to its server, or through the proxy of the environment.
//!
//! In a pod `http_proxy` names the pod's door and everything goes by it; on a workstation the
//! variable is usually unset. A pure decision; [`crate::dial`] acts on it.

use http::Uri;

/// The variables that decide, as found in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `http_proxy`: for `http` addresses.
    pub http_proxy: Option<String>,
    /// `https_proxy`: for `https` addresses. A pod's door carries both, so `http_proxy` stands in
    /// where it is unset and a door is known (`DOJO_LISTEN_IP` is set).
    pub https_proxy: Option<String>,
    /// `no_proxy`: hosts that are reached directly, comma-separated; `*` for all.
    pub no_proxy: Option<String>,
    /// `DOJO_LISTEN_IP`: the address that connections leave from, so that a door knows who calls.
    pub source: Option<String>,
}

impl Environment {
    /// Reads this process's variables. Empty ones count as unset.
    #[must_use]
    pub fn read() -> Self {
        let get = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| std::env::var(name).ok());
            found.find(|value| !value.is_empty())
        };
        Self {
            http_proxy: get(&["http_proxy", "HTTP_PROXY"]),
            https_proxy: get(&["https_proxy", "HTTPS_PROXY"]),
            no_proxy: get(&["no_proxy", "NO_PROXY"]),
            source: get(&["DOJO_LISTEN_IP"]),
        }
    }
}

/// A host and a port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A name or an address; IPv6 addresses without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A connection to the server itself.
    Direct,
    /// A connection to a proxy that is given the whole address in each request line.
    Forward(Authority),
    /// A connection to a proxy that is asked for a tunnel with `CONNECT`.
    Tunnel(Authority),
}

/// Why an address or a variable of the environment cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The address is no address.
    #[error("{0:?} is not an address; write for example http://host:8080/path")]
    Address(String),
    /// Its scheme is neither of the two that are spoken.
    #[error("{address:?}: scheme {scheme:?} is not supported; use http or https")]
    Scheme {
        /// The whole address.
        address: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// A proxy variable that cannot be used.
    #[error("{variable}={value:?}: {problem}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to write.
        problem: &'static str,
    },
}

/// Reads an address as people type it: without a scheme it is `http`, without a path `/`.
///
/// # Errors
/// When it names no host, or a scheme other than `http` and `https`.
pub fn address(text: &str) -> Result<Uri, RouteError> {
    let wrong = || RouteError::Address(text.to_owned());
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let mut whole = whole.split('#').next().unwrap_or_default().to_owned();
    if let (Some(start), Some(query)) = (whole.find("://"), whole.find('?'))
        && start + 3 <= query
        && !whole[start + 3..query].contains('/')
    {
        whole.insert(query, '/');
    }
    let uri: Uri = whole.parse().map_err(|_| wrong())?;
    let host = uri.host().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let bare = authority.rsplit('@').next() == Some(host);
    // A port that is none, or 0, leaves no port in what was parsed.
    if host.is_empty() || (!bare && uri.port_u16().is_none_or(|port| port == 0)) {
        return Err(wrong());
    }
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        scheme => Err(RouteError::Scheme {
            address: text.to_owned(),
            scheme: scheme.unwrap_or_default().to_owned(),
        }),
    }
}

/// Host and port of an address that [`address`] accepted.
#[must_use]
pub fn authority(uri: &Uri) -> Authority {
    let host = uri.host().unwrap_or_default();
    let usual = if is_tls(uri) { 443 } else { 80 };
    Authority {
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: uri.port_u16().unwrap_or(usual),
    }
}

/// Whether the address asks for TLS.
#[must_use]
pub fn is_tls(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// Decides the way to `uri`.
///
/// # Errors
/// When the proxy that the environment names is none that this program can use.
pub fn route(uri: &Uri, environment: &Environment) -> Result<Route, RouteError> {
    let host = authority(uri).host;
    if let Some(list) = &environment.no_proxy
        && list.split(',').any(|entry| covers(entry.trim(), &host))
    {
        return Ok(Route::Direct);
    }
    let http = environment.http_proxy.as_deref().map(|v| ("http_proxy", v));
    let https = environment
        .https_proxy
        .as_deref()
        .map(|v| ("https_proxy", v));
    let chosen = if is_tls(uri) {
        https.or(http.filter(|_| environment.source.is_some()))
    } else {
        http
    };
    let Some((variable, value)) = chosen else {
        return Ok(Route::Direct);
    };
    let wrong = |problem| RouteError::Variable {
        variable,
        value: value.to_owned(),
        problem,
    };
    let proxy = address(value).map_err(|_| wrong("write for example http://127.0.0.1:3128"))?;
    if is_tls(&proxy) {
        return Err(wrong("a proxy behind TLS is not supported; use http://"));
    }
    let proxy = authority(&proxy);
    Ok(if is_tls(uri) {
        Route::Tunnel(proxy)
    } else {
        Route::Forward(proxy)
    })
}

/// Whether an entry of `no_proxy` covers a host: itself, or a domain it lies in.
fn covers(entry: &str, host: &str) -> bool {
    let entry = entry.trim_start_matches('.');
    !entry.is_empty()
        && (entry == "*"
            || host.eq_ignore_ascii_case(entry)
            || host
                .to_ascii_lowercase()
                .strip_suffix(&entry.to_ascii_lowercase())
                .is_some_and(|front| front.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, environment: &Environment) -> Route {
        route(&address(url).expect("an address"), environment).expect("a route")
    }

    #[test]
    fn addresses_may_lack_scheme_and_path() {
        for (given, host, port, path) in [
            ("http://httpbin:8000/get", "httpbin", 8000, "/get"),
            ("localhost:8080", "localhost", 8080, "/"),
            ("https://example.com?q=1#there", "example.com", 443, "/?q=1"),
            ("http://[::1]/x", "::1", 80, "/x"),
        ] {
            let uri = address(given).expect(given);
            assert_eq!(authority(&uri).host, host);
            assert_eq!(authority(&uri).port, port);
            assert_eq!(uri.path_and_query().expect("a path").as_str(), path);
        }
        for wrong in ["", "http://", "http:///x", "a b", "http://x:99999/"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        let error = address("ftp://x/").expect_err("a scheme").to_string();
        assert!(error.contains("use http or https"), "{error}");
    }

    #[test]
    fn the_environment_decides_the_way() {
        let door = Environment {
            http_proxy: Some("http://127.16.192.2:15001".to_owned()),
            ..Environment::default()
        };
        let proxy = Authority {
            host: "127.16.192.2".to_owned(),
            port: 15001,
        };
        assert_eq!(way("http://a/", &Environment::default()), Route::Direct);
        assert_eq!(way("http://a/", &door), Route::Forward(proxy.clone()));
        assert_eq!(way("https://a/", &door), Route::Direct);
        let pod = Environment {
            source: Some("127.16.192.2".to_owned()),
            ..door.clone()
        };
        assert_eq!(way("https://a/", &pod), Route::Tunnel(proxy));
        let some = Environment {
            no_proxy: Some("x.org, .svc".to_owned()),
            ..door
        };
        assert_eq!(way("http://A.svc/", &some), Route::Direct);
        assert!(matches!(way("http://xx.org/", &some), Route::Forward(_)));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named() {
        let environment = Environment {
            http_proxy: Some("https://x:1".to_owned()),
            ..Environment::default()
        };
        let uri = address("http://a/").expect("an address");
        let error = route(&uri, &environment).expect_err("TLS").to_string();
        assert!(error.starts_with("http_proxy=\"https://x:1\""), "{error}");
    }
}
