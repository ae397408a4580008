//! Listeners behind a proxy that sends the PROXY protocol, version 2, before the client's first byte (HAProxy's
//! `proxy-protocol.txt`, section 2.2).
//!
//! The header brings the client's address, so that the rules for clients on this machine and the logs mean the client
//! and not the proxy. Such a listener serves no connection without a header, and no other listener reads one: every
//! peer that can connect to it can claim any address.

use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_io::{Async, Timer};

use super::{Broker, peer_address};

/// The time limit for the header, as that of RabbitMQ for the handshake.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The largest header after its first 16 bytes: addresses and a proxy's additions, such as a TLS certificate's name.
const REST_MAX: usize = 4 << 10;

/// The start of a header.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Whether the connection is the proxy's own, such as a health check.
    is_local: bool,
    /// The family of the addresses: 1 is IPv4, 2 is IPv6.
    family: u8,
    /// The bytes that follow.
    rest: usize,
}

impl Broker {
    /// Listens for clients behind a proxy that sends the PROXY protocol, version 2, such as `hopmq-gateway` with
    /// `upstream.proxy_protocol`. The address in the header counts as the client's. A connection without a header, or
    /// whose header takes more than 10 seconds or 4 KiB, is closed. Only the proxy may be able to connect: any address
    /// in the header is believed. Returns the address: for port 0, with the port that the system chose.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub fn listen_proxied(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        self.listen_with(address, |broker, stream| broker.serve_proxied(stream, Self::serve_tcp))
    }

    /// Reads the header, and passes the connection to `serve` with the client's address.
    pub(super) fn serve_proxied(
        &self,
        stream: Async<TcpStream>,
        serve: impl FnOnce(&Self, Async<TcpStream>, SocketAddr) + Send + 'static,
    ) {
        let proxy = peer_address(&stream);
        let broker = Arc::downgrade(&self.0);
        let task = self.spawn(async move {
            match (read_header(&stream).await, broker.upgrade()) {
                (Ok(client), Some(handle)) => serve(&Self(handle), stream, client.unwrap_or(proxy)),
                (Ok(_), None) => {}
                (Err(error), _) => tracing::info!(peer = %proxy, %error, "connection without PROXY protocol refused"),
            }
        });
        task.detach();
    }
}

/// Reads the header in time. Returns `None` for a connection of the proxy itself.
async fn read_header(stream: &Async<TcpStream>) -> io::Result<Option<SocketAddr>> {
    let mut reading = pin!(read_all(stream));
    let mut deadline = Timer::after(HEADER_TIMEOUT);
    poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(read),
        Poll::Pending => {
            let expired = Pin::new(&mut deadline).poll(context);
            expired.map(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the header did not come within 10 s")))
        }
    })
    .await
}

async fn read_all(stream: &Async<TcpStream>) -> io::Result<Option<SocketAddr>> {
    let mut head = [0; 16];
    read_exact(stream, &mut head).await?;
    let Head { is_local, family, rest } = Head::parse(&head)?;
    let mut bytes = vec![0; rest];
    read_exact(stream, &mut bytes).await?;
    if is_local { Ok(None) } else { client(family, &bytes).map(Some) }
}

/// Reads no byte more, because the next one is the client's.
async fn read_exact(stream: &Async<TcpStream>, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read_with(|mut stream| stream.read(&mut buffer[filled..])).await? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within the header")),
            count => filled += count,
        }
    }
    Ok(())
}

impl Head {
    fn parse(bytes: &[u8; 16]) -> io::Result<Self> {
        let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let [signature @ .., version_and_command, family_and_transport, high, low] = bytes;
        if signature != SIGNATURE {
            return match bytes {
                [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => {
                    invalid("received PROXY protocol version 1; send version 2")
                }
                [b'A', b'M', b'Q', b'P', ..] => invalid("received AMQP without a header; let the proxy send one"),
                _ => invalid("the first bytes are no header of PROXY protocol version 2"),
            };
        }
        let rest = usize::from(u16::from_be_bytes([*high, *low]));
        if rest > REST_MAX {
            return invalid("the header is larger than 4 KiB");
        }
        let is_local = match version_and_command {
            0x20 => true,
            0x21 => false,
            _ => return invalid("the version or the command of the header is unknown"),
        };
        Ok(Self { is_local, family: family_and_transport >> 4, rest })
    }
}

/// Returns the client's address. One of another family than IP is not known, and counts as that of another machine.
fn client(family: u8, rest: &[u8]) -> io::Result<SocketAddr> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "the header is too short for its addresses");
    let port = |at: usize| {
        let bytes = rest.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        bytes.map(u16::from_be_bytes).ok_or_else(short)
    };
    Ok(match family {
        1 => {
            let (source, _) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*source)), port(8)?)
        }
        2 => {
            let (source, _) = rest.split_first_chunk::<16>().ok_or_else(short)?;
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*source)).to_canonical(), port(32)?)
        }
        _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version_and_command: u8, family: u8, rest: u16) -> [u8; 16] {
        let mut head = [0; 16];
        head[..12].copy_from_slice(SIGNATURE);
        head[12] = version_and_command;
        head[13] = family;
        head[14..].copy_from_slice(&rest.to_be_bytes());
        head
    }

    #[test]
    fn a_header_names_the_client() {
        assert_eq!(Head::parse(&head(0x21, 0x11, 12)).unwrap(), Head { is_local: false, family: 1, rest: 12 });
        let v4 = [192, 0, 2, 9, 127, 0, 0, 1, 0x12, 0x67, 0x16, 0x28];
        assert_eq!(client(1, &v4).unwrap().to_string(), "192.0.2.9:4711");
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&4711_u16.to_be_bytes());
        assert_eq!(client(2, &v6).unwrap().to_string(), "[2001:db8::7]:4711");
        assert!(Head::parse(&head(0x20, 0, 0)).unwrap().is_local);
        // A Unix socket in front of the proxy says nothing about the machine of the client.
        assert!(!client(3, &[0; 216]).unwrap().ip().is_loopback());
    }

    #[test]
    fn another_start_is_refused_with_the_reason() {
        for (bytes, expected) in [
            (*b"PROXY TCP4 192.0", "version 1; send version 2"),
            (*b"AMQP\0\0\x09\x01\x01\0\0\0\0\0\0\0", "AMQP without a header"),
            (*b"GET / HTTP/1.1\r\n", "no header of PROXY"),
            (head(0x31, 0x11, 12), "the version or the command"),
            (head(0x22, 0x11, 12), "the version or the command"),
            (head(0x21, 0x11, 4097), "larger than 4 KiB"),
        ] {
            let error = Head::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (family, size) in [(1, 9), (2, 33)] {
            assert!(client(family, &vec![0; size]).unwrap_err().to_string().contains("too short"));
        }
    }
}
