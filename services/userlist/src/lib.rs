//! userlist: ten users who are made up at start, as JSON and as a page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use dojo_kit::chaos::settings::Settings;
use dojo_kit::{Identity, ServeArgs, StartError};
use serde_json::json;

/// The port unless told otherwise.
const PORT: u16 = 8181;
/// How many users there are.
const USERS: usize = 10;
/// The content type of users.
const JSON: &str = "application/json;charset=UTF-8";

const FIRST_NAMES: [(&str, char); 16] = [
    ("Ivory", 'F'),
    ("Mira", 'F'),
    ("Soo-jin", 'F'),
    ("Alba", 'F'),
    ("Hana", 'F'),
    ("Greta", 'F'),
    ("Noor", 'F'),
    ("Tessa", 'F'),
    ("Milo", 'M'),
    ("Jun-ho", 'M'),
    ("Otto", 'M'),
    ("Ravi", 'M'),
    ("Emil", 'M'),
    ("Kofi", 'M'),
    ("Luca", 'M'),
    ("Arne", 'M'),
];
const LAST_NAMES: [&str; 16] = [
    "Leffler",
    "Kim",
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Park",
    "Tanaka",
    "Weber",
    "Rossi",
    "Novak",
    "Silva",
    "Haddad",
    "Larsen",
    "Choi",
    "Bauer",
    "Mensah",
];

/// The services of this crate, as subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Ten users, made up at start.
    Userlist(Args),
}

impl Command {
    /// Serves until the process is told to stop.
    ///
    /// # Errors
    /// When the service cannot start.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Userlist(args) => args.run().await?,
        }
        Ok(())
    }
}

/// The flags of userlist.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version, shown in metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub version: String,
    /// Makes the users the same every time.
    #[arg(long, env = "USERS_SEED", value_name = "NUMBER")]
    pub users_seed: Option<u64>,
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
        let identity = Identity::new("userlist", &self.version);
        let seed = self.users_seed.unwrap_or_else(rand::random);
        dojo_kit::run(identity, &self.serve, PORT, Settings::default(), |_| {
            router(seed)
        })
        .await
    }
}

/// A user who does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    gender: char,
}

/// The users of a seed.
fn users(seed: u64) -> Vec<User> {
    let mut state = seed;
    let mut next = |below: usize| {
        // Knuth's generator; its upper bits are good enough for names.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as usize % below
    };
    (0..USERS)
        .map(|_| {
            let (first, gender) = FIRST_NAMES[next(FIRST_NAMES.len())];
            let last = LAST_NAMES[next(LAST_NAMES.len())];
            User {
                name: format!("{first} {last}"),
                gender,
            }
        })
        .collect()
}

/// The routes of userlist, with the users of a seed.
pub fn router(seed: u64) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/users", get(all))
        .route("/users/{id}", get(one))
        .route("/assets/image/{file}", get(picture))
        .route("/health", get(|| async { "OK" }))
        .with_state(Arc::from(users(seed)))
}

type Users = Arc<[User]>;

fn describe(number: usize, user: &User) -> serde_json::Value {
    json!({
        "id": number,
        "name": user.name,
        "gender": user.gender.to_string(),
        "image": format!("/assets/image/cat{number}.jpg"),
    })
}

async fn all(State(users): State<Users>) -> Response {
    let all: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(n, user)| describe(n + 1, user))
        .collect();
    ([(header::CONTENT_TYPE, JSON)], json!(all).to_string()).into_response()
}

async fn one(State(users): State<Users>, Path(id): Path<String>) -> Response {
    let Ok(number) = id.parse::<usize>() else {
        return problem(StatusCode::BAD_REQUEST, "the number of a user is needed");
    };
    match number.checked_sub(1).and_then(|index| users.get(index)) {
        Some(user) => {
            let text = describe(number, user).to_string();
            ([(header::CONTENT_TYPE, JSON)], text).into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "there are users 1 to 10"),
    }
}

fn problem(status: StatusCode, text: &str) -> Response {
    let text = json!({"error": text}).to_string();
    (status, [(header::CONTENT_TYPE, JSON)], text).into_response()
}

/// A cat, drawn: each number has its own colour. Browsers go by the content type, not by the name.
async fn picture(Path(file): Path<String>) -> Response {
    let number = file
        .strip_prefix("cat")
        .and_then(|rest| rest.strip_suffix(".jpg"))
        .and_then(|number| number.parse::<usize>().ok())
        .filter(|number| (1..=USERS).contains(number));
    let Some(number) = number else {
        return problem(
            StatusCode::NOT_FOUND,
            "there are pictures cat1.jpg to cat10.jpg",
        );
    };
    let hue = number * 36 % 360;
    let cat = include_str!("cat.svg").replace("HUE", &hue.to_string());
    ([(header::CONTENT_TYPE, "image/svg+xml")], cat).into_response()
}

async fn page(State(users): State<Users>) -> Html<String> {
    // Names are our own, so there is nothing in them to escape.
    let cards: String = users
        .iter()
        .enumerate()
        .map(|(n, user)| {
            let number = n + 1;
            format!(
                "<li><a href=\"/users/{number}\"><img src=\"/assets/image/cat{number}.jpg\" alt=\"\" width=\"96\" height=\"96\">\
                 <strong>{}</strong><span>{}</span></a></li>\n",
                user.name, user.gender
            )
        })
        .collect();
    Html(include_str!("page.html").replace("CARDS", &cards))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::Value;
    use tower::ServiceExt as _;

    async fn get(path: &str) -> (u16, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router(7).oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let kind = response.headers()["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        let body = to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        (
            status,
            kind,
            String::from_utf8(body.to_vec()).expect("text"),
        )
    }

    #[tokio::test]
    async fn there_are_ten_users() {
        for number in 1..=10 {
            let (status, kind, body) = get(&format!("/users/{number}")).await;
            assert_eq!((status, kind.as_str()), (200, JSON));
            let user: Value = serde_json::from_str(&body).expect("JSON");
            let names: Vec<_> = user.as_object().expect("an object").keys().collect();
            assert_eq!(names, ["id", "name", "gender", "image"]);
            assert_eq!(user["id"], number);
            assert_eq!(user["image"], format!("/assets/image/cat{number}.jpg"));
            assert!(matches!(user["gender"].as_str(), Some("F" | "M")));
        }
        assert_eq!(get("/users/0").await.0, 404);
        assert_eq!(get("/users/11").await.0, 404);
        assert_eq!(get("/users/x").await.0, 400);
    }

    #[tokio::test]
    async fn the_page_shows_them_all_with_pictures() {
        let (status, kind, page) = get("/").await;
        assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
        for user in users(7) {
            assert!(page.contains(&user.name));
        }
        let (status, kind, cat) = get("/assets/image/cat3.jpg").await;
        assert_eq!((status, kind.as_str()), (200, "image/svg+xml"));
        assert!(cat.starts_with("<svg") && !cat.contains("HUE"));
        assert_eq!(get("/assets/image/dog.jpg").await.0, 404);
    }

    #[test]
    fn a_seed_makes_the_same_users() {
        assert_eq!(users(7), users(7));
        assert_ne!(users(7), users(8));
    }
}
