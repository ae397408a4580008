//! A simulated crash and restart: everything in memory is lost.
//!
//! Connections get no message, as when a process dies. A connection keeps its key until it is removed, so that it is
//! never mistaken for a later one. [`restore`](super::restore) brings back what the store has.

use std::collections::{BTreeSet, HashMap};

use hopmq_proto::Time;
use slotmap::SlotMap;

use crate::engine::access::Access;
use crate::engine::persistence::paging::Paging;
use crate::engine::routing::route::Routing;
use crate::engine::topology::delete::Deleted;
use crate::engine::{Engine, GUEST, Password, SessionEnd};

impl Engine {
    /// Drops everything but the list of connections, and ends the connections. Nothing is handled until
    /// [`Engine::resume_after_crash`].
    pub(crate) fn crash(&mut self, now: Time) {
        self.now = now;
        self.down = true;
        self.journal = None;
        self.access = Access::new(self.config.profile);
        self.exchanges = SlotMap::with_key();
        self.routing = Routing::default();
        self.queues = SlotMap::with_key();
        self.consumers = SlotMap::with_key();
        self.topology += 1;
        self.queue_timers = BTreeSet::new();
        self.timeouts = BTreeSet::new();
        self.forget_work();
        self.deleted = Deleted::default();
        self.undelivered = BTreeSet::new();
        self.paging = Paging::default();
        self.reply_names = HashMap::new();
        self.failing = Vec::new();
        self.shortage = 0;
        // The work that would have removed them is gone.
        self.sessions.retain(|_, session| !session.has_left);
        for (id, session) in self.sessions.iter_mut() {
            session.channels = Vec::new();
            session.exclusive = BTreeSet::new();
            session.confirming = Vec::new();
            session.starved = Vec::new();
            session.forget_blocks();
            session.held = Some(None);
            session.is_working = false;
            session.end = Some(SessionEnd::Cut);
            Self::wake(&mut self.woken, id, session);
        }
        self.vhosts = SlotMap::with_key();
        self.access.set_password(GUEST, Password::WellKnown(GUEST), true);
        self.add_vhost("/");
    }

    /// Serves the connections that were accepted in the meantime.
    pub(crate) fn resume_after_crash(&mut self) {
        self.down = false;
        for (id, session) in self.sessions.iter_mut() {
            Self::wake(&mut self.woken, id, session);
        }
    }
}
