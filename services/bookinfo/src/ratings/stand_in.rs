//! What stands in for the databases of the sample, mysqldb and mongodb: two rows in memory behind
//! so much of MySQL's protocol as ratings v2, and a person with the `mysql` client, need. A restart
//! forgets changes, as it does in the sample's containers.
//!
//! The protocol is described in MySQL's documentation, "Client/Server Protocol".

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use dojo_kit::listen::{self, ListenAddress};
use dojo_kit::telemetry::{self, TelemetryArgs};
use dojo_kit::{Identity, connections, server};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::database::STARS;

/// The largest packet that is taken, in bytes.
const MAX_PACKET: usize = 64 * 1024;
/// The most connections at a time.
const MAX_CONNECTIONS: usize = 128;
/// How long a silent connection is kept.
const IDLE: Duration = Duration::from_secs(600);
/// What the server can do: the 4.1 protocol, a database in the log-in, native passwords.
const CAPABILITIES: u32 = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
const PLUGIN: &str = "mysql_native_password";

/// The flags of the stand-in.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long, value_name = "[IP:]PORT", default_value = "3306")]
    pub listen: ListenAddress,
    /// The password of every user; empty: any will do.
    #[arg(
        long,
        env = "MYSQL_ROOT_PASSWORD",
        value_name = "PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    pub password: String,
    /// The version, shown in logs.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Taken as the real server takes it, without effect.
    #[arg(long, hide = true, value_name = "NAME")]
    pub default_authentication_plugin: Option<String>,
    /// Taken as the real server takes it, without effect.
    #[arg(long, hide = true)]
    pub ipv6: bool,
    /// Taken as the real server takes it: it is on all of the container's addresses anyway.
    #[arg(long = "bind_ip_all", hide = true)]
    pub bind_ip_all: bool,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn run(self) -> anyhow::Result<()> {
        let own: Option<IpAddr> = listen::container_address()?;
        let identity = Identity::new("ratings-database", &self.version);
        let client = dojo_kit::client::client(own)?;
        let telemetry = telemetry::init(&self.telemetry, &identity, &client)?;
        let address = self.listen.resolve(own);
        let listener = server::bind(address).await?;
        tracing::info!("a stand-in for the database of ratings, listening on {address}");
        let stop = server::stop_signal()?;
        tokio::select! {
            () = serve(listener, self.password) => {}
            () = stop => {}
        }
        telemetry.finish().await;
        Ok(())
    }
}

/// Serves connections for ever.
pub async fn serve(listener: TcpListener, password: String) {
    let (password, stars) = (Arc::<str>::from(password), Arc::new(Mutex::new(STARS)));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let session = |stream| {
        let (password, stars) = (password.clone(), stars.clone());
        let mut session = Session {
            stream,
            sequence: 0,
        };
        async move { session.run(&password, &stars).await }
    };
    connections::serve(listener, slots, session).await;
}

struct Session {
    stream: TcpStream,
    sequence: u8,
}

impl Session {
    async fn run(&mut self, password: &str, stars: &Mutex<[i64; 2]>) -> std::io::Result<()> {
        let nonce: [u8; 20] = std::array::from_fn(|_| rand::random_range(1..=127));
        self.send(&greeting(&nonce)).await?;
        let log_in = self.receive().await?;
        match user_of(&log_in, password, &nonce) {
            Ok(user) => tracing::info!("{user} logs in"),
            Err(refusal) => {
                tracing::warn!("{refusal}");
                return self.send(&error(1045, "28000", &refusal)).await;
            }
        }
        self.send(OK).await?;
        loop {
            self.sequence = 0;
            let command = self.receive().await?;
            match command.split_first() {
                Some((1, _)) | None => return Ok(()),
                // COM_INIT_DB, COM_PING
                Some((2 | 14, _)) => self.send(OK).await?,
                // COM_QUERY
                Some((3, text)) => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    tracing::info!("query: {text}");
                    let answer = {
                        let mut stars = stars.lock().unwrap_or_else(PoisonError::into_inner);
                        answer(&text, &mut stars)
                    };
                    for packet in answer {
                        self.send(&packet).await?;
                    }
                }
                Some((number, _)) => {
                    let text = format!("command {number} is not among those of this stand-in");
                    self.send(&error(1047, "08S01", &text)).await?;
                }
            }
        }
    }

    async fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut head = [0; 4];
        timeout(IDLE, self.stream.read_exact(&mut head)).await??;
        let length = (&head[..3]).get_uint_le(3) as usize;
        if length > MAX_PACKET {
            let text = format!("a packet of {length} bytes; at most {MAX_PACKET} are taken");
            self.send(&error(1153, "08S01", &text)).await?;
            return Err(std::io::Error::other(text));
        }
        self.sequence = head[3].wrapping_add(1);
        let mut packet = vec![0; length];
        timeout(IDLE, self.stream.read_exact(&mut packet)).await??;
        Ok(packet)
    }

    async fn send(&mut self, payload: &[u8]) -> std::io::Result<()> {
        let mut packet = Vec::with_capacity(4 + payload.len());
        packet.put_uint_le(payload.len() as u64, 3);
        packet.put_u8(self.sequence);
        packet.put_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        timeout(IDLE, self.stream.write_all(&packet)).await?
    }
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

fn greeting(nonce: &[u8; 20]) -> Vec<u8> {
    let mut packet = vec![10];
    packet.put_slice(b"8.0.0-meshdojo\0");
    packet.put_u32_le(1);
    packet.put_slice(&nonce[..8]);
    packet.put_u8(0);
    packet.put_u16_le((CAPABILITIES & 0xffff) as u16);
    // utf8mb4; autocommit
    packet.put_u8(45);
    packet.put_u16_le(2);
    packet.put_u16_le((CAPABILITIES >> 16) as u16);
    packet.put_u8(21);
    packet.put_bytes(0, 10);
    packet.put_slice(&nonce[8..]);
    packet.put_u8(0);
    packet.put_slice(PLUGIN.as_bytes());
    packet.put_u8(0);
    packet
}

/// Who logs in with this answer to the greeting.
fn user_of(answer: &[u8], password: &str, nonce: &[u8; 20]) -> Result<String, String> {
    let broken = || "the log-in cannot be read".to_owned();
    // Capabilities, packet size, character set, 23 bytes for later use.
    let rest = answer.get(32..).ok_or_else(broken)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
    let user = String::from_utf8_lossy(&rest[..end]).into_owned();
    let (length, rest) = rest[end + 1..].split_first().ok_or_else(broken)?;
    let proof = rest.get(..usize::from(*length)).ok_or_else(broken)?;
    if password.is_empty() || proof == scramble(password, nonce) {
        Ok(user)
    } else {
        let used = if proof.is_empty() { "NO" } else { "YES" };
        Err(format!(
            "Access denied for user '{user}' (using password: {used}); the password is that of MYSQL_ROOT_PASSWORD"
        ))
    }
}

/// What proves that the client knows the password without sending it.
fn scramble(password: &str, nonce: &[u8; 20]) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = sha1(password.as_bytes());
    let twice = sha1(once.as_ref());
    let salted = sha1(&[nonce, twice.as_ref()].concat());
    let pairs = once.as_ref().iter().zip(salted.as_ref());
    pairs.map(|(one, other)| one ^ other).collect()
}

fn error(code: u16, state: &str, text: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.put_u16_le(code);
    packet.put_u8(b'#');
    packet.put_slice(state.as_bytes());
    packet.put_slice(text.as_bytes());
    packet
}

/// The packets that answer a query.
fn answer(query: &str, stars: &mut [i64; 2]) -> Vec<Vec<u8>> {
    let lower = query.to_ascii_lowercase();
    let words: Vec<&str> = lower
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| !word.is_empty() && *word != "test")
        .collect();
    match words.as_slice() {
        ["set" | "use" | "begin" | "commit" | "rollback", ..] => vec![OK.to_vec()],
        ["select", "version_comment", ..] => table("@@version_comment", &["meshdojo".to_owned()]),
        ["select", "rating", "from", "ratings"] | ["select", "from", "ratings"] => {
            table("Rating", &stars.map(|stars| stars.to_string()))
        }
        [
            "update",
            "ratings",
            "set",
            "rating",
            value,
            "where",
            "reviewerid",
            reviewer,
        ] => {
            let star = reviewer
                .parse::<usize>()
                .ok()
                .and_then(|number| stars.get_mut(number.checked_sub(1)?));
            if let (Some(star), Ok(value)) = (star, value.parse()) {
                *star = value;
            }
            vec![OK.to_vec()]
        }
        ["update", "ratings", "set", "rating", value] if value.parse::<i64>().is_ok() => {
            stars.fill(value.parse().unwrap_or_default());
            vec![OK.to_vec()]
        }
        _ => vec![error(
            1064,
            "42000",
            "this stand-in understands SELECT Rating FROM ratings and UPDATE ratings SET Rating=N WHERE ReviewerID=1 or 2",
        )],
    }
}

/// A table with one column.
fn table(column: &str, rows: &[String]) -> Vec<Vec<u8>> {
    let mut definition = Vec::new();
    for text in ["def", "test", "ratings", "ratings", column, column] {
        put_text(&mut definition, text);
    }
    let (character_set, kind) = if column == "Rating" {
        (63, 3)
    } else {
        (45, 253)
    };
    definition.put_u8(12);
    definition.put_u16_le(character_set);
    definition.put_u32_le(64);
    definition.put_u8(kind);
    definition.put_bytes(0, 5);
    let mut packets = vec![vec![1], definition, END.to_vec()];
    packets.extend(rows.iter().map(|row| {
        let mut packet = Vec::new();
        put_text(&mut packet, row);
        packet
    }));
    packets.push(END.to_vec());
    packets
}

/// A text with its length before it; all of ours are short.
fn put_text(packet: &mut Vec<u8>, text: &str) {
    packet.put_u8(text.len() as u8);
    packet.put_slice(text.as_bytes());
}
