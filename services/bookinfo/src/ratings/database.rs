//! Where ratings v2 has its stars from: two rows kept in memory, unless a variable names a
//! database. A MySQL or MariaDB is asked on a connection of its own for each request, so that every
//! request is a TCP connection that a mesh counts, and a database that was away is simply there again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The stars of the two reviewers when no database is named, and those that databases start with.
pub const STARS: [i64; 2] = [5, 4];
/// How long the database may take to let us in, and to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The most connections at a time; further requests wait.
const MAX_CONNECTIONS: usize = 16;
const SELECT: &str = "SELECT Rating FROM ratings";

/// The flags that name a database.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Database of v2")]
pub struct DatabaseArgs {
    /// Its kind: `mysql` (MariaDB, too), else the one of --mongo-db-url.
    #[arg(
        long,
        env = "DB_TYPE",
        value_name = "mysql|mongodb",
        default_value = ""
    )]
    pub db_type: String,
    /// The host of a MySQL or MariaDB.
    #[arg(long, env = "MYSQL_DB_HOST", value_name = "HOST", default_value = "")]
    pub mysql_db_host: String,
    /// Its port.
    #[arg(
        long,
        env = "MYSQL_DB_PORT",
        value_name = "PORT",
        default_value_t = 3306
    )]
    pub mysql_db_port: u16,
    /// Its user.
    #[arg(
        long,
        env = "MYSQL_DB_USER",
        value_name = "NAME",
        default_value = "root"
    )]
    pub mysql_db_user: String,
    /// The user's password.
    #[arg(
        long,
        env = "MYSQL_DB_PASSWORD",
        value_name = "PASSWORD",
        default_value = "password",
        hide_env_values = true
    )]
    pub mysql_db_password: String,
    /// The address of the sample's mongodb, mongodb://HOST[:PORT]/test. Only what stands in for it
    /// here can be read, not a real MongoDB.
    #[arg(
        long,
        env = "MONGO_DB_URL",
        value_name = "URL",
        default_value = "",
        hide_env_values = true
    )]
    pub mongo_db_url: String,
}

impl DatabaseArgs {
    /// The database that is meant. Connections leave from `source`.
    ///
    /// # Errors
    /// When the variables contradict each other or make no sense.
    pub fn database(&self, source: Option<IpAddr>) -> anyhow::Result<Database> {
        let mysql = self.db_type.eq_ignore_ascii_case("mysql") || !self.mysql_db_host.is_empty();
        let place = if mysql {
            anyhow::ensure!(
                !self.mysql_db_host.is_empty(),
                "DB_TYPE is mysql, but MYSQL_DB_HOST names no host; set it, for example to mysqldb"
            );
            Some(Place {
                kind: Kind::MySql,
                host: self.mysql_db_host.clone(),
                port: self.mysql_db_port,
                user: self.mysql_db_user.clone(),
                password: self.mysql_db_password.clone(),
            })
        } else if self.mongo_db_url.is_empty() {
            None
        } else {
            let (host, port) = mongo_host(&self.mongo_db_url)?;
            Some(Place {
                kind: Kind::Mongo,
                host,
                port,
                user: "root".to_owned(),
                password: String::new(),
            })
        };
        Ok(Database {
            place,
            source,
            door: dojo_kit::tunnel::door(),
            slots: Semaphore::new(MAX_CONNECTIONS),
        })
    }
}

fn mongo_host(url: &str) -> anyhow::Result<(String, u16)> {
    let parsed = reqwest::Url::parse(url).ok();
    let parsed = parsed.filter(|url| url.scheme() == "mongodb");
    let host = parsed.as_ref().and_then(reqwest::Url::host_str);
    match (host, &parsed) {
        (Some(host), Some(url)) => Ok((host.to_owned(), url.port().unwrap_or(27017))),
        _ => anyhow::bail!("MONGO_DB_URL is not an address like mongodb://mongodb:27017/test"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MySql,
    Mongo,
}

/// A database somewhere else.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    kind: Kind,
    host: String,
    port: u16,
    user: String,
    password: String,
}

/// Where the stars come from.
pub struct Database {
    /// None: from memory.
    place: Option<Place>,
    source: Option<IpAddr>,
    door: Option<String>,
    slots: Semaphore,
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => formatter.write_str("memory (no variable names a database)"),
            Some(Place {
                kind, host, port, ..
            }) => {
                let kind = match kind {
                    Kind::MySql => "MySQL",
                    Kind::Mongo => "what stands in for MongoDB",
                };
                write!(formatter, "{kind} at {host}:{port}")
            }
        }
    }
}

/// Why there are no stars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The database cannot be reached. The status is the upstream service's, which differs.
    Connect(StatusCode),
    /// It does not answer the question.
    MySqlSelect,
    /// The same of the other kind.
    MongoRead,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        match self {
            Self::Connect(status) => crate::json_text(
                status,
                r#"{"error":"could not connect to ratings database"}"#,
            ),
            Self::MySqlSelect => crate::json_text(error, r#"{"error":"could not perform select"}"#),
            Self::MongoRead => {
                crate::json_text(error, r#"{"error":"could not load ratings from database"}"#)
            }
        }
    }
}

impl Database {
    /// Whether the stars come from memory.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.place.is_none()
    }

    /// The stars of the first and the second reviewer; 0 where the table has no row.
    ///
    /// # Errors
    /// When the database is away or has no such table; the log says more.
    pub async fn stars(&self) -> Result<[i64; 2], Failure> {
        let Some(place) = &self.place else {
            return Ok(STARS);
        };
        // The semaphore is never closed, so a slot always comes.
        let _slot = self.slots.acquire().await;
        let connected = timeout(LIMIT, self.connect(place)).await;
        let mut connection = match connected.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!("cannot connect to {self}: {error}");
                return Err(Failure::Connect(match place.kind {
                    Kind::MySql => StatusCode::OK,
                    Kind::Mongo => StatusCode::INTERNAL_SERVER_ERROR,
                }));
            }
        };
        let read = timeout(LIMIT, read(&mut connection)).await;
        let stars = read.unwrap_or_else(|_| Err("no answer".to_owned()));
        // The answer is there, so whether the parting is heard does not matter.
        drop(timeout(LIMIT, connection.close()).await);
        stars.map_err(|error| {
            tracing::warn!("{self} does not answer `{SELECT}`: {error}");
            match place.kind {
                Kind::MySql => Failure::MySqlSelect,
                Kind::Mongo => Failure::MongoRead,
            }
        })
    }

    async fn connect(&self, place: &Place) -> Result<MySqlConnection, String> {
        let (host, port) = match &self.door {
            None => (place.host.clone(), place.port),
            Some(door) => {
                let relay = self.relay(place, door).await?;
                (relay.ip().to_string(), relay.port())
            }
        };
        let options = MySqlConnectOptions::new()
            .host(&host)
            .port(port)
            .username(&place.user)
            .password(&place.password)
            .database("test")
            // Encryption between services is the mesh's work.
            .ssl_mode(MySqlSslMode::Disabled)
            // Nothing of this matters to the one question, and each costs a round trip.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false);
        options.connect().await.map_err(|error| error.to_string())
    }

    /// Opens the way through the door for one connection, since the client only takes addresses:
    /// listens on a port of our own for it, and passes it on.
    async fn relay(&self, place: &Place, door: &str) -> Result<SocketAddr, String> {
        let to = format!("{}:{}", place.host, place.port);
        let text = |error: std::io::Error| error.to_string();
        let mut beyond = dojo_kit::tunnel::connect(&to, Some(door), self.source)
            .await
            .map_err(text)?;
        let own = self.source.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let listener = TcpListener::bind((own, 0)).await.map_err(text)?;
        let address = listener.local_addr().map_err(text)?;
        tokio::spawn(async move {
            if let Ok(Ok((mut client, _))) = timeout(LIMIT, listener.accept()).await {
                drop(listener);
                // Either side may end it at any time.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut beyond).await;
            }
        });
        Ok(address)
    }
}

async fn read(connection: &mut MySqlConnection) -> Result<[i64; 2], String> {
    let text = |error: sqlx::Error| error.to_string();
    let rows = sqlx::raw_sql(SELECT)
        .fetch_all(connection)
        .await
        .map_err(text)?;
    let mut stars = [0; 2];
    for (star, row) in stars.iter_mut().zip(&rows) {
        *star = row.try_get::<i64, _>(0).map_err(text)?;
    }
    Ok(stars)
}

#[cfg(test)]
mod tests;
