//! A host name with several addresses, with sockets on loopback and every client API.
//!
//! A resolver of the test returns the addresses: of a broker in this process, and of listeners that take a connection
//! and then close it, or say nothing, or whose backlog is full, so that connecting to them hangs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq::{Builder, Connection, Event, Result};
use hopmq_broker::Broker;

/// A listener at which a connection never works.
enum Bad {
    /// Closes each connection.
    Closes,
    /// Accepts connections, and sends nothing.
    Silent,
    /// Accepts no connections.
    Full,
}

/// A bad listener, which lives as long as this.
struct Listener {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Connections that fill the backlog.
    _held: Vec<TcpStream>,
    _listener: TcpListener,
}

impl Listener {
    fn new(ip: &str, kind: &Bad) -> Self {
        let socket_address: SocketAddr = format!("{ip}:0").parse().expect("an IPv4 address");
        let domain = socket2::Domain::for_address(socket_address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&socket_address.into()).expect("a free port");
        socket.listen(if matches!(kind, Bad::Full) { 0 } else { 128 }).expect("the socket is bound");
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().expect("the socket is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        match kind {
            Bad::Full => {
                // Linux takes one connection more than the backlog. The first that hangs proves that it is full.
                while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                    held.push(stream);
                }
            }
            Bad::Closes | Bad::Silent => {
                let (counter, closes) = (Arc::clone(&accepted), matches!(kind, Bad::Closes));
                let accepting = listener.try_clone().expect("a file descriptor");
                thread::spawn(move || {
                    let mut held = Vec::new();
                    for stream in accepting.incoming() {
                        counter.fetch_add(1, Ordering::SeqCst);
                        if !closes {
                            held.push(stream);
                        }
                    }
                });
            }
        }
        Self { address, accepted, _held: held, _listener: listener }
    }
}

fn broker() -> (Broker, SocketAddr) {
    let broker = Broker::builder().start();
    let address = broker.listen("127.0.0.2:0").expect("a free port");
    (broker, address)
}

/// Returns settings whose host has these addresses.
fn builder(addresses: &[SocketAddr]) -> Builder {
    let addresses = addresses.to_vec();
    Connection::builder().host("rabbit.test").connect_timeout(Duration::from_secs(4)).resolver(move |host, port| {
        assert_eq!((host, port), ("rabbit.test", 5672));
        Ok(addresses.clone())
    })
}

type Open = fn(&Builder) -> Result<()>;

/// Opens a connection with each API, and closes it.
const APIS: [(&str, Open); 4] = [
    ("driver thread", |builder| smol::block_on(async { builder.open().await?.close().await })),
    ("own driver", |builder| {
        smol::block_on(async {
            let (connection, driver) = builder.connect().await?;
            futures_lite::future::zip(driver, connection.close()).await.1
        })
    }),
    ("tokio", |builder| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { builder.open_tokio().await?.close().await })
    }),
    ("reactor", |builder| {
        let mut reactor = hopmq::Reactor::new()?;
        let handle = reactor.handle();
        reactor.block_on(async {
            let (connection, driver) = builder.connect_on(&handle).await?;
            futures_lite::future::zip(driver, connection.close()).await.1
        })
    }),
];

#[test]
fn a_bad_address_does_not_keep_a_client_from_the_others() {
    let (_broker, good) = broker();
    for kind in [Bad::Closes, Bad::Silent, Bad::Full] {
        let bad = Listener::new("127.0.0.1", &kind);
        let try_it = &|api: &str, open: Open| {
            let start = Instant::now();
            open(&builder(&[bad.address, good])).unwrap_or_else(|error| panic!("{api}: {error}"));
            assert!(start.elapsed() < Duration::from_secs(4), "{api}: {:?}", start.elapsed());
        };
        thread::scope(|scope| {
            for (api, open) in APIS {
                scope.spawn(move || try_it(api, open));
            }
        });
        if !matches!(kind, Bad::Full) {
            assert!(bad.accepted.load(Ordering::SeqCst) > 0);
        }
    }
}

#[test]
fn a_blocking_client_reaches_the_good_one_of_three_addresses() {
    let (_broker, good) = broker();
    let [closes, full] = [Bad::Closes, Bad::Full].map(|kind| Listener::new("127.0.0.1", &kind));
    let addresses = [full.address, closes.address, good];
    let connection =
        hopmq_blocking::Connection::builder().host("rabbit.test").resolver(move |_, _| Ok(addresses.to_vec()));
    connection.open().expect("one address works").close().expect("the broker is there");
}

#[test]
fn the_other_family_is_tried_when_one_has_no_route() {
    let (_broker, good) = broker();
    // Nothing listens there: the port is bound, and never listened on.
    let unused = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("IPv6");
    let v6: SocketAddr = "[::1]:0".parse().expect("an address");
    unused.bind(&v6.into()).expect("a free port");
    let v6 = unused.local_addr().ok().and_then(|address| address.as_socket()).expect("the socket is bound");
    for (api, open) in APIS {
        open(&builder(&[v6, v6, good])).unwrap_or_else(|error| panic!("{api}: {error}"));
    }
}

#[test]
fn a_lost_link_is_replaced_at_another_address() {
    let (first, at_first) = broker();
    let (_second, at_second) = broker();
    smol::block_on(async {
        let connection = builder(&[at_first, at_second]).open().await.expect("both addresses work");
        let mut events = connection.events();
        drop(first);
        while let Some(event) = events.next().await {
            match event {
                Event::Connected { host } => {
                    assert_eq!(host, format!("rabbit.test:5672 ({})", at_second.ip()));
                    break;
                }
                Event::Closed { error } => panic!("{error}"),
                _ => {}
            }
        }
        connection.close().await.expect("the second broker is there");
    });
}

#[test]
fn an_error_names_each_address() {
    let closes = Listener::new("127.0.0.1", &Bad::Closes);
    let silent = Listener::new("127.0.0.3", &Bad::Silent);
    let builder = builder(&[closes.address, silent.address]).connect_timeout(Duration::from_secs(1));
    let error = smol::block_on(builder.open()).expect_err("no address works").to_string();
    // The listener's close is a reset if it has not read the client's header.
    assert!(error.contains("(127.0.0.1)") && error.contains("during the handshake"), "{error}");
    assert!(error.contains("rabbit.test:5672 (127.0.0.3) accepted the connection and sent no"), "{error}");
}
