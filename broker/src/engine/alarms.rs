//! What holds publishers up: memory or disk that run out (RabbitMQ's page "Blocked Connections").
//!
//! Owns which alarms are raised. A connection is blocked by its first publish under an alarm, and is told so; nothing
//! more is read of it until the alarms are over. Whoever only consumes goes on.

use hopmq_proto::Time;
use hopmq_proto::method::connection;

use super::Engine;
use super::session::Session;
use super::slots::Id;

/// Something that runs out.
pub(crate) type Shortage = u8;

pub(crate) const MEMORY: Shortage = 1;
pub(crate) const DISK: Shortage = 2;

fn reason(raised: Shortage) -> &'static str {
    match raised {
        MEMORY => "low on memory",
        DISK => "low on disk",
        _ => "low on memory & disk",
    }
}

impl Engine {
    /// Raises an alarm, or clears it.
    pub(crate) fn set_alarm_of(&mut self, now: Time, shortage: Shortage, on: bool) {
        self.now = now;
        self.shortage = if on { self.shortage | shortage } else { self.shortage & !shortage };
        if self.shortage != 0 {
            return;
        }
        for (id, session) in self.sessions.iter_mut() {
            if std::mem::take(&mut session.blocked) {
                if session.can("connection.blocked") {
                    let _ = session.proto.answer(0, &connection::Unblocked {});
                }
                Self::wake(&mut self.woken, id, session);
            }
        }
    }

    /// A connection publishes: under an alarm, that was the last for a while.
    pub(super) fn note_publisher(&mut self, id: Id<Session>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if std::mem::replace(&mut session.blocked, true) || !session.can("connection.blocked") {
            return;
        }
        let _ = session.proto.answer(0, &connection::Blocked { reason: reason(self.shortage) });
        Self::wake(&mut self.woken, id, session);
    }

    /// Whether nothing is to be read of a connection.
    pub(crate) fn is_blocked(&self, id: Id<Session>) -> bool {
        self.sessions.get(id).is_some_and(|session| session.blocked)
    }
}
