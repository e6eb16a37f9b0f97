//! Bookinfo: the bookstore that service-mesh labs are made of.
//!
//! ```text
//! browser -> productpage -> details
//!                        -> reviews v1            (no stars)
//!                        -> reviews v2 -> ratings (black stars)
//!                        -> reviews v3 -> ratings (red stars)
//! ```
//!
//! Each service is a module with an `Args` (its flags and variables) and a `router` built from
//! typed configuration. Its addresses, JSON, error texts, time limits and retries are those of the
//! well-known sample, because labs look for them; the page and the code are our own.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

pub mod details;
pub mod productpage;
pub mod ratings;
pub mod reviews;
#[cfg(test)]
mod testing;
mod upstream;

/// The port that all four services listen on unless told otherwise.
pub const PORT: u16 = 9080;

/// The services of bookinfo, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// The bookstore's web page.
    Productpage(productpage::Args),
    /// Facts about the book.
    Details(details::Args),
    /// What reviewers say, with stars in versions v2 and v3.
    Reviews(reviews::Args),
    /// How many stars the reviewers give.
    Ratings(ratings::Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Productpage(args) => args.run().await?,
            Self::Details(args) => args.run().await?,
            Self::Reviews(args) => args.run().await?,
            Self::Ratings(args) => args.run().await?,
        }
        Ok(())
    }
}

/// A JSON answer whose text is fixed, to the blank.
fn json_text(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
