//! Connects that fail, tested without a broker.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use hopmq_blocking::sasl::Credentials;
use hopmq_blocking::{Connection, Error, ErrorKind};

#[test]
fn an_invalid_setting_fails_the_connect() {
    let error = Connection::open("http://guest:secret@localhost").expect_err("http is no AMQP scheme");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = Connection::builder().frame_max(1).open().expect_err("frames have at least 4,096 bytes");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_refused_tcp_connection_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    drop(listener);
    let error = Connection::open(&format!("amqp://{address}")).expect_err("the port has no listener");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn connecting_to_a_silent_peer_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    let builder = Connection::builder().hosts([&*address]).connect_timeout(Duration::from_millis(50));
    let start = Instant::now();
    let error = builder.open().expect_err("the listener never answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_credentials_provider_error_reaches_the_caller() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    let refuse = || Err::<Credentials, _>(Error::new(ErrorKind::Authentication, "no token today"));
    let error =
        Connection::builder().hosts([&*address]).credentials_from(refuse).open().expect_err("the provider fails");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Authentication, "no token today"));
}
