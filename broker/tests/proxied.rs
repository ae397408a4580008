//! Listeners behind a proxy that sends the PROXY protocol, version 2.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use async_io::Async;
use futures_lite::future::{block_on, zip};
use hopmq::{Connection, ErrorKind, IoTimer};
use hopmq_broker::{Broker, Permissions};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Returns the header of a client with this IPv4 address and port 4711.
fn header_of(address: [u8; 4]) -> Vec<u8> {
    let ports = [0x12, 0x67, 0x16, 0x28];
    [SIGNATURE, &[0x21, 0x11, 0, 12], &address, &[127, 0, 0, 1], &ports].concat()
}

fn proxied(listener: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(listener).unwrap();
    stream.write_all(header).unwrap();
    stream
}

fn log_in(stream: TcpStream, user: &str, password: &str) -> hopmq::Result<()> {
    block_on(async {
        let builder = Connection::builder().credentials(user, password);
        let (connection, driver) = builder.handshake(Async::new(stream).unwrap(), IoTimer::new()).await?;
        zip(driver, connection.close()).await.1
    })
}

#[test]
fn the_address_in_the_header_is_that_of_the_client() {
    let broker = Broker::in_memory();
    broker.add_user("alice", "secret").unwrap();
    broker.set_permissions("alice", "/", Permissions::ALL).unwrap();
    let listener = broker.listen_proxied("127.0.0.1:0").unwrap();
    let remote = header_of([203, 0, 113, 9]);
    log_in(proxied(listener, &remote), "alice", "secret").unwrap();
    let error = log_in(proxied(listener, &remote), "guest", "guest").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    log_in(proxied(listener, &header_of([127, 0, 0, 1])), "guest", "guest").unwrap();
    // The proxy's own connection, with an addition that is skipped.
    let own = [SIGNATURE, &[0x20, 0, 0, 4], &[0x04, 0, 1, 0]].concat();
    log_in(proxied(listener, &own), "guest", "guest").unwrap();
}

#[test]
fn only_such_a_listener_takes_a_header_and_it_takes_nothing_else() {
    let broker = Broker::in_memory();
    let read_all = |mut stream: TcpStream| {
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    let proxy_listener = broker.listen_proxied("127.0.0.1:0").unwrap();
    for start in [&b"AMQP\0\0\x09\x01AMQP\0\0\x09\x01"[..], b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5672\r\n"] {
        assert_eq!(read_all(proxied(proxy_listener, start)), b"", "{start:?}");
    }
    // A listener for clients takes the header for an unknown protocol.
    let plain = broker.listen("127.0.0.1:0").unwrap();
    let answer = read_all(proxied(plain, &header_of([127, 0, 0, 1])));
    assert!(answer.is_empty() || answer.starts_with(b"AMQP"), "{answer:?}");
}
