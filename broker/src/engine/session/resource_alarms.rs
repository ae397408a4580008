//! Resource alarms: low memory and low disk space block publishers (RabbitMQ's page "Blocked Connections").
//!
//! Owns which alarms are raised, and when memory is low. The first publish under an alarm blocks its connection, and
//! the client gets `connection.blocked`; nothing more is read from that connection until the alarms are cleared.
//! Connections that only consume are not affected.

use hopmq_proto::Time;
use hopmq_proto::method::connection;

use crate::engine::Engine;
use crate::engine::invariant::Invariant;
use crate::engine::keys::SessionKey;
use crate::engine::session::Session;

/// A set of alarms.
pub(crate) type Shortage = u8;

pub(crate) const MEMORY: Shortage = 1;
pub(crate) const DISK: Shortage = 2;
/// Flow control: publishers are faster than the disk. They are blocked without `connection.blocked`, as in RabbitMQ,
/// because an operator has nothing to fix.
pub(crate) const PACE: Shortage = 4;

/// Low memory by the broker's own count ([`Engine::check_memory`]). [`MEMORY`] is raised by an operator or the test
/// kit. Clients see no difference.
pub(crate) const WATERMARK: Shortage = 8;

/// Flow control: messages fill the memory faster than they may ([`Engine::check_growth`]). Those that publish more than
/// a little are blocked for a short time, without `connection.blocked`.
pub(crate) const GROWTH: Shortage = 16;

/// The alarm ends once less than this many tenths of the limit are used, so that it does not come and go with each
/// message.
const LOW_WATER_TENTHS: u64 = 9;

/// Returns the name of an alarm for the logs.
pub(crate) fn name_of(shortage: Shortage) -> &'static str {
    match shortage {
        MEMORY | WATERMARK => "low on memory",
        DISK => "low on disk",
        _ => "flow control",
    }
}

/// Returns the reason in `connection.blocked`, or `None` if no resource is low.
fn reason(raised: Shortage) -> Option<&'static str> {
    match (raised & (MEMORY | WATERMARK) != 0, raised & DISK != 0) {
        (false, false) => None,
        (true, false) => Some("low on memory"),
        (false, true) => Some("low on disk"),
        (true, true) => Some("low on memory & disk"),
    }
}

impl Engine {
    /// Raises or clears an alarm. Returns whether that is a change.
    pub(crate) fn set_alarm_of(&mut self, now: Time, shortage: Shortage, on: bool) -> bool {
        self.now = now;
        let before = self.shortage;
        self.shortage = if on { self.shortage | shortage } else { self.shortage & !shortage };
        let reason = reason(self.shortage);
        let goes_on = self.shortage == 0;
        for (id, session) in self.sessions.iter_mut().filter(|(_, session)| session.blocked) {
            session.blocked = !goes_on;
            notify(session, reason);
            Self::wake(&mut self.woken, id, session);
        }
        self.shortage != before
    }

    /// Compares the memory that is used with the limit. Returns whether [`WATERMARK`] must be raised or cleared, if
    /// that is a change.
    #[inline]
    pub(crate) fn check_memory(&self) -> Option<bool> {
        let limit = self.config.memory_limit;
        let used = self.meter.total();
        match self.shortage & WATERMARK != 0 {
            true => (used < limit / 10 * LOW_WATER_TENTHS).then_some(false),
            false => (used >= limit).then_some(true),
        }
    }

    /// Compares the growth of the memory that is used with its limit. Returns whether [`GROWTH`] must be raised or
    /// cleared, if that is a change. What clients declare has limits of its own, and publishing does not cause it.
    #[inline]
    pub(crate) fn check_growth(&mut self) -> Option<bool> {
        self.growth.check(self.now, self.meter.total().saturating_sub(self.meter.declared()))
    }

    /// Returns the memory that is used, and its limit, in bytes.
    pub(crate) fn memory(&self) -> (u64, u64) {
        (self.meter.total(), self.config.memory_limit)
    }

    /// Notes what the store has yet to write, in bytes.
    pub(crate) fn note_unwritten(&mut self, bytes: usize) {
        self.unwritten.set(bytes);
    }

    /// Returns how many connections are blocked.
    pub(crate) fn blocked_count(&self) -> usize {
        self.sessions.values().filter(|session| session.blocked).count()
    }

    /// Blocks publishers until the alarm [`PACE`] is cleared.
    pub(crate) fn pause_publishers(&mut self) {
        self.shortage |= PACE;
    }

    /// Blocks a connection that publishes so many bytes under an alarm.
    pub(in crate::engine) fn note_publisher(&mut self, id: SessionKey, bytes: usize) {
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        if self.shortage == GROWTH && !self.growth.must_wait(&mut session.published, bytes) {
            return;
        }
        if std::mem::replace(&mut session.blocked, true) {
            return;
        }
        notify(session, reason(self.shortage));
        Self::wake(&mut self.woken, id, session);
    }

    /// Whether nothing may be read from a connection.
    pub(crate) fn is_blocked(&self, id: SessionKey) -> bool {
        self.sessions.get(id).is_some_and(|session| session.blocked)
    }
}

/// Sends `connection.blocked` or `connection.unblocked`, unless the client already got it.
fn notify(session: &mut Session, reason: Option<&str>) {
    if !session.can("connection.blocked") || session.notified_blocked == reason.is_some() {
        return;
    }
    session.notified_blocked = reason.is_some();
    let _ = match reason {
        Some(reason) => session.proto.answer(0, &connection::Blocked { reason }),
        None => session.proto.answer(0, &connection::Unblocked {}),
    };
}
