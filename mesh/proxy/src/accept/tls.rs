//! From an accepted connection to one whose protocol can be told: ends TLS where the filter chain
//! says so.

use std::{cell::OnceCell, rc::Rc};

use crate::{
    codec,
    downstream::Downstream,
    sniff::{self, Rewind},
    tap::Wire,
    tcp,
};

/// Carries a connection to its end.
pub(crate) async fn serve(stream: Wire, mut connection: Downstream) {
    let listener = connection.listener.load_full();
    if !listener.inspects_tls() {
        return codec::serve(stream, Rc::new(connection)).await;
    }
    let mut stream = Rewind::new(stream);
    let Ok(hello) = sniff::hello(&mut stream).await else {
        // The client is gone.
        return;
    };
    let chain = listener.transport_of(connection.destination.as_ref(), &hello);
    let tls = chain.map(|tls| tls.cloned());
    connection.hello = OnceCell::from(hello);
    let Some(tls) = tls else {
        tcp::refuse(&Rc::new(connection));
        // The client sees a reset, not an orderly end.
        let _ =
            socket2::SockRef::from(stream.inner().socket()).set_linger(Some(Default::default()));
        return;
    };
    let (Some(tls), Some(hello)) = (tls, connection.hello.get()) else {
        return codec::serve_sniffed(stream, Rc::new(connection)).await;
    };
    match tls.accept(stream, hello).await {
        Ok((stream, peer)) => {
            if let Some(peer) = &peer {
                let labels = &connection.worker.shared.labels;
                connection.principal = labels.principal(&peer.identity);
            }
            connection.peer = peer;
            connection.encrypted = true;
            codec::serve(stream, Rc::new(connection)).await;
        }
        Err(error) => {
            let server = &connection.worker.shared.registry.server;
            server.tls_handshake_failures.add(1);
            tracing::debug!(client = %connection.remote, "TLS handshake: {error}");
        }
    }
}
