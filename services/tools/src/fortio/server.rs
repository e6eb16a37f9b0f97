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
}

/// Serves until told to stop.
pub(super) async fn run(arguments: &[String], shell: &Shell) -> u8 {
    let doubled = arguments.iter().map(|argument| {
        let single = argument.starts_with("-http-port") || argument.starts_with("-grpc-port");
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
    let address = args.http_port.resolve(container);
    let listener = server::bind(address).await?;
    let pings = args.grpc_port.resolve(container);
    let ping_listener = server::bind(pings).await?;
    // It ends with the process, which the HTTP side keeps until it is told to stop.
    tokio::spawn(server::serve(
        ping_listener,
        super::ping::router(),
        std::future::pending(),
    ));
    let stop = server::stop_signal()?;
    let version = super::version();
    shell.err.line(&format!(
        "Fortio {version} HTTP echo server listening on {address}, gRPC ping on {pings}"
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
