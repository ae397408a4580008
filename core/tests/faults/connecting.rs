//! Connecting to a peer that is no broker, or to a broker that refuses the login.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hopmq::sasl::{Credentials, Sasl};
use hopmq::{Connection, Error, ErrorKind, Result};
use hopmq_proto::Config;

use crate::common::{Reaction, STAGES, Stage, World, fault, method, seconds};

#[track_caller]
fn refused(world: &mut World) -> Error {
    match world.connect_by(&Connection::builder()) {
        Ok(_) => panic!("the connect must fail"),
        Err(error) => {
            world.settle();
            error
        }
    }
}

fn due(stage: Stage) -> &'static str {
    match stage {
        Stage::Start => "connection.start",
        Stage::Tune => "the answer to the credentials",
        Stage::OpenOk => "connection.open-ok",
    }
}

#[test]
fn a_server_that_stalls_at_any_stage_times_out_with_an_error_that_names_the_stage() {
    for stage in STAGES {
        let mut world = World::new();
        world.server.reactions.insert(stage, Reaction::Stall);
        let error = refused(&mut world);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{stage:?}");
        assert!(error.to_string().contains(due(stage)), "{error}");
        assert_eq!(world.time.now().since_epoch(), seconds(10), "{stage:?}");
        assert!(world.server.wire.is_closed());
    }
}

#[test]
fn a_server_that_sends_a_byte_a_second_times_out_as_well() {
    let mut world = World::new();
    world.server.silent = true;
    let transport = world.transport();
    let timer = world.time.timer();
    let builder = Connection::builder();
    let outcome = world.start(async move { builder.handshake(transport, timer).await.map(drop) });
    let mut start = std::collections::VecDeque::from(vec![1, 0, 0, 0, 0, 1, 0]);
    start.extend([0; 256]);
    let mut late = 0;
    while !outcome.is_done() {
        let mut byte = start.drain(..1).collect();
        world.server.wire.write(&mut byte);
        world.advance(seconds(1));
        late += 1;
        assert!(late < 100, "the connect does not time out");
    }
    assert_eq!(outcome.done().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(world.time.now().since_epoch(), seconds(10));
}

#[test]
fn a_handshake_cut_at_any_stage_is_an_io_error_with_the_stage_and_a_likely_cause() {
    for (reaction, stage) in STAGES.into_iter().flat_map(|stage| [(Reaction::Cut, stage), (Reaction::Reset, stage)]) {
        let mut world = World::new();
        world.server.reactions.insert(stage, reaction.clone());
        let error = refused(&mut world);
        assert_eq!(error.kind(), ErrorKind::Io, "{stage:?} {reaction:?}: {error}");
        let text = error.to_string();
        assert!(text.contains(due(stage)), "{stage:?} {reaction:?}: {text}");
        let guess = match stage {
            Stage::Start => "port",
            Stage::Tune => "credentials",
            Stage::OpenOk => "virtual host",
        };
        assert!(text.split_once(due(stage)).unwrap().1.contains(guess), "{stage:?} {reaction:?}: {text}");
        assert_eq!(world.time.now().since_epoch(), seconds(0));
    }
}

#[test]
fn an_immediate_end_of_the_stream_is_an_io_error() {
    let mut world = World::new();
    world.server.silent = true;
    world.server.wire.cut();
    let error = refused(&mut world);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("during the handshake"), "{error}");
}

#[test]
fn a_peer_that_is_no_broker_is_recognised_by_its_first_bytes() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
        (b"AMQP\x00\x00\x09\x00", "version 0-9"),
        (b"AMQP\x01\x01\x00\x09", "version 0-9"),
        (b"AMQP\x00\x01\x00\x00", "version 1-0"),
        (b"AMQP\x03\x01\x00\x00", "another protocol header of AMQP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "frame type 83"),
    ] {
        let mut world = World::new();
        world.server.reactions.insert(Stage::Start, Reaction::Raw(bytes.to_vec()));
        let error = refused(&mut world);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_connection_close_at_any_handshake_stage_is_an_error_with_its_code_and_text() {
    for (code, kind) in [
        (403, ErrorKind::Authentication),
        (530, ErrorKind::ConnectionClosed),
        (320, ErrorKind::ConnectionClosed),
        (541, ErrorKind::ConnectionClosed),
    ] {
        for stage in STAGES {
            let mut world = World::new();
            world.server.reactions.insert(stage, Reaction::Close(code, "a text of the broker"));
            let error = refused(&mut world);
            assert_eq!(fault(&error), (kind, Some(code)), "{stage:?}");
            assert!(error.to_string().contains("a text of the broker"), "{error}");
            assert_eq!(world.server.count("0 connection.close-ok"), 1, "{stage:?}");
        }
    }
}

#[test]
fn an_error_lists_the_mechanisms_of_a_server_that_offers_none_of_ours() {
    let mut world = World::new();
    world.server.configure(|config| config.mechanisms = "GSSAPI EXTERNAL".to_owned());
    let error = refused(&mut world);
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("GSSAPI EXTERNAL") && error.to_string().contains("PLAIN"), "{error}");
}

#[test]
fn a_failing_credentials_provider_ends_the_attempt_before_a_byte_is_sent() {
    let mut world = World::new();
    let failing = || async { Err(Error::new(ErrorKind::Authentication, "the vault is sealed")) };
    let error = world.connect_by(&Connection::builder().credentials_from(failing)).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Authentication, "the vault is sealed"));
    assert_eq!(world.server.wire.written_by_client(), 0);
}

#[test]
fn a_credentials_provider_that_never_returns_times_out() {
    let mut world = World::new();
    let error = world
        .connect_by(&Connection::builder().credentials_from(std::future::pending::<Result<Credentials>>))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("credentials"), "{error}");
    assert_eq!(world.time.now().since_epoch(), seconds(10));
}

#[test]
fn a_credentials_provider_and_the_handshake_share_one_timeout() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Tune, Reaction::Stall);
    let time = world.time.clone();
    let slow = move || {
        let time = time.clone();
        async move {
            time.sleep(seconds(6)).await;
            Ok(Credentials::new("a", "b"))
        }
    };
    let error = world.connect_by(&Connection::builder().credentials_from(slow)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(world.time.now().since_epoch(), seconds(10));
}

#[test]
fn a_credentials_provider_is_called_for_each_connection() {
    let mut world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let builder = Connection::builder().credentials_from(move || {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(Credentials::new("user", format!("token {number}"))) }
    });
    for number in 1..=3 {
        let _connection = world.connect_by(&builder).unwrap();
        assert_eq!(world.server.responses, [format!("\0user\0token {number}").into_bytes()]);
        world.renew();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

struct Riddles;

impl Sasl for Riddles {
    fn name(&self) -> &str {
        "RIDDLES"
    }

    fn initial(&self, credentials: &Credentials) -> Result<Vec<u8>> {
        Ok(credentials.username().as_bytes().to_vec())
    }

    fn respond(&self, challenge: &[u8], _: &Credentials) -> Result<Vec<u8>> {
        Ok(challenge.iter().rev().copied().collect())
    }
}

#[test]
fn a_custom_mechanism_answers_several_challenges() {
    let mut world = World::new();
    world.server.configure(|config| config.mechanisms = "PLAIN RIDDLES".to_owned());
    world.server.reactions.insert(Stage::Tune, Reaction::Challenge(vec![b"abc", b"", b"xyz"]));
    let builder = Connection::builder().credentials("me", "secret").mechanism(Riddles);
    let connection = world.connect_by(&builder).unwrap();
    assert!(connection.is_open());
    assert_eq!(world.server.responses, [b"me".to_vec(), b"cba".to_vec(), b"".to_vec(), b"zyx".to_vec()]);
}

#[test]
fn a_challenge_that_the_mechanism_cannot_answer_is_an_authentication_error() {
    let mut world = World::new();
    world.server.reactions.insert(Stage::Tune, Reaction::Challenge(vec![b"why?"]));
    let error = refused(&mut world);
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("PLAIN"), "{error}");
}

#[test]
fn a_frame_max_below_the_minimum_is_refused_with_a_code() {
    let mut world = World::new();
    let tune = method::connection::Tune { channel_max: 0, frame_max: 1, heartbeat: 0 };
    world
        .server
        .reactions
        .insert(Stage::Tune, Reaction::Raw(crate::common::frame(1, 0, &crate::common::payload(&tune))));
    let error = refused(&mut world);
    assert_eq!(fault(&error), (ErrorKind::Protocol, Some(502)));
    assert!(error.to_string().contains("frame-max 1"), "{error}");
}

#[test]
fn a_server_without_limits_gets_the_clients_limits() {
    let mut world = World::new();
    world.server.configure(|config: &mut Config| {
        config.channel_max = 0;
        config.frame_max = 0;
        config.heartbeat = Some(seconds(0));
    });
    let connection = world.connect();
    assert_eq!((connection.channel_max(), connection.frame_max()), (2047, 131_072));
    assert_eq!(connection.heartbeat(), seconds(0));
    // Without heartbeats, nothing ends an idle connection.
    world.advance(seconds(900));
    assert!(connection.is_open());
}

#[test]
fn a_method_too_early_in_the_handshake_is_refused() {
    let mut world = World::new();
    let early = crate::common::frame(1, 0, &crate::common::payload(&method::connection::OpenOk {}));
    world.server.reactions.insert(Stage::Start, Reaction::Raw(early));
    assert_eq!(refused(&mut world).kind(), ErrorKind::Protocol);
}

#[test]
fn a_handshake_dropped_at_any_stage_closes_the_transport() {
    for stage in STAGES {
        let mut world = World::new();
        world.server.reactions.insert(stage, Reaction::Stall);
        let transport = world.transport();
        let timer = world.time.timer();
        let builder = Connection::builder();
        world.start(async move { builder.handshake(transport, timer).await.map(drop) });
        assert!(!world.server.wire.is_closed());
        world.drop_tasks();
        assert!(world.server.wire.is_closed());
    }
}
