use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::request::{Wanted, build};

async fn connection(listener: &TcpListener) -> Connection {
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let request = build(&Wanted {
        url: &url,
        agent: "test",
        ..Wanted::default()
    });
    let request = request.expect("a request");
    let environment = Environment::default();
    let target = Target::new(request, &Trust::System, &environment).await;
    Connection::new(Arc::new(target.expect("a target")), Duration::from_secs(5))
}

/// Accepts connections one after the other and answers each of them once.
fn answer_once_each(listener: TcpListener, answer: &'static str) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn a_server_that_hangs_up_between_calls_is_called_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut connection = connection(&listener).await;
    answer_once_each(
        listener,
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nhi",
    );
    for _ in 0..3 {
        let reply = connection.call().await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.body_bytes), (200, 2));
        assert_eq!(reply.header_bytes, 44);
        // The end of the connection is here before the next call.
        let open = connection.open.as_mut().expect("open");
        if let Some(driver) = open.driver.take() {
            driver.await.expect("closed in order");
        }
    }
    assert_eq!(connection.sockets, 3);
}

#[tokio::test]
async fn garbage_and_broken_answers_are_errors() {
    for answer in [
        "rubbish\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut connection = connection(&listener).await;
        answer_once_each(listener, answer);
        let error = connection.call().await.expect_err(answer);
        assert!(matches!(error, CallError::Http(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut connection = connection(&listener).await;
    for _ in 0..2 {
        let started = Instant::now();
        let error = connection.call().await.expect_err("silence");
        assert_eq!(error.to_string(), "no answer within 5 s");
        assert_eq!(started.elapsed().as_secs(), 5);
    }
    assert_eq!(connection.sockets, 2);
}
