//! `nc`: a TCP connection between standard input and output, as netcat makes one.
//!
//! Where `http_proxy` names a door the connection goes through its tunnel, as everything of a pod does.

use std::io::Read as _;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use dojo_kit::tunnel;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::shell::Shell;

/// How many bytes are moved at a time.
const BUFFER: usize = 16 * 1024;
/// Pieces of standard input that wait for the connection.
const WAITING: usize = 4;

/// netcat's flags, as far as they make sense for a client.
#[derive(Debug, Parser)]
#[command(
    name = "nc",
    about = "A TCP connection between standard input and output"
)]
struct Flags {
    /// Where to
    host: String,
    /// Its port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Give up when nothing happens for so many seconds: no connection, or no byte to read
    #[arg(short, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    wait: Option<u32>,
    /// Only see whether somebody takes the connection
    #[arg(short = 'z')]
    look: bool,
    /// Say whether somebody takes the connection
    #[arg(short)]
    verbose: bool,
}

/// Why it ends before the other side has ended it.
#[derive(Debug, thiserror::Error)]
enum NcError {
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    #[error("timed out")]
    Silence,
}

/// Runs an `nc` command line (without the program's name) and returns its exit status: 0, or 1 when
/// there is no connection.
pub async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let line = std::iter::once("nc").chain(arguments.iter().map(String::as_str));
    let flags = match Flags::try_parse_from(line) {
        Ok(flags) => flags,
        Err(asked) if asked.kind() == ErrorKind::DisplayHelp => {
            shell.out.text(&asked.to_string());
            return 0;
        }
        Err(error) => {
            shell.err.text(&error.to_string());
            return 1;
        }
    };
    match converse(&flags, shell, standard_input).await {
        Ok(()) => 0,
        Err(error) => {
            shell
                .err
                .line(&format!("nc: {}:{}: {error}", flags.host, flags.port));
            1
        }
    }
}

/// Read on a thread of its own, which nobody waits for when the other side ends the connection.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (to, input) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; BUFFER];
        while let Ok(read @ 1..) = std::io::stdin().read(&mut buffer) {
            if to.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    input
}

async fn converse(
    flags: &Flags,
    shell: &Shell,
    input: impl FnOnce() -> mpsc::Receiver<Vec<u8>>,
) -> Result<(), NcError> {
    let (host, port) = (&flags.host, flags.port);
    let environment = &shell.environment;
    let source = environment.source.as_deref().and_then(|ip| ip.parse().ok());
    let to = format!("{host}:{port}");
    let connecting = tunnel::connect(&to, environment.http_proxy.as_deref(), source);
    let mut stream = patiently(flags.wait, connecting).await??;
    if flags.verbose {
        shell.err.line(&format!("{host} ({to}) open"));
    }
    if flags.look {
        return Ok(());
    }
    exchange(&mut stream, input(), flags.wait, shell).await
}

/// Sends what comes in, shows what comes back, until the other side ends it.
async fn exchange(
    stream: &mut TcpStream,
    mut input: mpsc::Receiver<Vec<u8>>,
    wait: Option<u32>,
    shell: &Shell,
) -> Result<(), NcError> {
    let (mut read, mut write) = stream.split();
    let mut buffer = vec![0; BUFFER];
    let mut open = true;
    loop {
        tokio::select! {
            piece = input.recv(), if open => match piece {
                Some(piece) => write.write_all(&piece).await?,
                None => {
                    open = false;
                    write.shutdown().await?;
                }
            },
            read = patiently(wait, read.read(&mut buffer)) => match read?? {
                0 => return Ok(()),
                read => shell.out.bytes(&buffer[..read]),
            },
        }
    }
}

async fn patiently<T>(wait: Option<u32>, future: impl Future<Output = T>) -> Result<T, NcError> {
    match wait {
        None => Ok(future.await),
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds.into()), future)
            .await
            .map_err(|_| NcError::Silence),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::shell::captured::Captured;

    /// Answers each line with `hello` before it, and ends when the client does.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (read, mut write) = stream.split();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = format!("hello {line}\n");
                write.write_all(answer.as_bytes()).await.expect("sent");
            }
        });
        port
    }

    fn input(pieces: &[&str]) -> mpsc::Receiver<Vec<u8>> {
        let (to, input) = mpsc::channel(WAITING);
        for piece in pieces {
            to.try_send(piece.as_bytes().to_vec()).expect("room");
        }
        input
    }

    fn flags(line: &str) -> Flags {
        Flags::try_parse_from(line.split(' ')).expect(line)
    }

    #[tokio::test]
    async fn lines_go_there_and_answers_come_back_after_the_input_has_ended() {
        let (shell, port) = (Captured::new(false), echo().await);
        let flags = flags(&format!("nc -v -w 30 127.0.0.1 {port}"));
        let done = converse(&flags, &shell.shell, || input(&["port ", "9000\n"])).await;
        done.expect("an end");
        assert_eq!(shell.out(), "hello port 9000\n");
        assert_eq!(shell.err(), format!("127.0.0.1 (127.0.0.1:{port}) open\n"));
    }

    #[tokio::test]
    async fn looking_sends_nothing() {
        let (shell, port) = (Captured::new(false), echo().await);
        let flags = flags(&format!("nc -z 127.0.0.1 {port}"));
        let nothing = || panic!("standard input is read");
        converse(&flags, &shell.shell, nothing)
            .await
            .expect("a connection");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let shell = Captured::new(false);
        let line = ["127.0.0.1".to_owned(), port.to_string()];
        assert_eq!(run(&line, &shell.shell).await, 1);
        let said = shell.err();
        assert!(
            said.starts_with(&format!("nc: 127.0.0.1:{port}: ")),
            "{said}"
        );
        assert_eq!(run(&["-l".to_owned()], &shell.shell).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_when_it_was_asked_to() {
        let silent = patiently(Some(3), std::future::pending::<()>()).await;
        assert!(matches!(silent, Err(NcError::Silence)));
    }
}
