//! The end of a process and the start of the next one, with the engine in between: all that was in memory is lost.
//!
//! Connections are not told anything, for a process that dies says nothing. They keep their numbers until they are
//! gone, so that none is mistaken for one that comes later. What the store kept comes back by [`crate::engine::persistence::restore`].

use std::collections::{BTreeSet, HashMap};

use hopmq_proto::Time;
use slotmap::SlotMap;

use crate::engine::access::Access;
use crate::engine::queue::dead_letter::Deads;
use crate::engine::{Engine, GUEST, Password};

impl Engine {
    /// Forgets everything but which connections there are, and ends those. From now on nothing is handled, until
    /// [`Engine::come_up`].
    pub(crate) fn go_down(&mut self, now: Time) {
        self.now = now;
        self.down = true;
        self.journal = None;
        self.access = Access::default();
        self.vhosts = SlotMap::with_key();
        self.exchanges = SlotMap::with_key();
        self.queues = SlotMap::with_key();
        self.consumers = SlotMap::with_key();
        self.topology += 1;
        self.alarms = BTreeSet::new();
        self.timeouts = BTreeSet::new();
        self.deads = Deads::new();
        self.reply_names = HashMap::new();
        self.shortage = 0;
        for (id, session) in self.sessions.iter_mut() {
            session.channels = Vec::new();
            session.exclusive = Vec::new();
            session.confirming = Vec::new();
            session.starved = Vec::new();
            session.held = Some(None);
            session.ended = true;
            Self::wake(&mut self.woken, id, session);
        }
        self.access.set_password(GUEST, Password::WellKnown(GUEST), true);
        self.add_vhost("/");
    }

    /// Whoever has come meanwhile is served.
    pub(crate) fn come_up(&mut self) {
        self.down = false;
        for (id, session) in self.sessions.iter_mut() {
            Self::wake(&mut self.woken, id, session);
        }
    }
}
