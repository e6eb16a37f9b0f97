//! booking and vaccine: one books a vaccination, the other has the stock.
//!
//! ```text
//! POST /bookings -> booking -> vaccine: GET /vaccines/checkAndBookStock?vaccineId=N
//!                      true: 201, the booking     false or no answer: 500, and nothing is kept
//! ```
//!
//! Both are slow on purpose ([`capacity`]): under a hundred users some requests take longer than the
//! mesh's time limit, and more copies make more of them succeed, which is what the autoscaling lab
//! shows.

pub mod bookings;
pub mod capacity;
#[cfg(test)]
mod testing;
pub mod vaccines;

/// The port of both unless told otherwise.
const PORT: u16 = 8080;

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Books vaccinations.
    Booking(bookings::Args),
    /// Has vaccines in stock.
    Vaccine(vaccines::Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Booking(args) => args.run().await,
            Self::Vaccine(args) => args.run().await,
        }
    }
}
