//! photo-service: where the photo of a driver is. Only the oldest staff-service asks it.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use dojo_kit::{ServeArgs, StartError};

use crate::drivers::{DRIVERS, PHOTOS};
use crate::endpoint::{self, Asked};

/// The flags of photo-service.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, for information: in logs and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
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
        crate::run("photo-service", &self.version, &self.serve, |_| router()).await
    }
}

/// The routes of photo-service.
pub fn router() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    let asked = match Asked::read(request).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    match asked.segments().as_slice() {
        ["health"] => endpoint::healthy(),
        ["photo", name] if asked.is_get() => {
            match DRIVERS.iter().find(|driver| driver.name == *name) {
                Some(driver) => format!("{PHOTOS}{}", driver.photo).into_response(),
                None => asked.error(StatusCode::NOT_FOUND, "no such driver"),
            }
        }
        ["photo", _] => asked.method_not_allowed("GET"),
        _ => asked.not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::get;

    #[tokio::test]
    async fn the_address_of_a_photo() {
        let answer = get(&router(), "/photo/Pam%20Parry").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (
                200,
                "https://rac-istio-course-images.s3.amazonaws.com/1.jpg"
            )
        );
        get(&router(), "/photo/Nobody").await.is_error(
            404,
            "Not Found",
            "no such driver",
            "/photo/Nobody",
        );
        assert_eq!(get(&router(), "/health").await.status, 200);
    }
}
