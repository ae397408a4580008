//! A gateway in this process, and a page that sends arbitrary bytes.

pub(crate) mod link;
#[cfg(target_os = "linux")]
pub(crate) mod program;
pub(crate) mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hopmq_gateway::{Config, Gateway};
use hopmq_proto::method::{Encode, Method, MethodId, channel, connection};
use hopmq_proto::{FieldTable, Frame, Kind, PROTOCOL_HEADER, ReceiveLimits, put_method};
use hopmq_tests::broker;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The timeout of every step of a test.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Awaits `future`, and panics if it takes longer than the timeout.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { timeout(TIMEOUT, future).await.unwrap_or_else(|_| panic!("timeout at {place}")) }
}

/// A folder for the files of a test, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("the folder can be created");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{}: {removed:?}", self.0.display());
    }
}

/// A gateway that serves on its own port.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Served {
    /// Starts a gateway with these settings (TOML) for the RabbitMQ of the tests.
    pub(crate) async fn start(settings: &str) -> Self {
        let hosts = format!("amqp://{}", broker().address());
        Self::start_at(settings, &hosts).await
    }

    /// Starts a gateway with these settings (TOML) for other hosts, separated by commas.
    pub(crate) async fn start_at(settings: &str, host: &str) -> Self {
        let environment = [("HOPMQ_GATEWAY_UPSTREAM_HOSTS".to_owned(), host.to_owned())];
        let config = Config::read(settings, "test", environment).expect("the settings are valid");
        Self::serve(Gateway::new(config).expect("the settings can be used")).await
    }

    pub(crate) async fn serve(gateway: Gateway) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let gateway = gateway.clone();
            async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                gateway.serve(listener, stopped).await
            }
        });
        Self { gateway, address, stop: Some(stop), task }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws/amqp", self.address)
    }

    /// Returns the URL for an AMQP client.
    pub(crate) fn amqp(&self, user: &str, password: &str) -> String {
        format!("ws://{user}:{password}@{}/ws/amqp?vhost=%2f", self.address)
    }

    /// Starts the shutdown of the gateway.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Awaits the end of the gateway.
    pub(crate) async fn ended(self) {
        soon(self.task).await.expect("the gateway does not panic").expect("the gateway ends without an error");
    }

    /// Sends a GET request; returns the status and the body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path, "").await
    }

    /// Returns the value of a line of `/metrics`, or 0 without such a line.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("the value is a number"))
    }

    /// Awaits that no connection is open, to the gateway or to its hosts.
    pub(crate) async fn is_empty(&self) {
        soon(async {
            loop {
                let (_, text) = self.get("/metrics").await;
                let busy = |line: &str| line.starts_with("hopmq_gateway_upstream_connections") && !line.ends_with(" 0");
                if self.gateway.connections() == 0 && !text.lines().any(busy) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Drops the page, and awaits that no connection is open.
    pub(crate) async fn is_empty_after(&self, page: Page) {
        drop(page);
        self.is_empty().await;
    }
}

/// Sends a GET request; returns the status and the body. Each line of `headers` ends with CRLF.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    soon(async {
        let mut socket = TcpStream::connect(address).await.expect("the server listens");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
        socket.write_all(head.as_bytes()).await.expect("the server reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("the server answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("the answer is HTTP");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("the answer is HTTP"), body.to_owned())
    })
    .await
}

/// A browser that sends what the test wants.
pub(crate) struct Page {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    received: Vec<u8>,
    /// The sizes of the received messages.
    pub(crate) sizes: Vec<usize>,
}

/// What a page received.
#[derive(Debug)]
pub(crate) enum Received {
    Frame { kind: Kind, payload: Bytes },
    Closed(Option<CloseFrame>),
}

const LIMITS: ReceiveLimits = ReceiveLimits { frame_max: 1 << 20, channel_max: u16::MAX, message_max: u64::MAX };

impl Page {
    /// Opens a WebSocket. The error is the status and the body of the refusal.
    pub(crate) async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, (u16, String)> {
        let mut request = url.into_client_request().expect("the URL is valid");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("the header is valid"));
        }
        match soon(tokio_tungstenite::connect_async(request)).await {
            Ok((socket, response)) => {
                let echoed = response.headers().get("sec-websocket-protocol");
                let offered = headers.iter().find(|(name, _)| *name == "sec-websocket-protocol");
                assert_eq!(
                    echoed.is_some(),
                    offered.is_some(),
                    "a subprotocol is echoed if and only if one was offered"
                );
                Ok(Self { socket, received: Vec::new(), sizes: Vec::new() })
            }
            Err(Error::Http(response)) => {
                let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
                Err((response.status().as_u16(), body))
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Opens a WebSocket and logs in.
    pub(crate) async fn log_in(url: &str, user: &str, password: &str) -> Self {
        let mut page = Self::open(url, &[]).await.expect("the gateway admits the page");
        page.bytes(&PROTOCOL_HEADER).await;
        page.expect(connection::Start::ID).await;
        page.start_ok(user, password).await;
        page.opening("/").await;
        page.expect(connection::OpenOk::ID).await;
        page
    }

    /// Sends user and password.
    pub(crate) async fn start_ok(&mut self, user: &str, password: &str) {
        let capabilities = FieldTable::new().with("authentication_failure_close", true);
        let properties = FieldTable::new().with("capabilities", &capabilities);
        let response = format!("\0{user}\0{password}");
        let start = connection::StartOk {
            client_properties: properties.as_ref_table(),
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        self.method(0, &start).await;
    }

    /// Awaits `connection.tune`, accepts its limits, and opens the virtual host.
    pub(crate) async fn opening(&mut self, virtual_host: &str) {
        let payload = self.expect(connection::Tune::ID).await;
        let Ok(Method::ConnectionTune(connection::Tune { channel_max, frame_max, .. })) = Method::decode(&payload)
        else {
            panic!("connection.tune cannot be decoded")
        };
        self.method(0, &connection::TuneOk { channel_max, frame_max, heartbeat: 0 }).await;
        self.method(0, &connection::Open { virtual_host }).await;
    }

    pub(crate) async fn open_channel(&mut self, number: u16) {
        self.method(number, &channel::Open {}).await;
        self.expect(channel::OpenOk::ID).await;
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        soon(self.socket.send(Message::binary(bytes.to_vec()))).await.expect("the WebSocket is open");
    }

    pub(crate) async fn method<M: Encode>(&mut self, channel: u16, method: &M) {
        let mut bytes = Vec::new();
        put_method(&mut bytes, 1 << 20, channel, method).expect("the method can be encoded");
        self.bytes(&bytes).await;
    }

    /// Returns the next frame, or the close.
    pub(crate) async fn next(&mut self) -> Received {
        loop {
            if let Some(frame) = Frame::parse(&self.received, &LIMITS).expect("the gateway sends AMQP") {
                let received = Received::Frame { kind: frame.kind(), payload: Bytes::copy_from_slice(frame.payload()) };
                let size = frame.size();
                self.received.drain(..size);
                return received;
            }
            assert!(self.received.is_empty(), "each message holds whole frames");
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => {
                    self.sizes.push(bytes.len());
                    self.received.extend_from_slice(&bytes);
                }
                Some(Ok(Message::Close(frame))) => return Received::Closed(frame),
                Some(Ok(_)) => {}
                None => return Received::Closed(None),
                Some(Err(error)) => panic!("the WebSocket ended without a close: {error}"),
            }
        }
    }

    /// Returns the payload of the next method, which must be `id`.
    #[track_caller]
    pub(crate) fn expect(&mut self, id: MethodId) -> impl Future<Output = Bytes> {
        let place = std::panic::Location::caller();
        async move {
            match self.next().await {
                Received::Frame { kind: Kind::Method, payload, .. } => {
                    let found = MethodId::peek(&payload).expect("the payload is a method");
                    assert_eq!(found, id, "{:?} at {place}", Method::decode(&payload));
                    payload
                }
                other => panic!("{other:?} instead of {id} at {place}"),
            }
        }
    }

    /// Awaits `connection.close`, answers it, and returns its code and text.
    pub(crate) async fn closed_by_amqp(&mut self) -> (u16, String) {
        let payload = self.expect(connection::Close::ID).await;
        let Ok(Method::ConnectionClose(close)) = Method::decode(&payload) else {
            panic!("connection.close cannot be decoded")
        };
        let reason = (close.reply_code, close.reply_text.to_owned());
        self.method(0, &connection::CloseOk {}).await;
        reason
    }

    /// Returns the code and the reason of the WebSocket close, which must come next.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Received::Closed(Some(frame)) => {
                while let Some(Ok(_)) = soon(self.socket.next()).await {}
                (frame.code.into(), frame.reason.to_string())
            }
            other => panic!("{other:?} instead of a close with a reason"),
        }
    }
}
