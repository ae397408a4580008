//! How an end must react to a peer that breaks the rules.

use std::time::Duration;

use super::{Script, wire};

/// A description of the violation, the bytes that the peer sends, and the code that the peer must receive.
pub type Case = (&'static str, Vec<u8>, u16);

/// Each case closes the connection with its code, whether the bytes arrive at once or in pieces.
pub fn refused(stage: impl Fn() -> Script, cases: &[Case]) {
    for (words, bytes, code) in cases {
        for step in [bytes.len(), 1, 7] {
            let mut script = stage();
            let receives_close = script.peer.connection.handshake_stage() != Some(hopmq_proto::HandshakeStage::Start);
            for part in bytes.chunks(step.max(1)) {
                script.send(part);
            }
            assert_eq!(script.peer.code(), Some(*code), "{words}: {:?} {:?}", script.peer.error, script.peer.events);
            closed(&mut script, words);
            assert_eq!(script.close_code(), receives_close.then_some(*code), "{words}");
        }
    }
}

/// The connection is closed, and neither bytes nor time cause anything more.
pub fn closed(script: &mut Script, words: &str) {
    script.peer.events.clear();
    assert!(script.peer.connection.is_closed(), "{words}");
    assert_eq!(script.peer.connection.poll_timeout(), None, "{words}");
    let written = script.output_bytes();
    let error = script.peer.error.take();
    if let Some(error) = &error {
        assert!((311..=541).contains(&error.code()) && error.message().len() > 5, "{words}");
    }
    script.send(&wire::heartbeat()).advance(Duration::from_secs(1000));
    assert!(script.peer.events.is_empty(), "{words}");
    assert!(script.output_bytes().is_empty(), "{words}");
    assert!(script.peer.connection.open_channel(9, 1).is_err(), "{words}");
    assert!(script.peer.connection.answer(0, &hopmq_proto::method::connection::Unblocked {}).is_err(), "{words}");
    script.peer.error = error;
    script.restore(written);
}
