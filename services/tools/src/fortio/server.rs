//! `fortio server`: what the fortio image does when a pod gives it nothing to do. Sends back what it is sent.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use clap::Parser;
use dojo_kit::listen::{self, ListenAddress};
use dojo_kit::server;

use crate::shell::Shell;

/// The largest body that is sent back, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// What `fortio server` is told.
#[derive(Debug, Parser)]
#[command(name = "fortio server", no_binary_name = true)]
struct Args {
    /// Port or address of the HTTP echo
    #[arg(long, default_value = "8080")]
    http_port: ListenAddress,
    /// Port or address of the gRPC ping
    #[arg(long, default_value = "8079")]
    grpc_port: ListenAddress,
    /// Port or address of the TCP echo
    #[arg(long, default_value = "8078")]
    tcp_port: ListenAddress,
    /// Port or address of the UDP echo
    #[arg(long, default_value = "8078")]
    udp_port: ListenAddress,
    /// Port or address that sends plain HTTP to HTTPS
    #[arg(long, default_value = "8081")]
    redirect_port: ListenAddress,
}

/// The flags, which fortio writes with one dash.
const FLAGS: [&str; 5] = [
    "-http-port",
    "-grpc-port",
    "-tcp-port",
    "-udp-port",
    "-redirect-port",
];

/// Serves until told to stop.
pub(super) async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let doubled = arguments.iter().map(|argument| {
        let single = FLAGS.iter().any(|flag| argument.starts_with(flag));
        format!("{}{argument}", if single { "-" } else { "" })
    });
    let args = match Args::try_parse_from(doubled) {
        Ok(args) => args,
        Err(error) => {
            let status = u8::try_from(error.exit_code()).unwrap_or(1);
            let sink = if status == 0 { &shell.out } else { &shell.err };
            sink.text(&error.to_string());
            return status;
        }
    };
    match serve(&args, shell).await {
        Ok(()) => 0,
        Err(error) => {
            shell.err.line(&format!("Error: {error}"));
            1
        }
    }
}

async fn serve(args: &Args, shell: &Shell) -> Result<(), Box<dyn std::error::Error>> {
    let container = listen::container_address()?;
    let [http, grpc, tcp, redirect] = [
        &args.http_port,
        &args.grpc_port,
        &args.tcp_port,
        &args.redirect_port,
    ]
    .map(|port| port.resolve(container));
    let udp = args.udp_port.resolve(container);
    let listener = server::bind(http).await?;
    let pings = server::bind(grpc).await?;
    let redirects = server::bind(redirect).await?;
    let never = std::future::pending;
    // They end with the process, which the HTTP side keeps until it is told to stop.
    tokio::spawn(server::serve(pings, super::ping::router(), never()));
    tokio::spawn(server::serve(redirects, super::echo::to_https(), never()));
    tokio::spawn(super::echo::tcp(server::bind(tcp).await?));
    tokio::spawn(super::echo::udp(super::echo::bind_udp(udp).await?));
    let stop = server::stop_signal()?;
    let version = super::version();
    shell.err.line(&format!(
        "Fortio {version} HTTP echo server listening on {http}, gRPC ping on {grpc}, TCP echo on {tcp}, \
         UDP echo on {udp}, HTTPS redirector on {redirect}"
    ));
    server::serve(listener, echo(), stop).await;
    Ok(())
}

fn echo() -> Router {
    let answer = |headers: axum::http::HeaderMap, body: Bytes| async move {
        let mut response = Response::new(Body::from(body));
        if let Some(content_type) = headers.get(CONTENT_TYPE) {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, content_type.clone());
        }
        response
    };
    Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY))
}
