//! `http`: one request in HTTPie's everyday syntax.
//!
//! On a terminal the answer's headers and body are shown, JSON indented and sorted; when output goes
//! elsewhere, the body alone and as it came, as HTTPie does, so that it can be piped on.

pub mod arguments;
pub mod items;
mod output;
mod request;

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::LOCATION;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use crate::connection::{CallError, Connection, Target, TargetError};
use crate::request::RequestError;
use crate::route::{self, RouteError};
use crate::shell::Shell;
use crate::tls::Trust;

use arguments::{Flags, Parsed};
use items::ItemError;
use output::Shown;

/// The largest body that is read from standard input, in bytes.
const MAX_INPUT: u64 = 16 * 1024 * 1024;
/// How long standard input may be silent before a hint is given.
const PATIENCE: Duration = Duration::from_secs(10);

/// Exit statuses, as HTTPie has them.
mod status {
    pub(super) const ERROR: u8 = 1;
    pub(super) const TIMEOUT: u8 = 2;
    pub(super) const TOO_MANY_REDIRECTS: u8 = 6;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("standard input: {0}")]
    Input(std::io::Error),
    #[error("standard input holds more than {MAX_INPUT} bytes")]
    LargeInput,
    #[error("{file}: {error}")]
    Output { file: String, error: std::io::Error },
    #[error("Too many redirects (--max-redirects={0}).")]
    Redirects(u32),
    #[error("Request timed out ({}s).", .0.as_secs_f64())]
    Timeout(Duration),
}

/// Runs an `http` command line (without the program's name) and returns its exit status.
pub async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let flags = match arguments::parse(arguments) {
        Ok(Parsed::Flags(flags)) => flags,
        Ok(Parsed::Show(text)) => {
            shell.out.text(&text);
            return 0;
        }
        Err(message) => {
            shell.err.text(&message);
            return status::ERROR;
        }
    };
    let input = !flags.ignore_stdin && !std::io::stdin().is_terminal();
    match limited(&flags, shell, input).await {
        Ok(answered) => exit_status(&flags, answered),
        Err(error) => {
            shell.err.line(&format!("http: error: {error}"));
            match error {
                HttpError::Timeout(_) => status::TIMEOUT,
                HttpError::Redirects(_) => status::TOO_MANY_REDIRECTS,
                _ => status::ERROR,
            }
        }
    }
}

/// 0, unless the flags ask for the answer's status to be told: then its first digit from 3 on.
fn exit_status(flags: &Flags, answered: StatusCode) -> u8 {
    match answered.as_u16() / 100 {
        3 if flags.check_status && !flags.follow => 3,
        4 if flags.check_status => 4,
        5 if flags.check_status => 5,
        _ => 0,
    }
}

async fn limited(flags: &Flags, shell: &Shell, input: bool) -> Result<StatusCode, HttpError> {
    let request = prepared(flags, shell, input).await?;
    if flags.timeout.is_zero() {
        return exchange(flags, request, shell).await;
    }
    let exchange = exchange(flags, request, shell);
    let answered = tokio::time::timeout(flags.timeout, exchange).await;
    answered.unwrap_or(Err(HttpError::Timeout(flags.timeout)))
}

async fn prepared(flags: &Flags, shell: &Shell, input: bool) -> Result<Request<Bytes>, HttpError> {
    let reads = input
        && flags.raw.is_none()
        && !flags.line.has_data()
        && !matches!(
            flags.line.method.as_deref(),
            Some("GET" | "HEAD" | "DELETE" | "OPTIONS")
        );
    let raw = match &flags.raw {
        Some(raw) => Bytes::from(raw.clone()),
        None if reads => standard_input(shell).await?,
        None => Bytes::new(),
    };
    Ok(request::request(flags, raw)?)
}

/// Reads standard input to its end; says what it waits for when nothing comes.
async fn standard_input(shell: &Shell) -> Result<Bytes, HttpError> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut body = Vec::new();
        let read = std::io::stdin().take(MAX_INPUT + 1).read_to_end(&mut body);
        read.map(|_| body)
    });
    tokio::pin!(reading);
    let body = tokio::select! {
        body = &mut reading => body,
        () = tokio::time::sleep(PATIENCE) => {
            let seconds = PATIENCE.as_secs();
            shell.err.line(&format!(
                "http: warning: no stdin data read in {seconds}s (perhaps you want to --ignore-stdin)"
            ));
            reading.await
        }
    };
    let body = body.map_err(std::io::Error::other).and_then(|body| body);
    let body = body.map_err(HttpError::Input)?;
    if body.len() as u64 > MAX_INPUT {
        return Err(HttpError::LargeInput);
    }
    Ok(body.into())
}

/// Sends the request, follows redirects when asked to, shows what is to be shown.
async fn exchange(
    flags: &Flags,
    mut request: Request<Bytes>,
    shell: &Shell,
) -> Result<StatusCode, HttpError> {
    let trust = match flags.verify.as_str() {
        "no" | "false" => Trust::Anything,
        "yes" | "true" => Trust::System,
        file => Trust::File(file.into()),
    };
    let shown = Shown::new(flags, &shell.out);
    let mut left = flags.max_redirects;
    loop {
        let target = Target::new(request.clone(), &trust, &shell.environment).await?;
        let mut connection = Connection::new(Arc::new(target.clone()), Duration::MAX);
        shown.request(&target);
        let response = connection.begin().await?;
        let status = response.status();
        let next = if flags.follow {
            redirected(&request, &response)?
        } else {
            None
        };
        if next.is_none() || flags.all {
            shown
                .response(&mut connection, response, flags, shell)
                .await?;
        }
        let Some(next) = next else { return Ok(status) };
        if left == 0 {
            return Err(HttpError::Redirects(flags.max_redirects));
        }
        left -= 1;
        request = next;
    }
}

/// The request that a redirect asks for.
fn redirected(
    request: &Request<Bytes>,
    response: &Response<Incoming>,
) -> Result<Option<Request<Bytes>>, HttpError> {
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let (true, Some(location)) = (response.status().is_redirection(), location) else {
        return Ok(None);
    };
    let uri = resolved(request.uri(), location)?;
    let mut next = request.clone();
    if uri.authority() != next.uri().authority() {
        // What is meant for one server is not shown to another one.
        next.headers_mut().remove(http::header::AUTHORIZATION);
        next.headers_mut().remove(http::header::COOKIE);
        next.headers_mut().remove(http::header::HOST);
    }
    *next.uri_mut() = uri;
    let keeps_method = matches!(response.status().as_u16(), 307 | 308);
    if !keeps_method && next.method() != Method::HEAD {
        *next.method_mut() = Method::GET;
        *next.body_mut() = Bytes::new();
        next.headers_mut().remove(http::header::CONTENT_TYPE);
    }
    Ok(Some(next))
}

/// An address in a `location` header, relative to the one that was asked.
fn resolved(base: &Uri, location: &str) -> Result<Uri, RouteError> {
    if location.contains("://") {
        return route::address(location);
    }
    let scheme = base.scheme_str().unwrap_or("http");
    if let Some(rest) = location.strip_prefix("//") {
        return route::address(&format!("{scheme}://{rest}"));
    }
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let folder = match location.starts_with('/') {
        true => "",
        false => base
            .path()
            .rsplit_once('/')
            .map_or("/", |(folder, _)| folder),
    };
    let slash = if location.starts_with('/') { "" } else { "/" };
    let folder = folder.trim_end_matches('/');
    route::address(&format!("{scheme}://{authority}{folder}{slash}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_relative_to_the_address_that_was_asked() {
        let base = route::address("http://a:1/x/y?q").expect("an address");
        for (location, whole) in [
            ("/z", "http://a:1/z"),
            ("z?p=1", "http://a:1/x/z?p=1"),
            ("http://b/", "http://b/"),
            ("//b/c", "http://b/c"),
        ] {
            assert_eq!(
                resolved(&base, location).expect(location).to_string(),
                whole
            );
        }
    }
}
