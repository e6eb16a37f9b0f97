//! Who is logged in: a signed cookie that holds the user's name.
//!
//! Anyone may log in as anyone; the signature only keeps the cookie from being made up by hand.
//! Its key is a constant, so that every copy of productpage accepts the cookies of the others and a
//! restart logs nobody out.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

/// The cookie that logs out.
pub(super) const EXPIRED_COOKIE: &str =
    "session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// The longest name, in characters; what is longer is cut.
const MAX_NAME: usize = 64;

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"bookinfo: anyone may log in as anyone")
}

/// The `Set-Cookie` value that logs in a user; an empty name logs out.
pub(super) fn cookie(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect();
    if name.is_empty() {
        return EXPIRED_COOKIE.to_owned();
    }
    let signature = hmac::sign(&key(), name.as_bytes());
    format!(
        "session={}.{}; Path=/; HttpOnly; SameSite=Lax",
        BASE64.encode(name),
        BASE64.encode(signature)
    )
}

/// The user named by a request's session cookie, if there is one and its signature is right.
pub(super) fn user(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix("session="))
        .find_map(verified)
}

fn verified(session: &str) -> Option<String> {
    let (name, signature) = session.split_once('.')?;
    let name = BASE64.decode(name).ok()?;
    hmac::verify(&key(), &name, &BASE64.decode(signature).ok()?).ok()?;
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().expect("a header value"));
        headers
    }

    fn pair(name: &str) -> String {
        cookie(name).split(';').next().expect("a pair").to_owned()
    }

    #[test]
    fn whoever_logs_in_is_recognized_by_any_copy() {
        for name in ["jason", "제이슨", "a b; c=d"] {
            let cookie = format!("theme=dark; {}", pair(name));
            assert_eq!(user(&headers(&cookie)).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_made_up_cookie_is_nobody() {
        let jason = pair("jason");
        let signature = jason.split_once('.').expect("signed").1;
        let forged = format!("session={}.{signature}", BASE64.encode("root"));
        for cookie in [
            forged.as_str(),
            "session=",
            "session=jason",
            "session=a.b",
            "other=1",
        ] {
            assert_eq!(user(&headers(cookie)), None, "{cookie}");
        }
    }

    #[test]
    fn names_are_cut_and_empty_names_log_out() {
        assert_eq!(cookie(""), EXPIRED_COOKIE);
        assert_eq!(cookie("\r\n"), EXPIRED_COOKIE);
        let long = user(&headers(&pair(&"x".repeat(1000)))).expect("a user");
        assert_eq!(long.len(), MAX_NAME);
        assert!(cookie("jason").ends_with("; Path=/; HttpOnly; SameSite=Lax"));
    }
}
