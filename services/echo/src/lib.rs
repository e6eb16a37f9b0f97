//! Echoes over other protocols than HTTP/1.1: [`tcp_echo`] sends lines back with a word before them,
//! [`grpc_echo`] answers gRPC calls. Two copies of either show how a mesh shifts such traffic.

pub mod grpc_echo;
pub mod tcp_echo;

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Sends each line back with a word before it.
    TcpEcho(Box<tcp_echo::Args>),
    /// Answers gRPC calls with what they say; tells its methods to tools such as grpcurl.
    #[command(disable_version_flag = true)]
    GrpcEcho(Box<grpc_echo::Args>),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::TcpEcho(args) => args.run().await,
            Self::GrpcEcho(args) => Ok(args.run().await?),
        }
    }
}
