//! What the course services that were written with Spring have in common, seen from outside.
//!
//! delivery, booking and vaccine are each a resource under `/NAMEs`, an actuator and errors in one
//! shape. Labs look at all three, so they are made here once:
//!
//! | module | question it answers |
//! | --- | --- |
//! | [`problem`] | how does an error look? |
//! | [`entity`] | which fields has a resource, and what may a client send? |
//! | [`repository`] | where are resources kept, and how many? |
//! | [`rest`] | how are they served (HAL, paging, status codes)? |
//! | [`pretty`] | how is JSON written, to the blank? |

pub mod entity;
pub mod pretty;
pub mod problem;
pub mod repository;
pub mod rest;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The content type of what is not a resource: errors and the actuator.
pub const JSON: &str = "application/json;charset=UTF-8";

/// The actuator's answer about health: 200 and `UP`, or 503 and `DOWN`.
#[must_use]
pub fn health(up: bool) -> Response {
    if up {
        json_text(StatusCode::OK, r#"{"status":"UP"}"#)
    } else {
        json_text(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"DOWN"}"#)
    }
}

/// An answer whose JSON is fixed, to the blank.
#[must_use]
pub fn json_text(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], text).into_response()
}
