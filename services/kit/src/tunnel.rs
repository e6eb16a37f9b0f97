//! Plain TCP to another service: through the pod's door where there is one, else straight.
//!
//! A door is an HTTP proxy, and carries what is not HTTP after a `CONNECT`. That is also how a mesh
//! sees the connection.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// The largest answer to `CONNECT` that is read, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// Connects to `to` (`host:port`) from `source`. With a door (the value of `http_proxy`) the door
/// is asked for a tunnel.
///
/// # Errors
/// When the name has no address, nobody takes the connection, or the door refuses; the message
/// says which.
pub async fn connect(
    to: &str,
    door: Option<&str>,
    source: Option<IpAddr>,
) -> std::io::Result<TcpStream> {
    let Some(door) = door else {
        return dial(to, source).await;
    };
    let door = door.strip_prefix("http://").unwrap_or(door);
    let mut stream = dial(door.trim_end_matches('/'), source).await?;
    match ask(&mut stream, to).await {
        Ok(()) => Ok(stream),
        Err(answer) => Err(std::io::Error::other(format!(
            "the proxy refuses a tunnel to {to}: {answer}"
        ))),
    }
}

/// The door that the environment names, if it names one.
#[must_use]
pub fn door() -> Option<String> {
    std::env::var("http_proxy")
        .ok()
        .filter(|door| !door.is_empty())
}

async fn dial(to: &str, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host(to).await? {
        match connect_from(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other(format!("{to} has no address"))))
}

/// Connects to an address, from `source` where that is of the same family.
///
/// # Errors
/// When nobody takes the connection.
pub async fn connect_from(
    address: SocketAddr,
    source: Option<IpAddr>,
) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks the proxy at the other end of `stream` for a tunnel. The answer is read byte by byte: what
/// follows it belongs to the server.
///
/// # Errors
/// The first line of the proxy's answer, or what went wrong.
pub async fn ask(stream: &mut TcpStream, to: &str) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == MAX_ANSWER {
            return Err("an endless answer".to_owned());
        }
        answer.push(stream.read_u8().await.map_err(text)?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let line = answer.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_door_is_asked_for_a_tunnel_and_what_follows_is_the_servers() {
        let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = door.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 503 No\r\n\r\n"] {
                let (mut stream, from) = door.accept().await.expect("a connection");
                assert_eq!(from.ip().to_string(), "127.0.0.77");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.expect("a request"));
                }
                assert!(request.starts_with(b"CONNECT mysqldb:3306 HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.expect("sent");
            }
        });
        let door = format!("http://{address}/");
        let source = Some("127.0.0.77".parse().expect("an address"));
        let mut stream = connect("mysqldb:3306", Some(&door), source)
            .await
            .expect("a tunnel");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a text");
        assert_eq!(text, "hello");
        let error = connect("mysqldb:3306", Some(&door), source)
            .await
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the proxy refuses a tunnel to mysqldb:3306: HTTP/1.1 503 No"
        );
    }
}
