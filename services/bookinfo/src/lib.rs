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

pub mod book_service;
pub mod details;
pub mod productpage;
pub mod ratings;
pub mod reviews;
#[cfg(test)]
mod testing;
mod upstream;

/// The port that all four services listen on unless told otherwise.
pub const PORT: u16 = 9080;

/// The services of bookinfo, as subcommands. Their `--version` is that of the service, so that of a
/// command line around them must not be theirs too.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// The bookstore's web page.
    #[command(disable_version_flag = true)]
    Productpage(productpage::Args),
    /// Facts about the book.
    #[command(disable_version_flag = true)]
    Details(details::Args),
    /// Stands in for the book service on the Internet that details v2 asks.
    #[command(disable_version_flag = true)]
    BookService(book_service::Args),
    /// What reviewers say, with stars in versions v2 and v3.
    #[command(disable_version_flag = true)]
    Reviews(reviews::Args),
    /// How many stars the reviewers give.
    #[command(disable_version_flag = true)]
    Ratings(ratings::Args),
    /// Stands in for the database of ratings v2, of which it speaks MySQL's protocol.
    #[command(disable_version_flag = true)]
    RatingsDatabase(ratings::stand_in::Args),
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
            Self::BookService(args) => args.run().await?,
            Self::Reviews(args) => args.run().await?,
            Self::Ratings(args) => args.run().await?,
            Self::RatingsDatabase(args) => args.run().await?,
        }
        Ok(())
    }
}

/// A JSON answer whose text is fixed, to the blank.
fn json_text(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    #[derive(Parser)]
    #[command(version, propagate_version = true)]
    struct Cli {
        #[command(subcommand)]
        command: super::Command,
    }

    #[test]
    fn the_commands_fit_into_a_command_line_with_a_version_of_its_own() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from("x reviews --version v2 --listen 127.0.0.1:9080".split(' '));
        assert!(matches!(cli.command, super::Command::Reviews(args) if args.version == "v2"));
        assert!(Cli::try_parse_from("x details 9080".split(' ')).is_ok());
        assert!(Cli::try_parse_from("x details 9080 --listen 9080".split(' ')).is_err());
        assert!(Cli::try_parse_from("x ratings --listen-port 9080".split(' ')).is_ok());
    }
}
