//! Connections that fail, which needs no broker.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use hopmq_blocking::sasl::Credentials;
use hopmq_blocking::{Connection, Error, ErrorKind};

#[test]
fn what_makes_no_sense_is_told_when_connecting() {
    let error = Connection::open("http://guest:secret@localhost").expect_err("that is no AMQP");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = Connection::builder().frame_max(1).open().expect_err("frames are larger");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn nobody_there_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    drop(listener);
    let error = Connection::open(&format!("amqp://{address}")).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn a_silent_peer_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let builder = Connection::builder().hosts([&*address]).connect_timeout(Duration::from_millis(50));
    let start = Instant::now();
    let error = builder.open().expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_error_of_a_provider_of_credentials_is_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let refuse = || Err::<Credentials, _>(Error::new(ErrorKind::Authentication, "no token today"));
    let error = Connection::builder().hosts([&*address]).credentials_from(refuse).open().expect_err("there is none");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Authentication, "no token today"));
}
