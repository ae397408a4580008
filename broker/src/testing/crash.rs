//! Crashes of a broker, with a restart.

use hopmq_proto::Time;

use super::faults::Faults;
use crate::server::{Broker, State, StoreDriver};
use crate::store::{self, Storage};

impl Faults {
    /// Crashes the broker, as by `kill -9` or a power cut, and starts it again on the storage that `found` returns: the
    /// same [`Broker`], with the same listeners. All connections end without a close. What was only in memory is lost:
    /// transient messages, queues that are not durable, unsettled deliveries. Durable data is what `found` returns; all
    /// messages in it count as redelivered, because which ones were delivered is unknown.
    ///
    /// `found` is called once the broker is down, so that nothing is confirmed after it. It returns a clone of a
    /// [`MemoryStorage`](store::MemoryStorage) if only the process crashed, and
    /// [`CrashStorage::power_cut`](crate::CrashStorage::power_cut) if unsynced data is lost as well. A broker without a
    /// storage is empty after the restart, and stores durable data from now on.
    ///
    /// Blocks until the old broker has stopped. Do not call it from a task that the broker waits for.
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
    /// orders.publish("after it").persistent().confirm()?; // The client has reconnected.
    /// # connection.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Builder::open`](crate::Builder::open). The broker then stays down, and serves no client until another
    /// `crash` finds a usable storage.
    pub fn crash<S: Storage>(&self, found: impl FnOnce() -> S) -> Result<(), store::Error> {
        let broker = self.broker();
        broker.die();
        let (writer, checkpointer) = broker.recover(found())?;
        broker.drive_store(writer, checkpointer)?;
        broker.0.shared.change(|state, _| state.engine.come_up());
        Ok(())
    }
}

impl Broker {
    /// Drops everything in memory, and stops writing.
    fn die(&self) {
        self.0.shared.change(State::die);
        // Its threads end after the current write.
        drop(self.take_store_driver());
    }

    fn take_store_driver(&self) -> StoreDriver {
        std::mem::replace(&mut *self.store_driver(), StoreDriver::None)
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
