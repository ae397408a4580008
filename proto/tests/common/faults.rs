//! How an end that got something wrong must behave.

use std::time::Duration;

use super::{Script, wire};

/// What a peer says, in words and in bytes, and the code that it is told.
pub type Case = (&'static str, Vec<u8>, u16);

/// Each case ends the connection with its code, in one piece or byte by byte, and nothing comes of it afterwards.
pub fn refused(stage: impl Fn() -> Script, cases: &[Case]) {
    for (words, bytes, code) in cases {
        for step in [bytes.len(), 1, 7] {
            let mut script = stage();
            let told = script.peer.connection.handshake_stage() != Some(hopmq_proto::HandshakeStage::Start);
            for part in bytes.chunks(step.max(1)) {
                script.say(part);
            }
            assert_eq!(script.peer.code(), Some(*code), "{words}: {:?} {:?}", script.peer.error, script.peer.events);
            over(&mut script, words);
            assert_eq!(script.told_code(), told.then_some(*code), "{words}");
        }
    }
}

/// The connection has ended, and neither bytes nor time bring it back.
pub fn over(script: &mut Script, words: &str) {
    script.peer.events.clear();
    assert!(script.peer.connection.is_closed(), "{words}");
    assert_eq!(script.peer.connection.poll_timeout(), None, "{words}");
    let written = script.heard_bytes();
    let error = script.peer.error.take();
    if let Some(error) = &error {
        assert!((311..=541).contains(&error.code()) && error.message().len() > 5, "{words}");
    }
    script.say(&wire::heartbeat()).advance(Duration::from_secs(1000));
    assert!(script.peer.events.is_empty(), "{words}");
    assert!(script.heard_bytes().is_empty(), "{words}");
    assert!(script.peer.connection.open_channel(9, 1).is_err(), "{words}");
    assert!(script.peer.connection.answer(0, &hopmq_proto::method::connection::Unblocked {}).is_err(), "{words}");
    script.peer.error = error;
    script.written_again(written);
}
