//! A broker that dies and starts again, as a fault.

use hopmq_proto::Time;

use super::faults::Faults;
use crate::server::{Broker, Keeping, State};
use crate::store::{self, Storage};

impl Faults {
    /// The broker dies, as by `kill -9` or a power cut, and starts again on the storage that `found` gives: the same
    /// [`Broker`], with the same doors. All connections end without a word. What was only in memory is lost: transient
    /// messages, queues that are not durable, who held what. What is durable is what `found` has; since nobody knows
    /// what had been delivered, all messages in it come as redelivered.
    ///
    /// `found` is called once the broker is dead, so that nothing is confirmed behind its back: it is the clone of a
    /// [`MemoryStorage`](store::MemoryStorage) if only the process died, and
    /// [`CrashStorage::power_cut`](crate::CrashStorage::power_cut) if what was not synced is lost as well. A broker
    /// that had no storage has none of its past, and keeps what is durable from now on.
    ///
    /// Call it from where nothing else waits for the broker: it blocks until the old one has stopped.
    ///
    /// ```
    /// use hopmq_broker::{Broker, CrashStorage};
    /// use hopmq_broker::store::Settings;
    ///
    /// let disk = CrashStorage::new();
    /// let broker = Broker::builder().store(Settings::small()).open(disk.clone())?;
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let channel = connection.channel()?;
    /// let orders = channel.queue("orders").durable().declare()?;
    /// orders.publish("kept").persistent().confirm()?;
    /// orders.publish("lost").confirm()?; // It is not persistent.
    ///
    /// broker.faults().crash(|| disk.power_cut(7))?;
    /// assert_eq!(broker.inspect().ready("orders").iter().map(|m| m.text()).collect::<Vec<_>>(), ["kept"]);
    /// orders.publish("after it").persistent().confirm()?; // The client has come back by itself.
    /// # connection.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Builder::open`](crate::Builder::open). The broker stays down then: it serves nobody until another
    /// `crash` finds a storage that can be used.
    pub fn crash<S: Storage>(&self, found: impl FnOnce() -> S) -> Result<(), store::Error> {
        let broker = self.broker();
        broker.die();
        let (writer, checkpointer) = broker.recover(found())?;
        broker.keep_store(writer, checkpointer)?;
        broker.0.shared.change(|state, _| state.engine.come_up());
        Ok(())
    }
}

impl Broker {
    /// All that was in memory is gone, and nothing is written any more.
    fn die(&self) {
        self.0.shared.change(State::die);
        // Its threads end after the write that is under way.
        drop(self.take_keeping());
    }

    fn take_keeping(&self) -> Keeping {
        std::mem::replace(&mut *self.keeping(), Keeping::Nobody)
    }
}

impl State {
    fn die(&mut self, now: Time) {
        self.engine.go_down(now);
        if let Some(store) = self.store.take() {
            store.abandon();
        }
    }
}
