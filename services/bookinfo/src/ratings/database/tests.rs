use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tokio::net::TcpStream;

use super::*;
use crate::testing::{get, kit, post};

fn args(host: &str, port: u16, password: &str) -> DatabaseArgs {
    DatabaseArgs {
        db_type: "mysql".into(),
        mysql_db_host: host.into(),
        mysql_db_port: port,
        mysql_db_user: "root".into(),
        mysql_db_password: password.into(),
        mongo_db_url: String::new(),
    }
}

fn ratings(args: &DatabaseArgs) -> axum::Router {
    let mut database = args.database(None).expect("sensible");
    // What the machine's own proxy thinks of loopback is not the matter here.
    database.door = None;
    crate::ratings::from_database(&kit("ratings", None), database)
}

const BOTH: &str = r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#;
const UNREACHABLE: &str = r#"{"error":"could not connect to ratings database"}"#;

#[tokio::test]
async fn without_a_database_named_the_stars_are_there_and_nothing_can_be_posted() {
    let router = ratings(&DatabaseArgs::default());
    assert_eq!(get(router.clone(), "/ratings/0").await.body, BOTH);
    let answer = post(router.clone(), "/ratings/0", "{}").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (
            501,
            r#"{"error":"Post not implemented for database backed ratings"}"#
        )
    );
    assert_eq!(get(router.clone(), "/ratings/x").await.status, 400);
    assert_eq!(post(router, "/ratings/x", "{}").await.status, 400);
}

#[test]
fn variables_that_make_no_sense_are_named() {
    let refusal = |args: DatabaseArgs| match args.database(None) {
        Ok(database) => panic!("{database}"),
        Err(error) => error.to_string(),
    };
    assert!(refusal(args("", 3306, "")).contains("MYSQL_DB_HOST"));
    let mongo = |url: &str| DatabaseArgs {
        mongo_db_url: url.into(),
        ..DatabaseArgs::default()
    };
    assert!(refusal(mongo("http://x")).contains("MONGO_DB_URL"));
    let database = mongo("mongodb://mongodb/test").database(None).expect("ok");
    assert!(database.to_string().ends_with("mongodb:27017"));
}

async fn stand_in(password: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(crate::ratings::stand_in::serve(listener, password.into()));
    port
}

#[tokio::test]
async fn the_stand_in_is_read_and_changed_as_a_database() {
    let port = stand_in("secret").await;
    let router = ratings(&args("127.0.0.1", port, "secret"));
    assert_eq!(get(router.clone(), "/ratings/0").await.body, BOTH);
    let mut connection = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username("root")
        .password("secret")
        .ssl_mode(MySqlSslMode::Disabled)
        .connect()
        .await
        .expect("connected");
    for change in [
        "UPDATE ratings SET Rating = 1 WHERE ReviewerID = 1;",
        "update test.ratings set rating=1 where reviewerid=7",
    ] {
        sqlx::raw_sql(change)
            .execute(&mut connection)
            .await
            .expect("changed");
    }
    let error = sqlx::raw_sql("DROP TABLE ratings")
        .execute(&mut connection)
        .await
        .expect_err("not understood");
    assert!(error.to_string().contains("this stand-in"), "{error}");
    let body = get(router, "/ratings/0").await.body;
    assert!(body.contains(r#""Reviewer1":1,"Reviewer2":4"#), "{body}");
    // Another password is refused as it is by a real server.
    let answer = get(ratings(&args("127.0.0.1", port, "wrong")), "/ratings/0").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, UNREACHABLE));
}

#[tokio::test]
async fn the_kinds_differ_in_the_status_of_a_failure() {
    let mongo = |port: u16| DatabaseArgs {
        mongo_db_url: format!("mongodb://127.0.0.1:{port}/test"),
        ..DatabaseArgs::default()
    };
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let answer = get(ratings(&mongo(port)), "/ratings/0").await;
    assert_eq!((answer.status, answer.body.as_str()), (500, UNREACHABLE));
    let answer = get(ratings(&args("127.0.0.1", port, "")), "/ratings/0").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, UNREACHABLE));
    let answer = get(ratings(&mongo(stand_in("").await)), "/ratings/0").await;
    assert_eq!(answer.body, BOTH);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_or_sends_garbage_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let answer = get(ratings(&args("127.0.0.1", port, "")), "/ratings/0").await;
    assert_eq!(answer.body, UNREACHABLE);
    let garbage = crate::testing::serve(axum::Router::new()).await;
    let answer = get(ratings(&args("127.0.0.1", garbage, "")), "/ratings/0").await;
    assert_eq!(answer.body, UNREACHABLE);
}

#[tokio::test]
async fn a_door_is_asked_for_the_way() {
    let port = stand_in("").await;
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = door.local_addr().expect("an address");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut client, _) = door.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(client.read_u8().await.expect("a request"));
        }
        assert!(request.starts_with(b"CONNECT mysqldb:3306 "));
        let mut server = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected");
        let answer = b"HTTP/1.1 200 OK\r\n\r\n";
        client.write_all(answer).await.expect("sent");
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let mut database = args("mysqldb", 3306, "").database(None).expect("sensible");
    database.door = Some(format!("http://{address}"));
    assert_eq!(database.stars().await, Ok(STARS));
}

/// A MariaDB of Debian's package with the table, killed when dropped.
struct MariaDb(Child);

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl MariaDb {
    fn start(folder: &Path, port: u16) -> Self {
        let child = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--skip-name-resolve",
                "--bind-address=127.0.0.1",
            ])
            .args(user())
            .args([
                "--innodb-buffer-pool-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--socket={}", folder.join("socket").display()))
            .arg(format!("--init-file={}", folder.join("init.sql").display()))
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadbd starts");
        Self(child)
    }
}

/// It refuses to run as root unless told so.
fn user() -> &'static [&'static str] {
    let root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.contains("Uid:\t0\t"));
    if root { &["--user=root"] } else { &[] }
}

async fn until(router: &axum::Router, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let body = get(router.clone(), "/ratings/0").await.body;
        if wanted(&body) {
            return body;
        }
        assert!(Instant::now() < deadline, "still {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_real_database_may_go_away_and_come_back() {
    if Command::new("mariadbd").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs a database: install Debian's package mariadb-server"
        );
        eprintln!("SKIPPED: no MariaDB on this machine (Debian: apt-get install mariadb-server)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal"])
        .args(user())
        .arg(format!(
            "--datadir={}",
            folder.path().join("data").display()
        ))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let table = "CREATE DATABASE IF NOT EXISTS test;\n\
        CREATE OR REPLACE TABLE test.ratings (ReviewerID INT NOT NULL, Rating INT, PRIMARY KEY (ReviewerID));\n\
        INSERT INTO test.ratings VALUES (1, 5), (2, 1);\n\
        CREATE OR REPLACE USER 'root'@'127.0.0.1' IDENTIFIED BY 'password';\n\
        GRANT ALL ON *.* TO 'root'@'127.0.0.1';\n";
    std::fs::write(folder.path().join("init.sql"), table).expect("written");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);

    let router = ratings(&args("127.0.0.1", port, "password"));
    let stars = |body: &str| body == r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":1}}"#;
    let database = MariaDb::start(folder.path(), port);
    until(&router, stars).await;
    drop(database);
    let answer = get(router.clone(), "/ratings/0").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, UNREACHABLE));
    // The same service, without a restart.
    let _database = MariaDb::start(folder.path(), port);
    until(&router, stars).await;

    let mut connection = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username("root")
        .password("password")
        .ssl_mode(MySqlSslMode::Disabled)
        .connect()
        .await
        .expect("connected");
    sqlx::raw_sql("DROP TABLE test.ratings")
        .execute(&mut connection)
        .await
        .expect("dropped");
    let answer = get(router, "/ratings/0").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (500, r#"{"error":"could not perform select"}"#)
    );
}
