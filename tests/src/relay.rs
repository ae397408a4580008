//! Relays from a Unix socket or a WebSocket to a broker that listens on TCP only.
//!
//! A relay owns a listener and one task for each connection. It forwards bytes as they arrive, in slices of any size,
//! and does not interpret AMQP.

use std::io;
use std::net::TcpListener;
#[cfg(unix)]
use std::path::Path;

use async_tungstenite::tungstenite::Message;
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use futures_lite::{StreamExt, future};
use smol::Async;

/// Bytes of a WebSocket message, at most: fewer than some frames have, and more than others.
const SLICE: usize = 10_000;

/// Relays the Unix socket `path` to `broker` until the task is dropped.
///
/// # Errors
/// If the path can't be listened on.
#[cfg(unix)]
pub fn unix(path: &Path, broker: &str) -> io::Result<smol::Task<io::Result<()>>> {
    let listener = Async::<std::os::unix::net::UnixListener>::bind(path)?;
    let broker = broker.to_owned();
    Ok(smol::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await?;
            let upstream = smol::net::TcpStream::connect(&broker).await?;
            smol::spawn(async move {
                let (from_client, to_client) = split(socket);
                let (from_broker, to_broker) = split(upstream);
                future::or(copy(from_client, to_broker), copy(from_broker, to_client)).await
            })
            .detach();
        }
    }))
}

/// Relays a WebSocket on a free port to `broker` until the task is dropped. Returns the port.
///
/// # Errors
/// If there is no free port.
pub fn websocket(broker: &str) -> io::Result<(u16, smol::Task<io::Result<()>>)> {
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0))?;
    let port = listener.get_ref().local_addr()?.port();
    let broker = broker.to_owned();
    let task = smol::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await?;
            smol::spawn(relay(socket, broker.clone())).detach();
        }
    });
    Ok((port, task))
}

async fn relay(socket: Async<std::net::TcpStream>, broker: String) -> io::Result<()> {
    let websocket = async_tungstenite::accept_async(socket).await.map_err(io::Error::other)?;
    let upstream = smol::net::TcpStream::connect(&broker).await?;
    let (mut sender, mut receiver) = websocket.split();
    let mut from = upstream.clone();
    let mut to = upstream;
    let up = async move {
        while let Some(message) = receiver.next().await {
            match message.map_err(io::Error::other)? {
                Message::Binary(bytes) => to.write_all(&bytes).await?,
                Message::Close(_) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    };
    let down = async move {
        let mut buffer = vec![0; SLICE];
        loop {
            match from.read(&mut buffer).await? {
                0 => return sender.close(None).await.map_err(io::Error::other),
                count => sender.send(Message::binary(buffer[..count].to_vec())).await.map_err(io::Error::other)?,
            }
        }
    };
    future::or(up, down).await
}
