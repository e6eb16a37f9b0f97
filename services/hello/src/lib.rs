//! The services that only say hello, and in which version they do.
//!
//! `hello` fails at random when told to, and logs each answer in one line that labs count;
//! `helloworld` names its version and its pod, and burns some CPU per request, so that an
//! autoscaler has something to do; `web` shows a page, as a fresh nginx does.

pub mod hello_server;
pub mod helloworld;
#[cfg(test)]
mod testing;
pub mod web;

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Says hello, fails at random, logs each answer.
    Hello(hello_server::Args),
    /// Names its version and its pod, and burns some CPU.
    Helloworld(helloworld::Args),
    /// A static web server: a page, or the files of a folder.
    #[command(disable_version_flag = true)]
    Web(web::Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Hello(args) => args.run().await?,
            Self::Helloworld(args) => args.run().await?,
            Self::Web(args) => args.run().await?,
        }
        Ok(())
    }
}
