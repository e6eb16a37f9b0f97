//! helloworld: names its version and its pod, and burns some CPU on purpose.

use std::hint::black_box;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, Kit, ServeArgs, StartError};

/// The port unless told otherwise.
const PORT: u16 = 5000;

/// The flags of helloworld.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version that is shown.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// How many square roots each request costs.
    #[arg(long, env = "SQUARE_ROOTS", value_name = "NUMBER", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(..=100_000_000))]
    pub square_roots: u32,
    /// What every service takes.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Args {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> Result<(), StartError> {
        let identity = Identity::new("helloworld", &self.version);
        let roots = self.square_roots;
        dojo_kit::run(identity, &self.serve, PORT, Settings::default(), |kit| {
            router(kit, roots)
        })
        .await
    }
}

/// The routes of helloworld; each `/hello` takes so many square roots.
pub fn router(kit: &Kit, square_roots: u32) -> Router {
    let hello = move |State(kit): State<Kit>| async move {
        burn(square_roots);
        let pod = kit.identity.pod.as_deref().unwrap_or("localhost");
        format!("Hello version: {}, instance: {pod}\n", kit.identity.version)
    };
    Router::new()
        .route("/hello", get(hello))
        .route("/health", get(|| async { "Helloworld is healthy" }))
        .with_state(kit.clone())
}

/// Work without a result, which the compiler must not remove.
fn burn(square_roots: u32) {
    for number in 0..square_roots {
        black_box(f64::from(black_box(number)).sqrt());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, kit};

    #[tokio::test]
    async fn hello_names_version_and_pod() {
        let router = router(&kit("helloworld", "v2", Some("helloworld-v2-1")), 10);
        let (status, _, body) = ask(&router, "GET", "/hello").await;
        assert_eq!(status, 200);
        assert_eq!(body, "Hello version: v2, instance: helloworld-v2-1\n");
        let (status, _, body) = ask(&router, "GET", "/health").await;
        assert_eq!((status, body.as_str()), (200, "Helloworld is healthy"));
        assert_eq!(ask(&router, "GET", "/").await.0, 404);
        assert_eq!(ask(&router, "POST", "/hello").await.0, 405);
    }
}
