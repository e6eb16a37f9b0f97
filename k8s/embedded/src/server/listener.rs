//! The TLS listener: HTTP/1.1 and HTTP/2 on loopback.

use super::ApiServer;
use crate::auth::User;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::Layer;

mod origin;
mod stall;

/// Most connections at once.
const CONNECTIONS: usize = 512;

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves the API on `listener` until the future is dropped.
///
/// # Errors
/// When the certificates cannot be used.
pub async fn serve(server: ApiServer, listener: TcpListener) -> io::Result<()> {
    let acceptor = acceptor(&server)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // the semaphore is never closed
        let place = places
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // out of file descriptors, or a client that went away: others go on
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection(server, acceptor, stream).await {
                tracing::debug!(%error, "a connection has ended");
            }
        });
    }
}

async fn connection(
    server: ApiServer,
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let router = server
        .router()
        .layer(axum::middleware::from_fn(origin::layer));
    // the CA has signed one client certificate, the administrator's
    let is_admin = match certificate {
        Some(certificate) => {
            CertificateDer::from_pem_slice(server.authority().admin.as_bytes())? == *certificate
        }
        None => false,
    };
    let stream = TokioIo::new(stall::WriteTimeout::new(stream));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(60)));
    if is_admin {
        let service = axum::Extension(User::admin()).layer(router);
        builder
            .serve_connection_with_upgrades(stream, TowerToHyperService::new(service))
            .await
    } else {
        builder
            .serve_connection_with_upgrades(stream, TowerToHyperService::new(router))
            .await
    }
}

fn acceptor(server: &ApiServer) -> io::Result<TlsAcceptor> {
    let authority = server.authority();
    let certificates = CertificateDer::pem_slice_iter(authority.server.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let key =
        PrivateKeyDer::from_pem_slice(authority.server_key.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(authority.ca.as_bytes()).map_err(io::Error::other)?;
    roots.add(ca).map_err(io::Error::other)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(io::Error::other)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
