//! TLS to the control plane, before there is any certificate of our own.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::provider;

/// Shakes hands with a server whose certificate must be for `host` and come from an authority of the
/// file `roots`, which is read each time: authorities change.
pub(crate) async fn connect(
    stream: TcpStream,
    host: &str,
    roots: &Path,
) -> io::Result<TlsStream<TcpStream>> {
    let said = |error: &dyn std::fmt::Display| {
        let path = roots.display();
        io::Error::other(format!(
            "{path}, what the control plane's certificate must come from (--root-cert-file): {error}"
        ))
    };
    let pem = tokio::fs::read(roots).await.map_err(|error| said(&error))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| said(&error))?;
        store.add(certificate).map_err(|error| said(&error))?;
    }
    if store.is_empty() {
        return Err(said(&"it holds no certificate"));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(store)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
