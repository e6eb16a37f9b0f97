//! tcp-echo: sends each line back with a word before it, over plain TCP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dojo_kit::listen::{self, ListenAddress};
use dojo_kit::telemetry::{self, TelemetryArgs};
use dojo_kit::{Identity, connections, server};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest line, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// The most connections at a time, over all ports.
const MAX_CONNECTIONS: usize = 512;
/// How long a silent connection is kept.
const IDLE: Duration = Duration::from_secs(3600);

/// The flags of tcp-echo.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen: ports, or addresses with ports, separated by commas.
    #[arg(value_name = "PORT,...", value_delimiter = ',', num_args = 1, action = clap::ArgAction::Set,
          default_value = "9000")]
    pub listen: Vec<ListenAddress>,
    /// The word before each line.
    #[arg(value_name = "WORD", default_value = "hello")]
    pub prefix: String,
    /// Say this line first, as mail servers and databases do.
    #[arg(long, value_name = "LINE")]
    pub greeting: Option<String>,
    /// The version, shown in traces.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn run(self) -> anyhow::Result<()> {
        let own: Option<IpAddr> = listen::container_address()?;
        let identity = Identity::new("tcp-echo", &self.version);
        let client = dojo_kit::client::client(own).context("cannot set up the HTTP client")?;
        let telemetry = telemetry::init(&self.telemetry, &identity, &client)?;
        let words = Arc::new(Words {
            greeting: self.greeting.map(|line| line + "\n"),
            prefix: self.prefix,
        });
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for address in self.listen {
            let address = address.resolve(own);
            let listener = server::bind(address).await?;
            tracing::info!("listening on {address}, prefix: {}", words.prefix);
            tokio::spawn(serve(listener, words.clone(), slots.clone()));
        }
        server::stop_signal()
            .context("cannot listen for signals")?
            .await;
        telemetry.finish().await;
        Ok(())
    }
}

/// What is said.
struct Words {
    /// Before anything is asked.
    greeting: Option<String>,
    /// Before each line.
    prefix: String,
}

/// Serves connections for ever.
async fn serve(listener: TcpListener, words: Arc<Words>, slots: Arc<Semaphore>) {
    connections::serve(listener, slots, |stream| echo(stream, words.clone())).await;
}

async fn echo(mut stream: TcpStream, words: Arc<Words>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    if let Some(greeting) = &words.greeting {
        timeout(IDLE, write.write_all(greeting.as_bytes())).await??;
    }
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut reader).take(MAX_LINE);
        let read = timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read as u64 == MAX_LINE {
            tracing::warn!("a line is longer than {MAX_LINE} bytes; the connection is closed");
            return Ok(());
        }
        tracing::info!("request: {}", String::from_utf8_lossy(&line).trim_end());
        let answer = [words.prefix.as_bytes(), b" ", &line].concat();
        timeout(IDLE, write.write_all(&answer)).await??;
        tracing::info!("response: {}", String::from_utf8_lossy(&answer).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    async fn connected(greeting: Option<&str>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let slots = Arc::new(Semaphore::new(2));
        let words = Words {
            greeting: greeting.map(Into::into),
            prefix: "one".into(),
        };
        tokio::spawn(serve(listener, words.into(), slots));
        TcpStream::connect(address).await.expect("connected")
    }

    #[tokio::test]
    async fn a_greeting_comes_first_and_lines_come_back_with_the_word_before_them() {
        let mut stream = connected(Some("ready\n")).await;
        stream.write_all(b"hello\nworld\n").await.expect("sent");
        stream.shutdown().await.expect("closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert_eq!(answer, "ready\none hello\none world\n");
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up() {
        let mut stream = connected(None).await;
        let long = vec![b'x'; 2 * MAX_LINE as usize];
        // The other side may close before all is sent.
        let _ = stream.write_all(&long).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_command_line_is_that_of_the_well_known_image() {
        let args = Cli::parse_from(["tcp-echo", "9000,9001", "two"]).args;
        assert_eq!(
            args.listen,
            [ListenAddress::Port(9000), ListenAddress::Port(9001)]
        );
        assert_eq!(args.prefix, "two");
        assert_eq!(Cli::parse_from(["tcp-echo"]).args.prefix, "hello");
        assert!(Cli::try_parse_from(["tcp-echo", "x"]).is_err());
    }
}
