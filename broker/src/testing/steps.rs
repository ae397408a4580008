//! How long others had to wait, counted in steps.

use crate::server::Broker;

impl Broker {
    /// Returns the most steps of a turn since the last call.
    ///
    /// A turn is the time between taking and releasing the broker's lock, for which all other connections wait. A step
    /// is a unit of bounded work in it: a message moved, a binding removed, a destination found. So this is how long a
    /// client had to wait for another one at most, whatever the speed of the machine.
    ///
    /// ```
    /// let broker = hopmq_broker::Broker::builder().start();
    /// let connection = hopmq_blocking::Connection::open(&broker.uri())?;
    /// let queue = connection.channel()?.queue("orders").declare()?;
    /// for _ in 0..10_000 {
    ///     queue.publish("a pizza").mandatory().send()?;
    /// }
    /// queue.publish("the last one").confirm()?;
    /// broker.most_steps();
    /// queue.purge()?;
    /// assert!(broker.most_steps() < 3_000);
    /// # connection.close()?;
    /// # Ok::<_, hopmq_blocking::Error>(())
    /// ```
    pub fn most_steps(&self) -> u32 {
        self.change(|engine, _| engine.take_most_steps())
    }
}
