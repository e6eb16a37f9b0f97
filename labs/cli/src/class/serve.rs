//! `class serve`: a page where each student fetches the own kubeconfig, once, with the PIN of the class.

mod limit;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Context;
use axum::{
    Form, Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    config::Cluster,
};
use serde::Deserialize;
use serde_json::json;

use super::{Connection, credentials, objects::STUDENT, roster::name_of};
use crate::exit;
use limit::Limit;

/// Annotation of a namespace: when its kubeconfig was fetched.
const FETCHED: &str = "class.meshdojo.dev/fetched";
/// Shortest PIN: with the limit on wrong ones, more than can be tried in a course.
const SHORTEST_PIN: usize = 6;
/// A form with a name and a PIN is smaller.
const LARGEST_FORM: usize = 4096;
const PAGE: &str = include_str!("serve/page.html");

/// `meshdojo class serve`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ServeArgs {
    /// Where to listen. It speaks plain HTTP: beyond this machine put something with TLS before it
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The PIN, of at least 6 characters [default: eight random digits, printed]
    #[arg(long, env = "MESHDOJO_CLASS_PIN", hide_env_values = true, value_parser = pin)]
    pin: Option<String>,
    /// Students who may fetch theirs once more
    #[arg(long, value_name = "STUDENT")]
    again: Vec<String>,
    /// Hours for which the students' tokens are good
    #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=8760))]
    token_hours: u32,
    /// Address of the API server for students [default: that of your kubeconfig]
    #[arg(long)]
    server: Option<String>,
}

fn pin(text: &str) -> Result<String, String> {
    match text.chars().count() {
        SHORTEST_PIN.. => Ok(text.to_owned()),
        _ => Err(format!("a PIN has at least {SHORTEST_PIN} characters")),
    }
}

/// What the page hands out, and to whom.
struct Desk {
    client: Client,
    cluster: Cluster,
    pin: String,
    token_hours: u32,
    wrong: Mutex<Limit>,
}

/// Serves until Ctrl-C.
pub(super) async fn run(connection: &Connection, args: &ServeArgs) -> anyhow::Result<()> {
    connection.students().await?;
    let cluster = credentials::cluster(
        &connection.kubeconfig,
        connection.context.as_deref(),
        args.server.as_deref(),
    )?;
    let namespaces: Api<Namespace> = Api::all(connection.client.clone());
    for name in &args.again {
        let patch = json!({ "metadata": { "annotations": { FETCHED: null } } });
        namespaces
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("student {name}"))?;
    }
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .map_err(|error| exit::environment(format!("cannot listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr()?;
    let pin = args.pin.clone().unwrap_or_else(|| {
        let pin = format!("{:08}", rand::random_range(0..100_000_000_u32));
        eprintln!("PIN {pin}");
        pin
    });
    if !address.ip().is_loopback() {
        eprintln!(
            "{address} is beyond this machine, and what goes over it is readable: only in a network that you trust"
        );
    }
    eprintln!("http://{address}/ hands out kubeconfigs; Ctrl-C ends it");
    let desk = Arc::new(Desk {
        client: connection.client.clone(),
        cluster,
        pin,
        token_hours: args.token_hours,
        wrong: Mutex::default(),
    });
    let service = router(desk).into_make_service_with_connect_info::<SocketAddr>();
    let interrupted = async {
        // Without a signal handler it ends by the signal itself.
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, service)
        .with_graceful_shutdown(interrupted)
        .await?;
    Ok(())
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/join", post(join))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .with_state(desk)
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    pin: String,
}

async fn join(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Form(asked): Form<Asked>,
) -> Response {
    if let Err(refused) = desk.admit(&asked.pin, from.ip(), Instant::now()) {
        return refused.into_response();
    }
    match desk.kubeconfig(&asked.name).await {
        Ok(Ok((name, text))) => (
            [
                (header::CONTENT_TYPE, "application/yaml".to_owned()),
                (header::CACHE_CONTROL, "no-store".to_owned()),
                (
                    HeaderName::from_static("x-content-type-options"),
                    "nosniff".to_owned(),
                ),
                (
                    header::CONTENT_DISPOSITION,
                    format!("attachment; filename=\"{name}.kubeconfig\""),
                ),
            ],
            text,
        )
            .into_response(),
        Ok(Err(refused)) => refused.into_response(),
        Err(error) => {
            eprintln!("meshdojo: {:?}: {error:#}", asked.name);
            (
                StatusCode::BAD_GATEWAY,
                "the cluster does not answer; tell your instructor\n",
            )
                .into_response()
        }
    }
}

/// A status, and what the student reads.
type Refusal = (StatusCode, &'static str);

impl Desk {
    /// Whether the PIN is right. After a few wrong ones even that is not looked at for a while.
    fn admit(&self, pin: &str, from: IpAddr, now: Instant) -> Result<(), Refusal> {
        // A panic while it was held leaves a list of times, which is always whole.
        let mut wrong = self.wrong.lock().unwrap_or_else(|held| held.into_inner());
        if !wrong.allows(from, now) {
            return Err((
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong PINs; wait a minute\n",
            ));
        }
        if !same(pin.trim(), &self.pin) {
            wrong.note(from, now);
            return Err((StatusCode::FORBIDDEN, "that is not the PIN\n"));
        }
        Ok(())
    }

    /// The name and the kubeconfig of a student who has not fetched it yet.
    async fn kubeconfig(&self, title: &str) -> anyhow::Result<Result<(String, String), Refusal>> {
        let unknown = (
            StatusCode::NOT_FOUND,
            "there is no such student in the class\n",
        );
        let Ok(name) = name_of(title) else {
            return Ok(Err(unknown));
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let found = namespaces.get_opt(&name).await?;
        let Some(namespace) = found.filter(|n| n.labels().contains_key(STUDENT)) else {
            return Ok(Err(unknown));
        };
        let taken = (
            StatusCode::CONFLICT,
            "this kubeconfig was fetched before; if not by you, tell your instructor\n",
        );
        if namespace.annotations().contains_key(FETCHED) {
            return Ok(Err(taken));
        }
        // With the version that was read: of two who ask at once only one gets it.
        let patch = json!({ "metadata": {
            "resourceVersion": namespace.resource_version(),
            "annotations": { FETCHED: jiff::Timestamp::now().to_string() },
        } });
        match namespaces
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Err(taken)),
            Err(error) => return Err(error.into()),
        }
        let token = credentials::token(&self.client, &name, self.token_hours).await?;
        let text = credentials::kubeconfig(&self.cluster, &name, &token)?;
        eprintln!("{name} has fetched the kubeconfig");
        Ok(Ok((name, text)))
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn same(given: &str, wanted: &str) -> bool {
    let differ = |(a, b): (u8, u8)| a ^ b;
    let pairs = given.bytes().zip(wanted.bytes());
    given.len() == wanted.len() && pairs.map(differ).fold(0, |sum, bits| sum | bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_compared_whole() {
        assert!(same("123456", "123456"));
        for wrong in ["", "12345", "1234567", "123457"] {
            assert!(!same(wrong, "123456"), "{wrong}");
        }
        assert!(pin("12345").is_err() && pin("123456").is_ok());
    }
}
