//! web: a static web server, which stands in for nginx: a page of its own, and the files of the
//! folder that nginx serves, where a volume is mounted there.

use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, ServeArgs, StartError};

/// The port unless told otherwise.
const PORT: u16 = 8080;
/// The largest file that is served, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const PAGE: &str = include_str!("web.html");

/// The flags of web.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// The folder to serve, if it is there.
    #[arg(long, value_name = "FOLDER", default_value = "/usr/share/nginx/html")]
    pub folder: PathBuf,
    /// The folder that stands for the container's root.
    #[arg(long, env = "DOJO_ROOT", value_name = "FOLDER", default_value = "/")]
    pub root: PathBuf,
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
        let identity = Identity::new("web", &self.version);
        let folder = self.folder.strip_prefix("/").unwrap_or(&self.folder);
        let folder = self.root.join(folder);
        let own = Settings::default();
        dojo_kit::run(identity, &self.serve, PORT, own, |_| router(folder)).await
    }
}

/// The routes of web.
pub fn router(folder: PathBuf) -> Router {
    Router::new().fallback(file).with_state(folder)
}

async fn file(State(folder): State<PathBuf>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path();
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    match read(&folder, name).await {
        Some(content) => ([(header::CONTENT_TYPE, content_type(name))], content).into_response(),
        None if name == "index.html" => Html(PAGE).into_response(),
        None => (StatusCode::NOT_FOUND, format!("{path} is not here\n")).into_response(),
    }
}

async fn read(folder: &Path, name: &str) -> Option<Vec<u8>> {
    // Nothing but plain names: no way out of the folder.
    let mut parts = Path::new(name).components();
    if !parts.all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = folder.join(name);
    let data = tokio::fs::metadata(&file).await.ok()?;
    if !data.is_file() || data.len() > MAX_FILE {
        return None;
    }
    tokio::fs::read(&file).await.ok()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ask;

    #[tokio::test]
    async fn files_are_served_and_nothing_beside_them() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("html")).expect("made");
        std::fs::write(folder.path().join("html/a.json"), "{}").expect("written");
        std::fs::write(folder.path().join("secret"), "x").expect("written");
        let router = router(folder.path().join("html"));
        let (status, kind, body) = ask(&router, "GET", "/a.json").await;
        assert_eq!(
            (status, kind.as_str(), body.as_str()),
            (200, "application/json", "{}")
        );
        for path in ["/../secret", "/%2e%2e/secret", "/a/../../secret", "/none"] {
            assert_eq!(ask(&router, "GET", path).await.0, 404, "{path}");
        }
        let (status, kind, body) = ask(&router, "GET", "/").await;
        assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
        assert!(body.contains("It works"), "{body}");
        assert_eq!(ask(&router, "POST", "/").await.0, 405);
    }
}
