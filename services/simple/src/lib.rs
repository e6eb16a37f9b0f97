//! simple: a service that can be any service, by its environment alone.
//!
//! It has a name and a message, calls the services it is told to call, and answers with the tree of
//! those calls. The resilience lab makes `simple-web` and `simple-backend` of it. Its variables,
//! JSON and error texts are those of the well-known fake service, over HTTP.
//!
//! ```text
//! request -> rate limit -> error injection -> upstream calls -> delay -> answer written down
//!            [rate_limit]  (kit's chaos)      [upstream]        (kit's)  [call_tree]
//! ```
//!
//! The answer is written down last, by the outermost layer ([`service`]), because it says how long
//! everything took.

pub mod args;
pub mod call_tree;
pub mod cors;
pub mod go_text;
mod grpc;
pub mod load;
pub mod rate_limit;
pub mod service;
#[cfg(test)]
mod tests;
pub mod upstream;
mod variables;

pub use args::Args;

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Any service: a name, a message, and calls to others (the fake-service contract).
    Simple(Box<Args>),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Simple(args) => args.run().await,
        }
    }
}
