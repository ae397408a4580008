//! Faults on purpose: the hooks of the test kit in the engine.
//!
//! Without the feature `testing` the hooks hold no state, and their answers are constants.

#[cfg(feature = "testing")]
pub use set::Confirms;

/// The faults that are set.
#[derive(Debug)]
pub(super) struct Faults {
    #[cfg(feature = "testing")]
    set: set::State,
}

#[cfg(not(feature = "testing"))]
#[allow(clippy::unused_self, reason = "with the test kit these ask the state")]
impl Faults {
    pub(super) fn new(_: u64) -> Self {
        Self {}
    }

    pub(super) fn withhold_confirms(&self) -> bool {
        false
    }

    pub(super) fn refuse_confirms(&self) -> bool {
        false
    }

    /// Whether to refuse this login.
    pub(super) fn refuse_login(&mut self) -> bool {
        false
    }
}

#[cfg(not(feature = "testing"))]
#[allow(clippy::unused_self, reason = "with the test kit this asks the state")]
impl super::Engine {
    /// Whether the broker crashed on purpose, and serves no connection.
    pub(super) fn is_down(&self) -> bool {
        false
    }
}

#[cfg(feature = "testing")]
mod set {
    use hopmq_proto::Time;
    use hopmq_proto::method::{MethodId, basic};
    use slotmap::Key;

    use super::Faults;
    use crate::engine::Engine;
    use crate::engine::invariant::Invariant;
    use crate::engine::keys::SessionKey;
    use crate::engine::refusal::Refusal;
    use crate::engine::session::Session;
    use crate::random::Random;

    /// How the broker answers publishes on channels in confirm mode.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Confirms {
        /// With what happened to them.
        #[default]
        True,
        /// Not at all.
        Withheld,
        /// With `basic.nack`. The queues keep the messages, as after an internal error of a broker.
        Refused,
    }

    #[derive(Debug)]
    pub(super) struct State {
        confirms: Confirms,
        refuse_logins: u32,
        random: Random,
    }

    impl Faults {
        pub(in crate::engine) fn new(seed: u64) -> Self {
            // Not the sequence that names are drawn from: a fault must not change a name.
            Self { set: State { confirms: Confirms::True, refuse_logins: 0, random: Random(!seed) } }
        }

        pub(in crate::engine) fn withhold_confirms(&self) -> bool {
            self.set.confirms == Confirms::Withheld
        }

        pub(in crate::engine) fn refuse_confirms(&self) -> bool {
            self.set.confirms == Confirms::Refused
        }

        /// Whether to refuse this login.
        pub(in crate::engine) fn refuse_login(&mut self) -> bool {
            let refuse = self.set.refuse_logins > 0;
            self.set.refuse_logins -= u32::from(refuse);
            refuse
        }
    }

    impl Engine {
        /// Whether the broker crashed on purpose, and serves no connection.
        pub(in crate::engine) fn is_down(&self) -> bool {
            self.down
        }

        /// Returns the next number of the sequence that faults are drawn from.
        pub(crate) fn draw(&mut self) -> u64 {
            self.faults.set.random.next()
        }

        pub(crate) fn set_confirms(&mut self, now: Time, confirms: Confirms) {
            self.now = now;
            self.faults.set.confirms = confirms;
            let channels = |(id, session): (SessionKey, &Session)| {
                let count = session.channels.len() as u16;
                (0..count).map(move |number| (id, number))
            };
            let all: Vec<(SessionKey, u16)> = self.sessions.iter().flat_map(channels).collect();
            for (id, number) in all {
                self.confirm(id, number);
            }
        }

        pub(crate) fn refuse_logins(&mut self, count: u32) {
            self.faults.set.refuse_logins = count;
        }

        /// Cancels all consumers with a tag. Returns how many there were.
        pub(crate) fn cancel_tagged(&mut self, now: Time, tag: &str) -> usize {
            self.now = now;
            let tagged: Vec<_> = self.consumers.iter().filter(|(_, consumer)| *consumer.tag == *tag).collect();
            let tagged: Vec<_> =
                tagged.into_iter().map(|(id, consumer)| (id, consumer.session, consumer.channel)).collect();
            self.begin(SessionKey::null());
            for (id, session_id, number) in &tagged {
                let Some(session) = self.sessions.get_mut(*session_id).invariant("connection") else { continue };
                if let Some(channel) = session.channel_mut(*number) {
                    channel.consumers.remove(tag);
                }
                if session.can("consumer_cancel_notify") {
                    self.send(*session_id, *number, &basic::Cancel { consumer_tag: tag, nowait: true });
                }
                self.remove_consumer(*id);
            }
            self.end();
            tagged.len()
        }

        pub(crate) fn close_by_number(&mut self, now: Time, number: u64, code: u16, text: &str) {
            self.close_session(now, SessionKey::of_number(number), code, text);
        }

        pub(crate) fn close_channel_by_number(&mut self, now: Time, number: u64, channel: u16, code: u16, text: &str) {
            self.now = now;
            let text = format!("{} - {text}", hopmq_proto::code::name(code));
            let refusal = Refusal { code, text, hard: false };
            let id = SessionKey::of_number(number);
            self.begin(id);
            self.refused(id, channel, MethodId::default(), Err(refusal));
            self.end();
        }
    }
}
