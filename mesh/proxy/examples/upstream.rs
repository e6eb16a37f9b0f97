//! The fastest upstream that a benchmark needs: answers each request line block with a fixed
//! response, without parsing. `upstream 127.0.0.1:9081`.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\ncontent-type: text/plain\r\n\r\nHello, World!";

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9081".into());
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(4096);
            while let Ok(1..) = stream.read_buf(&mut buffer).await {
                // Good enough for GET without a body.
                let ends = buffer.windows(4).filter(|end| end == b"\r\n\r\n").count();
                if buffer.ends_with(b"\r\n\r\n") {
                    buffer.clear();
                    if stream.write_all(&ANSWER.repeat(ends)).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}
