//! A relay from WebSockets to a broker's TCP port that sends each AMQP frame as a WebSocket message, like
//! websocket-tcp-relay and LavinMQ. It checks nothing, so its cost is the least that such a relay can have.
//!
//! ```text
//! bench-relay HOST:PORT
//! ```
//! It listens on a free loopback port, prints `listening 127.0.0.1:PORT`, and ends when its standard input does.

use std::error::Error;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// The bytes of a frame around its payload: seven before it, one after it.
const OVERHEAD: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).ok_or("usage: bench-relay HOST:PORT")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening {}", listener.local_addr()?);
    tokio::spawn(async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
        std::process::exit(0);
    });
    loop {
        let (socket, _) = listener.accept().await?;
        let broker = broker.clone();
        tokio::spawn(async move {
            if let Err(error) = relay(socket, &broker).await {
                eprintln!("relay: {error}");
            }
        });
    }
}

async fn relay(socket: TcpStream, broker: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    socket.set_nodelay(true)?;
    let (mut sink, mut stream) = tokio_tungstenite::accept_async(socket).await?.split();
    let upstream = TcpStream::connect(broker).await?;
    upstream.set_nodelay(true)?;
    let (mut from, mut to) = upstream.into_split();
    let up = async {
        while let Some(message) = stream.next().await {
            match message? {
                Message::Binary(bytes) => to.write_all(&bytes).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok(())
    };
    let down = async {
        let mut buffer = Vec::with_capacity(64 << 10);
        while from.read_buf(&mut buffer).await? > 0 {
            let mut at = 0;
            while let Some(size) = first_frame(&buffer[at..]) {
                sink.send(Message::binary(buffer[at..at + size].to_vec())).await?;
                at += size;
            }
            buffer.drain(..at);
        }
        sink.close().await?;
        Ok(())
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The size of the first frame in `bytes`; `None` while it is incomplete.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let size = bytes.get(3..7)?.try_into().map(u32::from_be_bytes).ok()? as usize + OVERHEAD;
    (bytes.len() >= size).then_some(size)
}
