//! The end of a connection whose client still writes: the client must read why, and then the end of the stream.
//!
//! A socket that is closed too early answers such a client with a reset, which hides the reason or shows as a failed
//! write. Whether it does depends on the timing of threads, so each case runs many times.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hopmq_broker::{Broker, Profile};

/// How often each case runs.
const ROUNDS: usize = 40;
/// What a client writes after the end, in bytes.
const TAIL: usize = 4 * 1024 * 1024;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

/// Returns `connection.start-ok` with a password, and the capability to be told of a refusal.
fn start_ok(password: &str) -> Vec<u8> {
    let capability = b"\x1cauthentication_failure_closet\x01";
    let mut capabilities = b"\x0ccapabilitiesF".to_vec();
    capabilities.extend((capability.len() as u32).to_be_bytes());
    capabilities.extend(capability);
    let mut payload = b"\0\x0a\0\x0b".to_vec();
    payload.extend((capabilities.len() as u32).to_be_bytes());
    payload.extend(capabilities);
    payload.extend(b"\x05PLAIN");
    let response = format!("\0guest\0{password}");
    payload.extend((response.len() as u32).to_be_bytes());
    payload.extend(response.as_bytes());
    payload.extend(b"\x05en_US");
    frame(1, 0, &payload)
}

const CLOSE: &[u8] = b"\0\x0a\0\x32\0\xc8\x03bye\0\0\0\0";

/// A client that only writes and reads frames.
struct Raw<T>(T);

impl<T: Read + Write> Raw<T> {
    /// Logs in, opens the virtual host and channel 1.
    fn open(transport: T) -> Self {
        let mut raw = Self::login(transport, "guest");
        raw.expect("tune", 1, &[0, 10, 0, 30]);
        raw.write(&frame(1, 0, b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0"));
        raw.write(&frame(1, 0, b"\0\x0a\0\x28\x01/\0\0"));
        raw.expect("open-ok", 1, &[0, 10, 0, 41]);
        raw.write(&frame(1, 1, b"\0\x14\0\x0a\0"));
        raw.expect("channel.open-ok", 1, &[0, 20, 0, 11]);
        raw
    }

    fn login(transport: T, password: &str) -> Self {
        let mut raw = Self(transport);
        raw.write(b"AMQP\0\0\x09\x01");
        raw.expect("start", 1, &[0, 10, 0, 10]);
        raw.write(&start_ok(password));
        raw
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).expect("the broker reads");
    }

    /// Reads a frame; `None` at the end of the stream.
    fn read(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 7];
        if self.0.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut head[1..])?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.0.read_exact(&mut payload)?;
        Ok(Some((head[0], payload)))
    }

    fn expect(&mut self, what: &str, kind: u8, start: &[u8]) {
        let frame = self.read().unwrap_or_else(|error| panic!("{what}: {error}"));
        let (found, payload) = frame.unwrap_or_else(|| panic!("the stream ends in place of {what}"));
        assert!(found == kind && payload.starts_with(start), "{what}: {}", payload.escape_ascii());
    }

    /// Writes on, and checks that the broker takes it, tells the reason, and ends the stream.
    fn writes_on(&mut self, what: impl fmt::Display, bytes: &[u8], reason: &[u8]) {
        for at in 0..TAIL / bytes.len() {
            self.0.write_all(bytes).unwrap_or_else(|error| panic!("{what}: write {at}: {error}"));
        }
        self.expect(&format!("{what}"), 1, reason);
        let end = self.read().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(end, None, "{what}");
    }
}

fn body() -> Vec<u8> {
    frame(3, 1, &[b'x'; 100_000])
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What a client writes on channel 1 that ends its connection, and what the reason begins with.
fn endings() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let close = |code: u16| [&b"\0\x0a\0\x32"[..], &code.to_be_bytes()].concat();
    let mut wrong_end = frame(1, 1, b"\0\x5a\0\x0a");
    *wrong_end.last_mut().unwrap() = 0xCD;
    vec![
        ("a close", frame(1, 0, CLOSE), vec![0, 10, 0, 51]),
        ("a wrong end octet", wrong_end, close(501)),
        ("an unknown type of frame", frame(7, 1, b""), close(501)),
        ("a frame that is too large", frame(3, 1, &[0; 200_000]), close(501)),
        ("a body without a method", frame(3, 1, b"x"), close(505)),
        ("a method on a channel that is not open", frame(1, 2, b"\0\x5a\0\x0a"), close(504)),
        ("an unknown method", frame(1, 1, b"\0\x63\0\x0a"), close(540)),
    ]
}

#[test]
fn a_client_that_writes_on_after_the_end_reads_the_reason_and_the_end_of_the_stream() {
    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    for round in 0..ROUNDS {
        for (what, bytes, reason) in endings() {
            let mut raw = Raw::open(tcp(address));
            raw.write(&bytes);
            raw.writes_on(format_args!("{what}, round {round}"), &body(), &reason);
        }
        let mut raw = Raw::login(tcp(address), "wrong");
        raw.writes_on(format_args!("a refused login, round {round}"), &body(), b"\0\x0a\0\x32\x01\x93");
    }
}

/// A transport of a client within the process, read and written by a thread that waits.
struct Waiting(hopmq_broker::Pipe);

impl Read for Waiting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        block_on(self.0.read(into))
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        block_on(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_client_within_the_process_reads_the_reason_as_well() {
    let broker = Broker::in_memory();
    for round in 0..ROUNDS {
        for (what, bytes, reason) in endings() {
            let mut raw = Raw::open(Waiting(broker.connect()));
            raw.write(&bytes);
            raw.writes_on(format_args!("{what}, round {round}"), &body(), &reason);
        }
    }
}

#[test]
#[cfg(feature = "tls")]
fn a_client_over_tls_reads_the_reason_as_well() {
    use std::sync::Arc;

    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
    let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
    let broker = Broker::in_memory();
    let address = broker.listen_tls("127.0.0.1:0", Arc::new(server)).unwrap();
    for round in 0..ROUNDS / 8 {
        for (what, bytes, reason) in endings() {
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::clone(&client), name).unwrap();
            let mut raw = Raw::open(StreamOwned::new(connection, tcp(address)));
            raw.write(&bytes);
            // Without `close_notify`, rustls would report the end of the stream as an error.
            raw.writes_on(format_args!("{what}, round {round}"), &body(), &reason);
        }
    }
}

/// The broker waits for the answer to the close of a refused operation; a client may write much before it.
#[test]
fn what_a_client_writes_before_it_agrees_to_a_close_is_dropped() {
    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    for round in 0..ROUNDS {
        let mut raw = Raw::open(tcp(address));
        // A method of the connection on a channel.
        raw.write(&frame(1, 1, b"\0\x0a\0\x0a"));
        let publish =
            [frame(1, 1, b"\0\x3c\0\x28\0\0\0\x01q\0"), frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])];
        for _ in 0..1000 {
            raw.0.write_all(&publish.concat()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        raw.expect("connection.close", 1, &[0, 10, 0, 50]);
        raw.write(&frame(1, 0, b"\0\x0a\0\x33"));
        assert_eq!(raw.read().unwrap(), None, "round {round}");
    }
}

#[test]
fn clients_that_leave_while_their_password_is_verified_leave_nothing_behind() {
    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    for round in 0..50 {
        let mut raw = Raw::login(tcp(address), if round % 2 == 0 { "wrong" } else { "guest" });
        raw.write(&body());
        drop(raw);
    }
    drop(Raw::open(tcp(address)));
    broker.wait_until(|inspector| inspector.connections().is_empty());
}

#[test]
fn a_message_that_is_too_large_ends_its_channel_alone() {
    let broker = Broker::builder().profile(Profile::RabbitMq4_0).start();
    let address = broker.listen("127.0.0.1:0").unwrap();
    let size = 16 * 1024 * 1024 + 1;
    let mut raw = Raw::open(tcp(address));
    raw.write(&frame(1, 1, b"\0\x3c\0\x28\0\0\0\x01q\0"));
    raw.write(&frame(2, 1, &[&b"\0\x3c\0\0"[..], &(size as u64).to_be_bytes(), b"\0\0"].concat()));
    for part in vec![0; size].chunks(131_064) {
        raw.write(&frame(3, 1, part));
    }
    raw.write(&frame(1, 2, b"\0\x14\0\x0a\0"));
    let text = "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216";
    let close = [b"\0\x14\0\x28\x01\x96", &[text.len() as u8][..], text.as_bytes(), b"\0\x3c\0\x28"].concat();
    raw.expect("channel.close", 1, &close);
    raw.expect("channel.open-ok", 1, &[0, 20, 0, 11]);
    raw.write(&frame(1, 1, b"\0\x14\0\x29"));
    raw.write(&frame(1, 0, CLOSE));
    raw.expect("close-ok", 1, &[0, 10, 0, 51]);
}

/// A client that closes its socket right after its `connection.close` must have been heard to the end.
#[test]
fn all_that_a_client_sent_before_it_closed_its_socket_is_handled() {
    let broker = Broker::in_memory();
    let address = broker.listen("127.0.0.1:0").unwrap();
    // Its turns are over before it has handled what it has read.
    let slow = Broker::builder().turn_steps(100).start();
    let slow_address = slow.listen("127.0.0.1:0").unwrap();
    for round in 0..ROUNDS {
        let address = if round % 2 == 0 { address } else { slow_address };
        let mut raw = Raw::open(tcp(address));
        let queue = format!("q{round:04}");
        let name = [&[5], queue.as_bytes()].concat();
        raw.write(&frame(1, 1, &[&b"\0\x32\0\x0a\0\0"[..], &name, b"\0\0\0\0\0"].concat()));
        raw.expect("declare-ok", 1, &[0, 50, 0, 11]);
        let publish = [
            frame(1, 1, &[&b"\0\x3c\0\x28\0\0\0"[..], &name, b"\0"].concat()),
            frame(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
        raw.write(&publish.concat().repeat(3000));
        raw.write(&frame(1, 0, CLOSE));
        raw.0.shutdown(Shutdown::Write).unwrap();
        raw.expect("close-ok", 1, &[0, 10, 0, 51]);
        assert_eq!(raw.read().unwrap(), None);
        let mut probe = Raw::open(tcp(address));
        probe.write(&frame(1, 1, &[&b"\0\x32\0\x0a\0\0"[..], &name, b"\x01\0\0\0\0"].concat()));
        probe.expect("all messages", 1, &[&b"\0\x32\0\x0b"[..], &name, &3000_u32.to_be_bytes()].concat());
    }
}

#[test]
fn a_shutdown_tells_a_client_that_writes_and_does_not_wait_for_an_idle_one() {
    for round in 0..ROUNDS / 4 {
        let broker = Broker::in_memory();
        let address = broker.listen("127.0.0.1:0").unwrap();
        let mut idle = Raw::open(tcp(address));
        let mut busy = Raw::open(tcp(address));
        let heartbeats = frame(8, 0, b"").repeat(10_000);
        let writer = std::thread::spawn(move || {
            busy.writes_on(format_args!("a busy client, round {round}"), &heartbeats, b"\0\x0a\0\x32\x01\x40");
        });
        let begin = Instant::now();
        block_on(broker.shut_down(Duration::from_secs(60)));
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        writer.join().unwrap();
        idle.expect("connection.close", 1, b"\0\x0a\0\x32\x01\x40");
        assert_eq!(idle.read().unwrap(), None);
    }
}
