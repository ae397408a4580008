use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_tungstenite::WebSocketStream as Server;
use async_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use futures_lite::future::{block_on, poll_once, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt, StreamExt};

use super::*;
use crate::io::duplex::{End as Wire, wire};

const ROOM: usize = 256 << 10;

/// Returns a client and a server after the WebSocket handshake.
fn pair(capacity: usize, slice: usize) -> (WebSocketStream<Wire>, Server<Wire>) {
    let (near, far) = wire(capacity, slice);
    let client = connect("localhost", 15670, "/ws/amqp", &[], false, near);
    let (client, server) = block_on(zip(client, async_tungstenite::accept_async(far)));
    (client.unwrap(), server.unwrap())
}

async fn send(server: &mut Server<Wire>, message: Message) {
    poll_fn(|cx| Pin::new(&mut *server).poll_ready(cx)).await.unwrap();
    Pin::new(&mut *server).start_send(message).unwrap();
    poll_fn(|cx| Pin::new(&mut *server).poll_flush(cx)).await.unwrap();
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| ((index * 31) >> 3) as u8).collect()
}

#[test]
fn the_protocol_header_is_sent_in_its_own_message() {
    let (mut client, mut server) = pair(ROOM, usize::MAX);
    block_on(async {
        client.write_all(b"AMQP").await.unwrap();
        client.write_all(b"\0\0\x09\x01").await.unwrap();
        client.flush().await.unwrap();
        client.write_all(b"more").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), binary(b"AMQP\0\0\x09\x01"));
        assert_eq!(server.next().await.unwrap().unwrap(), binary(b"more"));
    });
}

#[test]
fn messages_split_anywhere_read_the_same() {
    let whole = pattern(1000);
    for message in [1, 2, 3, 7, 100, 999, 1000] {
        for read in [1, 3, 64, 5000] {
            let (mut client, mut server) = pair(ROOM, 5);
            let mut seen = Vec::new();
            let write = async {
                for part in whole.chunks(message) {
                    send(&mut server, binary(part)).await;
                    send(&mut server, binary(b"")).await;
                }
            };
            let read = async {
                let mut buf = vec![0; read];
                while seen.len() < whole.len() {
                    let length = client.read(&mut buf).await.unwrap();
                    assert_ne!(length, 0);
                    seen.extend_from_slice(&buf[..length]);
                }
            };
            block_on(zip(write, read));
            assert_eq!(seen, whole, "{message} bytes a message");
        }
    }
}

#[test]
fn writes_are_batched_into_bounded_messages() {
    let whole = pattern(300 << 10);
    for slice in [1000, usize::MAX] {
        let (mut client, mut server) = pair(8 << 10, slice);
        let write = async {
            for part in whole.chunks(1001) {
                client.write_all(part).await.unwrap();
            }
            client.flush().await.unwrap();
        };
        let read = async {
            let mut seen = Vec::new();
            while seen.len() < whole.len() {
                let bytes = server.next().await.unwrap().unwrap().into_data();
                assert!(bytes.len() == MESSAGE || seen.len() + bytes.len() == whole.len());
                seen.extend_from_slice(&bytes);
            }
            seen
        };
        assert_eq!(block_on(zip(write, read)).1, whole);
    }
}

#[test]
fn vectored_writes_are_batched() {
    let (mut client, mut server) = pair(ROOM, usize::MAX);
    let big = pattern(MESSAGE);
    block_on(async {
        let bufs =
            [io::IoSlice::new(b"head"), io::IoSlice::new(b""), io::IoSlice::new(&big), io::IoSlice::new(b"tail")];
        assert_eq!(client.write_vectored(&bufs).await.unwrap(), MESSAGE);
        client.flush().await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap().into_data(), [b"head", &big[..MESSAGE - 4]].concat());
    });
}

#[test]
fn a_peer_that_does_not_read_stops_the_writer() {
    let capacity = 4 << 10;
    let (mut client, mut server) = pair(capacity, usize::MAX);
    let chunk = pattern(4096);
    block_on(async {
        let mut taken = 0;
        while let Some(length) = poll_once(client.write(&chunk)).await {
            taken += length.unwrap();
            assert!(taken < 1 << 20, "the buffers have no bound");
        }
        assert!(taken <= 2 * MESSAGE, "{taken} bytes are buffered");
        // Once the peer reads, the writer continues.
        let mut seen = 0;
        let read = async {
            while seen < taken {
                seen += server.next().await.unwrap().unwrap().len();
            }
        };
        zip(async { client.flush().await.unwrap() }, read).await;
        assert_eq!(seen, taken);
    });
}

#[test]
fn pings_are_answered_while_reading() {
    let (mut client, mut server) = pair(ROOM, usize::MAX);
    block_on(async {
        send(&mut server, Message::Ping(Bytes::from_static(b"there?"))).await;
        send(&mut server, binary(b"x")).await;
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        assert!(poll_once(client.read(&mut byte)).await.is_none());
        assert_eq!(server.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    });
}

#[test]
fn a_text_message_is_an_error_that_the_peer_receives() {
    let (mut client, mut server) = pair(ROOM, usize::MAX);
    block_on(async {
        send(&mut server, binary(b"x")).await;
        send(&mut server, Message::Text("hello".into())).await;
        let mut byte = [0; 8];
        assert_eq!(client.read(&mut byte).await.unwrap(), 1);
        for _ in 0..2 {
            let error = client.read(&mut byte).await.unwrap_err();
            assert!(error.to_string().contains("sent a text message"), "{error}");
        }
        assert_eq!(client.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        match server.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Unsupported),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_close_with_a_reason_is_an_error() {
    for (code, reason, mention) in
        [(CloseCode::Policy, "origin not allowed", "1008: origin not allowed"), (CloseCode::Away, "", "1001")]
    {
        let (mut client, mut server) = pair(ROOM, usize::MAX);
        block_on(async {
            send(&mut server, binary(b"rest")).await;
            send(&mut server, Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
            let mut all = Vec::new();
            let error = client.read_to_end(&mut all).await.unwrap_err();
            assert_eq!(all, b"rest");
            assert!(error.to_string().contains(mention), "{error}");
        });
    }
}

#[test]
fn a_close_without_a_reason_ends_the_stream() {
    for frame in [None, Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })] {
        let (mut client, mut server) = pair(ROOM, usize::MAX);
        block_on(async {
            send(&mut server, binary(b"rest")).await;
            send(&mut server, Message::Close(frame)).await;
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"rest");
            assert_eq!(client.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}

#[test]
fn a_lost_transport_is_an_error() {
    let (mut client, server) = pair(ROOM, usize::MAX);
    drop(server);
    let error = block_on(client.read(&mut [0])).unwrap_err();
    assert!(error.to_string().contains("without closing"), "{error}");
}

#[test]
fn closing_sends_the_rest_and_waits_for_the_peer() {
    let (mut client, mut server) = pair(8 << 10, 100);
    let rest = pattern(100_000);
    let serve = async {
        let mut seen = Vec::new();
        // Unread messages must not stop the close.
        send(&mut server, binary(b"late")).await;
        while let Some(message) = server.next().await {
            match message.unwrap() {
                Message::Close(_) => {}
                message => seen.extend_from_slice(&message.into_data()),
            }
        }
        drop(server);
        seen
    };
    let close = async {
        client.write_all(&rest).await.unwrap();
        client.close().await.unwrap();
        assert!(client.write(b"x").await.is_err());
    };
    assert_eq!(block_on(zip(close, serve)).1, rest);
}

#[test]
fn closing_waits_as_long_as_the_peer_is_silent() {
    let (mut client, _server) = pair(ROOM, usize::MAX);
    assert!(block_on(poll_once(client.close())).is_none());
}

#[test]
fn a_message_over_the_limit_is_an_error() {
    let (mut client, mut server) = pair(ROOM, usize::MAX);
    let big = Message::Binary(vec![0; MAX_MESSAGE + 1].into());
    poll_and_forget(&mut server, big);
    let error = block_on(client.read(&mut [0])).unwrap_err();
    assert!(error.to_string().contains("16777216 are allowed"), "{error}");
}

fn poll_and_forget(server: &mut Server<Wire>, message: Message) {
    block_on(async {
        let _ = poll_once(send(server, message)).await;
    });
}

#[test]
fn a_subprotocol_is_offered_only_if_set() {
    for (offered, header) in [(vec![], None), (vec!["amqp091".to_owned(), "amqp".to_owned()], Some("amqp091, amqp"))] {
        let (near, far) = wire(ROOM, usize::MAX);
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        #[expect(clippy::result_large_err, reason = "the trait of tungstenite")]
        let check = move |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let value = request.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
            assert_eq!(value, header);
            assert_eq!((request.uri().path(), &request.headers()["host"]), ("/ws", &"[::1]:81".parse().unwrap()));
            if header.is_some() {
                response.headers_mut().insert("sec-websocket-protocol", "amqp091".parse().unwrap());
            }
            count.fetch_add(1, Ordering::Relaxed);
            Ok(response)
        };
        let client = connect("::1", 81, "/ws", &offered, false, near);
        let (client, server) = block_on(zip(client, async_tungstenite::accept_hdr_async(far, check)));
        client.unwrap();
        server.unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_refused_handshake_is_explained() {
    let table: [(&[u8], &str); 6] = [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404 Not Found; is the path right?"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "something else"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "Origin"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "redirects"),
        (b"AMQP\0\0\x09\x01", "plain AMQP port"),
        (b"", "closed the connection during the handshake"),
    ];
    for (answer, mention) in table {
        let (near, mut far) = wire(ROOM, usize::MAX);
        let serve = async move {
            far.read(&mut [0; 1024]).await.unwrap();
            far.write_all(answer).await.unwrap();
        };
        let (result, ()) = block_on(zip(connect("localhost", 80, "/ws", &[], false, near), serve));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WebSocket);
        assert!(error.to_string().contains("ws://localhost/ws"), "{error}");
        assert!(error.to_string().contains(mention), "{error}");
    }
}

#[test]
fn invalid_addresses_are_refused() {
    for (host, path, protocols) in [("a b", "/", &[][..]), ("a", "/\u{7f}", &[]), ("a", "/", &["a,b".to_owned()])] {
        let (near, _far) = wire(1, 1);
        let error = block_on(connect(host, 80, path, protocols, false, near)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
}

/// Like TLS, buffers what the wire does not accept until it is flushed.
#[test]
fn a_buffering_transport_is_flushed_during_the_handshake() {
    struct Held(Wire, Vec<u8>);
    impl AsyncRead for Held {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }
    impl AsyncWrite for Held {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.1.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Self(wire, held) = &mut *self;
            while !held.is_empty() {
                let length = ready!(Pin::new(&mut *wire).poll_write(cx, held))?;
                held.drain(..length);
            }
            Poll::Ready(Ok(()))
        }
        fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_close(cx)
        }
    }
    let (near, far) = wire(ROOM, 10);
    let client = connect("localhost", 443, "/", &[], true, Held(near, Vec::new()));
    let (client, server) = block_on(zip(client, async_tungstenite::accept_async(far)));
    client.unwrap();
    server.unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn a_websocket_runs_over_tls() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::clone(identity.cert.der())], key)
        .unwrap();
    let acceptor = futures_rustls::TlsAcceptor::from(Arc::new(config));
    let tls = crate::io::tls::Tls::new().root_pem(identity.cert.pem().as_bytes());

    let (near, far) = wire(32 << 10, 77);
    let whole = pattern(200_000);
    let client = async {
        let secured = crate::io::tls::connect(&tls, "localhost", near).await.unwrap();
        let mut client = connect("localhost", 443, "/ws", &[], true, secured).await.unwrap();
        client.write_all(&whole).await.unwrap();
        client.flush().await.unwrap();
        client.close().await.unwrap();
    };
    let server = async {
        let mut server = async_tungstenite::accept_async(acceptor.accept(far).await.unwrap()).await.unwrap();
        let mut seen = Vec::new();
        while let Some(message) = server.next().await {
            match message.unwrap() {
                Message::Close(_) => {}
                message => seen.extend_from_slice(&message.into_data()),
            }
        }
        poll_fn(|cx| Pin::new(server.get_mut()).poll_close(cx)).await.unwrap();
        seen
    };
    assert_eq!(block_on(zip(client, server)).1, whole);
}
