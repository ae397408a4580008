//! The client's end of a WebSocket (RFC 6455), as far as an attacker needs it.

use std::io::{self, Read, Write};
use std::net::TcpStream;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Reads and writes binary messages as a stream of bytes. Each write is a message.
pub(crate) struct WebSocket {
    tcp: TcpStream,
    /// Payload that is not read yet.
    payload: Vec<u8>,
    ended: bool,
}

impl WebSocket {
    /// Upgrades a connection.
    pub(crate) fn open(mut tcp: TcpStream) -> io::Result<Self> {
        tcp.write_all(upgrade(&tcp.peer_addr()?.to_string()).as_bytes())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tcp.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        match head.split(' ').nth(1) {
            Some("101") => Ok(Self { tcp, payload: Vec::new(), ended: false }),
            status => Err(io::Error::other(format!("the upgrade was refused with {}", status.unwrap_or("nothing")))),
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Reads a frame.
    fn message(&mut self) -> io::Result<()> {
        let mut head = [0; 2];
        self.tcp.read_exact(&mut head)?;
        let size = match head[1] {
            126 => {
                let mut size = [0; 2];
                self.tcp.read_exact(&mut size)?;
                u64::from(u16::from_be_bytes(size))
            }
            127 => {
                let mut size = [0; 8];
                self.tcp.read_exact(&mut size)?;
                u64::from_be_bytes(size)
            }
            size => u64::from(size),
        };
        let mut payload = vec![0; size as usize];
        self.tcp.read_exact(&mut payload)?;
        match head[0] & 15 {
            PING => self.tcp.write_all(&framed(PONG, &payload)),
            CLOSE => {
                self.ended = true;
                Ok(())
            }
            PONG => Ok(()),
            _ => {
                self.payload.extend(payload);
                Ok(())
            }
        }
    }
}

/// Returns the request of an upgrade.
pub(crate) fn upgrade(host: &str) -> String {
    format!(
        "GET /ws/amqp HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Returns a ping.
pub(crate) fn ping(payload: &[u8]) -> Vec<u8> {
    framed(PING, payload)
}

/// Returns a frame. The mask of zeros leaves the payload as it is.
fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match payload.len() {
        size @ 0..126 => frame.push(0x80 | size as u8),
        size @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() && !self.ended {
            self.message()?;
        }
        let count = buffer.len().min(self.payload.len());
        buffer[..count].copy_from_slice(&self.payload[..count]);
        self.payload.drain(..count);
        Ok(count)
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(64 << 10);
        self.tcp.write_all(&framed(BINARY, &bytes[..count]))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
