//! Every sample service, as the process that it is, against input that is wrong or too much: a
//! clear status and message, bounded memory, and it serves on.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use dojo_tests::dojo::binary;

/// Name, and where a body can be sent with which type.
const SERVICES: [(&str, &str, &str); 20] = [
    ("productpage", "/login", "application/x-www-form-urlencoded"),
    ("details", "/details/0", "application/json"),
    ("reviews", "/reviews/0", "application/json"),
    ("ratings", "/ratings/0", "application/json"),
    ("book-service", "/books/v1/volumes", "application/json"),
    ("position-simulator", "/", "application/json"),
    ("position-tracker", "/vehicles/", "application/json"),
    ("vehicle-telemetry", "/vehicles/", "application/json"),
    (
        "staff-service",
        "/driver/City%20Truck/20",
        "application/json",
    ),
    ("photo-service", "/photo/x", "application/json"),
    ("api-gateway", "/vehicles/", "application/json"),
    ("webapp", "/api/vehicles/", "application/json"),
    ("hello", "/", "text/plain"),
    ("helloworld", "/hello", "text/plain"),
    ("delivery", "/deliveries", "application/json"),
    ("booking", "/bookings", "application/json"),
    ("vaccine", "/vaccines", "application/json"),
    ("simple", "/", "application/json"),
    ("httpbin", "/post", "application/json"),
    ("userlist", "/users", "application/json"),
];

const BODY: usize = 100 << 20;
/// What a service may take at its most, in KiB: a debug build and the largest body that it accepts.
const MOST: u64 = 80 << 10;

struct Service {
    process: Child,
    address: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(name: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["service", name, "--listen", "127.0.0.1:0"])
        .env_remove("http_proxy")
        .stdin(Stdio::null());
    command
}

impl Service {
    fn start(name: &str) -> anyhow::Result<Self> {
        let mut process = command(name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let address = loop {
            let line = lines.next().context("it ended")??;
            if let Some((_, address)) = line.split_once("Server listening on: http://") {
                break address.to_owned();
            }
        };
        // Its log must go on being read, or it blocks.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, address })
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// Sends a request; the status and the answer's text.
    fn ask(&self, head: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        let mut stream = self.connect()?;
        let length = body.len();
        let head =
            format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        for chunk in body.chunks(1 << 20) {
            // Who has answered already need not read the rest.
            if stream.write_all(chunk).is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        // A reset after the answer, because not all was read, takes nothing from it.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.unwrap_or(0), answer))
    }

    /// The most memory that the process ever had, in KiB.
    fn peak(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number.context("VmHWM")?.parse()?)
    }
}

#[test]
fn a_hundred_megabytes_are_refused_or_passed_over_and_it_serves_on() -> anyhow::Result<()> {
    let body = vec![b'['; BODY];
    for (name, path, kind) in SERVICES {
        let service = Service::start(name).context(name)?;
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: {kind}");
        let (status, answer) = service.ask(&head, &body).context(name)?;
        // 0: the connection was reset before the answer could be read. The service lives, see below.
        ensure!(
            matches!(status, 0 | 200 | 302 | 400..=599),
            "{name}: {status} {answer}"
        );
        let peak = service.peak()?;
        ensure!(peak < MOST, "{name} took {peak} KiB");
        let (status, answer) = service.ask("GET /metrics HTTP/1.1", b"").context(name)?;
        ensure!(status == 200, "{name}: {answer}");
    }
    Ok(())
}

#[test]
fn chaos_that_makes_no_sense_is_refused_by_name() -> anyhow::Result<()> {
    let service = Service::start("hello")?;
    let put = "PUT /chaos HTTP/1.1\r\ncontent-type: application/json";
    for (head, body, status, word) in [
        (put, "{", 400, "EOF"),
        (put, r#"{"error_rate": 1.5}"#, 400, "error_rate"),
        (put, r#"{"error_rat": 1}"#, 400, "error_rat"),
        (put, r#"{"timing_50_percentile": "fast"}"#, 400, "fast"),
        (
            "PUT /chaos HTTP/1.1\r\ncontent-type: text/plain",
            "{}",
            415,
            "application/json",
        ),
    ] {
        let (got, answer) = service.ask(head, body.as_bytes())?;
        ensure!(got == status && answer.contains(word), "{body}: {answer}");
    }
    for (name, variable, value, word) in [
        ("ratings", "ERROR_RATE", "1.5", "between 0 and 1"),
        ("simple", "TIMING_50_PERCENTILE", "fast", "fast"),
        ("hello", "RANDOM_ERROR", "-1", "between 0 and 1"),
        ("staff-service", "BAD_RATE", "2", "0 to 1"),
        ("ratings", "DB_TYPE", "mysql", "MYSQL_DB_HOST"),
    ] {
        let output = command(name).env(variable, value).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success(),
            "{name} started with {variable}={value}"
        );
        ensure!(text.contains(word), "{name} {variable}={value}: {text}");
    }
    Ok(())
}
