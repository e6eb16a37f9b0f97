//! `POST /v1/certificate`: a proxy sends a signing request and its ServiceAccount token, and gets a
//! certificate of that ServiceAccount's identity.

use std::{sync::Arc, time::Duration};

use crate::{
    authenticate::bearer,
    push::{Hub, refuse},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use mesh_config::SignedCertificate;

/// A signing request is about 500 bytes.
const REQUEST_BYTES: usize = 16 * 1024;

/// Signs for those who prove who they are.
pub(crate) struct Signer {
    pub(crate) hub: Arc<Hub>,
    /// Life of what is signed.
    pub(crate) life: Duration,
}

pub(crate) fn router(signer: Arc<Signer>) -> Router {
    Router::new()
        .route("/v1/certificate", post(certificate))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(signer)
}

async fn certificate(
    State(signer): State<Arc<Signer>>,
    headers: HeaderMap,
    request: String,
) -> Response {
    let authenticator = &signer.hub.authenticator;
    let (namespace, account) = match authenticator.service_account(bearer(&headers)).await {
        Ok(account) => account,
        Err(refused) => return refuse(&signer.hub, "certificate", &refused),
    };
    let identity = crate::identity(&namespace, &account);
    let authority = signer.hub.authority.borrow().clone();
    match authority.sign(&request, &identity, signer.life) {
        Ok(certificate_chain) => {
            tracing::debug!("signed for {identity}");
            let trust_bundle = authority.trusted.trusted_ca.clone();
            Json(SignedCertificate {
                certificate_chain,
                trust_bundle,
            })
            .into_response()
        }
        Err(error) => {
            tracing::warn!("not signed for {identity}: {error}");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}
