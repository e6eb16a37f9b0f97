//! fortio's gRPC ping: the server that its image runs on 8079, and `fortio grpcping`.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use clap::Parser;
use dojo_kit::grpc::standard::{self, Described};
use dojo_kit::grpc::{self, Code, Status};
use dojo_kit::tunnel;
use prost::Message;
use prost_types::field_descriptor_proto::Type;

use crate::route::Authority;
use crate::shell::Shell;

/// The longest that a ping may be asked to wait for its answer.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(65);
const PORT: u16 = 8079;

const PING: Described = Described {
    file: "ping.proto",
    package: "fgrpc",
    service: "PingServer",
    method: "Ping",
    asked: ("PingMessage", FIELDS),
    answered: ("PingMessage", FIELDS),
};

const FIELDS: &[standard::Field] = &[
    ("seq", Type::Int64),
    ("ts", Type::Int64),
    ("payload", Type::String),
    ("delayNanos", Type::Int64),
];

#[derive(Clone, PartialEq, Message)]
struct Ping {
    #[prost(int64, tag = "1")]
    seq: i64,
    /// When it was sent, or received, in nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    ts: i64,
    #[prost(string, tag = "3")]
    payload: String,
    #[prost(int64, tag = "4")]
    delay_nanos: i64,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default()
}

/// The routes of the ping server.
pub(super) fn router() -> Router {
    let answer = |mut ping: Ping| async move {
        let delay = Duration::from_nanos(u64::try_from(ping.delay_nanos).unwrap_or(0));
        if delay > MAX_DELAY {
            let text = format!("a delay of {delay:?}; at most {MAX_DELAY:?} are waited");
            return Err(Status::new(Code::InvalidArgument, text));
        }
        tokio::time::sleep(delay).await;
        ping.ts = now();
        Ok(ping)
    };
    let method = move |request| std::future::ready(grpc::serve(request, answer));
    standard::routes(PING).route(&PING.path(), post(method))
}

/// What `fortio grpcping` is told.
#[derive(Debug, Parser)]
#[command(name = "fortio grpcping", no_binary_name = true)]
struct Args {
    /// How many pings
    #[arg(short, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    n: u32,
    /// What each carries
    #[arg(long, default_value = "")]
    payload: String,
    /// HOST or HOST:PORT
    host: String,
}

/// Pings, and reports round trips as `fortio load` reports calls: on standard error.
pub(super) async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let doubled = arguments.iter().map(|word| match word.as_str() {
        "-payload" => "--payload".to_owned(),
        _ => word.clone(),
    });
    let args = match Args::try_parse_from(doubled) {
        Ok(args) => args,
        Err(error) => {
            shell.err.text(&error.to_string());
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    match ping(&args, shell).await {
        Ok(trips) => {
            let sum: Duration = trips.iter().sum();
            let micros = |trip: &Duration| trip.as_secs_f64() * 1e6;
            let (least, most) = (trips.iter().min(), trips.iter().max());
            shell.err.line(&format!(
                "RTT histogram usec : count {} avg {:.3} min {:.3} max {:.3} sum {:.3}",
                trips.len(),
                micros(&sum) / trips.len() as f64,
                least.map_or(0.0, micros),
                most.map_or(0.0, micros),
                micros(&sum),
            ));
            0
        }
        Err(error) => {
            shell.err.line(&format!("Error: {error}"));
            1
        }
    }
}

async fn ping(args: &Args, shell: &Shell) -> Result<Vec<Duration>, String> {
    let (host, port) = match args.host.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("port {port:?}"))?),
        None => (args.host.as_str(), PORT),
    };
    let to = Authority {
        host: host.to_owned(),
        port,
    }
    .to_string();
    let source = shell.environment.source.as_deref();
    let source = source.and_then(|source| source.parse().ok());
    let mut trips = Vec::new();
    for seq in 1..=i64::from(args.n) {
        let stream = tunnel::connect(&to, shell.environment.http_proxy.as_deref(), source)
            .await
            .map_err(|error| error.to_string())?;
        let message = Ping {
            seq,
            ts: now(),
            payload: args.payload.clone(),
            delay_nanos: 0,
        };
        let (begun, none) = (Instant::now(), http::HeaderMap::new());
        let path = PING.path();
        let answered = grpc::call::<Ping>(stream, &to, &path, none, &message, LIMIT);
        let (answer, _) = answered.await.map_err(|status| status.to_string())?;
        if (answer.seq, &answer.payload) != (seq, &args.payload) {
            return Err(format!("ping {seq} came back as {answer:?}"));
        }
        let trip = begun.elapsed();
        shell.err.line(&format!(
            "Ping RTT {:.0} usec (seq {seq})",
            trip.as_secs_f64() * 1e6
        ));
        trips.push(trip);
    }
    Ok(trips)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::captured::Captured;

    #[tokio::test]
    async fn pings_come_back_and_their_times_are_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let forever = std::future::pending();
        tokio::spawn(dojo_kit::server::serve(listener, router(), forever));
        let captured = Captured::new(false);
        let words = ["-n", "3", "-payload", "hello", &address].map(str::to_owned);
        assert_eq!(run(&words, &captured.shell).await, 0, "{}", captured.err());
        let text = captured.err();
        assert_eq!(text.matches("Ping RTT ").count(), 3, "{text}");
        assert!(text.contains("RTT histogram usec : count 3 avg "), "{text}");

        let captured = Captured::new(false);
        let words = ["localhost:1".to_owned()];
        assert_eq!(run(&words, &captured.shell).await, 1);
        assert!(captured.err().starts_with("Error: "), "{}", captured.err());
    }
}
