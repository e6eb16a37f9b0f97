//! Redirects, once or many times.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};

use crate::asked::Asked;
use crate::timing::number;
use crate::{Bin, bad};

/// The routes that lead elsewhere.
pub(crate) fn routes() -> Router<Bin> {
    Router::new()
        .route("/redirect/{times}", get(relative))
        .route("/relative-redirect/{times}", get(relative))
        .route("/absolute-redirect/{times}", get(absolute))
        .route("/redirect-to", any(redirect_to))
}

/// Where the next of so many redirects leads.
fn next(kind: &str, times: &str) -> Result<String, String> {
    match times.parse::<u32>() {
        Ok(1) => Ok("/get".to_owned()),
        Ok(times) if times > 1 => Ok(format!("/{kind}-redirect/{}", times - 1)),
        _ => Err(format!("`{times}` is not a number of redirects, from 1 on")),
    }
}

fn found(location: &str) -> Response {
    lead(StatusCode::FOUND, location)
}

fn lead(status: StatusCode, location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (status, [(header::LOCATION, location)]).into_response(),
        Err(_) => bad("the address has characters that a header cannot have"),
    }
}

async fn relative(Path(times): Path<String>, asked: Asked) -> Response {
    if asked
        .parameter("absolute")
        .is_some_and(|text| text == "true")
    {
        return absolute(Path(times), asked).await;
    }
    match next("relative", &times) {
        Ok(path) => found(&path),
        Err(detail) => bad(&detail),
    }
}

async fn absolute(Path(times): Path<String>, asked: Asked) -> Response {
    match next("absolute", &times) {
        Ok(path) => found(&format!("{}{path}", asked.base())),
        Err(detail) => bad(&detail),
    }
}

async fn redirect_to(asked: Asked) -> Response {
    let Some(url) = asked.parameter("url") else {
        return bad("the parameter url is missing");
    };
    match number(&asked, "status_code", 302, 399) {
        Ok(code @ 300..=399) => {
            let code = u16::try_from(code)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok());
            lead(code.unwrap_or(StatusCode::FOUND), &url)
        }
        Ok(_) => bad("status_code must be from 300 to 399"),
        Err(detail) => bad(&detail),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::get;

    #[tokio::test]
    async fn redirects_count_down() {
        for (path, location) in [
            ("/redirect/1", "/get"),
            ("/redirect/3", "/relative-redirect/2"),
            ("/relative-redirect/2", "/relative-redirect/1"),
            (
                "/absolute-redirect/2",
                "http://bin:8000/absolute-redirect/1",
            ),
            (
                "/redirect/2?absolute=true",
                "http://bin:8000/absolute-redirect/1",
            ),
            ("/redirect-to?url=http%3A%2F%2Fa%2Fb", "http://a/b"),
        ] {
            let answer = get(path).await;
            assert_eq!((answer.status, answer.header("location")), (302, location));
        }
        assert_eq!(get("/redirect-to?url=/x&status_code=307").await.status, 307);
        for path in [
            "/redirect/0",
            "/redirect/x",
            "/redirect-to",
            "/redirect-to?url=/x&status_code=200",
            "/redirect-to?url=%0A",
        ] {
            assert_eq!(get(path).await.status, 400, "{path}");
        }
    }
}
