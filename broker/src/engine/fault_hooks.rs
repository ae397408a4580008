//! Faults on purpose: what an operator's hand, or a test's, does to connections, channels, consumers and confirms.

use hopmq_proto::Time;
use hopmq_proto::method::{MethodId, basic};

use super::Engine;
use crate::engine::refusal::Refusal;
use crate::engine::session::Session;
use crate::engine::slots::Id;
use crate::random::Random;

/// What publishers in confirm mode hear of their publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirms {
    /// What is true.
    #[default]
    True,
    /// Nothing.
    Withheld,
    /// That each is refused: `basic.nack`. The queues have them all the same, as after an error inside of a broker.
    Refused,
}

/// The faults that are set.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) confirms: Confirms,
    refuse_logins: u32,
    random: Random,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        // Not the sequence that names are drawn from: a fault changes no name.
        Self { confirms: Confirms::True, refuse_logins: 0, random: Random(!seed) }
    }
}

impl Engine {
    /// The next number of the sequence that faults are drawn from.
    pub(crate) fn draw(&mut self) -> u64 {
        self.faults.random.next()
    }

    pub(crate) fn set_confirms(&mut self, now: Time, confirms: Confirms) {
        self.now = now;
        self.faults.confirms = confirms;
        let channels = |(id, session): (Id<Session>, &Session)| {
            let count = session.channels.len() as u16;
            (0..count).map(move |number| (id, number))
        };
        let all: Vec<(Id<Session>, u16)> = self.sessions.iter().flat_map(channels).collect();
        for (id, number) in all {
            self.confirm(id, number);
        }
    }

    pub(crate) fn refuse_logins(&mut self, count: u32) {
        self.faults.refuse_logins = count;
    }

    /// Whether this login is to be refused.
    pub(super) fn refuses_login(&mut self) -> bool {
        let refuse = self.faults.refuse_logins > 0;
        self.faults.refuse_logins -= u32::from(refuse);
        refuse
    }

    /// Cancels all consumers with a tag. Returns how many there were.
    pub(crate) fn cancel_tagged(&mut self, now: Time, tag: &str) -> usize {
        self.now = now;
        let tagged: Vec<_> = self.consumers.iter().filter(|(_, consumer)| *consumer.tag == *tag).collect();
        let tagged: Vec<_> =
            tagged.into_iter().map(|(id, consumer)| (id, consumer.session, consumer.channel)).collect();
        for (id, session_id, number) in &tagged {
            let Some(session) = self.sessions.get_mut(*session_id) else { continue };
            if let Some(channel) = session.channel_mut(*number) {
                channel.consumers.retain(|other| other != id);
            }
            if session.can("consumer_cancel_notify") {
                self.send(*session_id, *number, &basic::Cancel { consumer_tag: tag, nowait: true });
            }
            self.remove_consumer(*id);
        }
        tagged.len()
    }

    pub(crate) fn close_by_number(&mut self, now: Time, number: u64, code: u16, text: &str) {
        self.close_session(now, Id::of_number(number), code, text);
    }

    pub(crate) fn close_channel_by_number(&mut self, now: Time, number: u64, channel: u16, code: u16, text: &str) {
        self.now = now;
        let text = format!("{} - {text}", hopmq_proto::code::name(code));
        let refusal = Refusal { code, text, hard: false };
        self.refused(Id::of_number(number), channel, MethodId::default(), Err(refusal));
    }
}
