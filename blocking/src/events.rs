//! Iterators over the events of a connection and over returned messages.

use std::time::Duration;

use hopmq::{Event, Returned};

use crate::next::{Next, next, next_within};

macro_rules! iterator {
    ($(#[$meta:meta])* $name:ident of $item:ident) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name {
            core: hopmq::$name,
        }

        impl $name {
            pub(crate) fn new(core: hopmq::$name) -> Self {
                Self { core }
            }

            /// Waits for the next item for up to `limit`: see [`Next`].
            pub fn next_within(&mut self, limit: Duration) -> Next<$item> {
                next_within(&mut self.core, limit)
            }

            /// Returns the next item if it has arrived, without waiting.
            pub fn next_now(&mut self) -> Next<$item> {
                self.next_within(Duration::ZERO)
            }

            /// Returns an iterator that ends when this one does, or when no item has come for `limit`.
            pub fn iter_within(&mut self, limit: Duration) -> impl Iterator<Item = $item> + use<'_> {
                std::iter::from_fn(move || self.next_within(limit).item())
            }
        }

        impl Iterator for $name {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                next(&mut self.core)
            }
        }
    };
}

iterator! {
    /// The events of a connection, made by [`Connection::events`](crate::Connection::events): an iterator that waits
    /// for the next event and ends after [`Event::Closed`].
    ///
    /// The iterator buffers 256 events; beyond these, the oldest are dropped. It does not keep the connection open.
    ///
    /// ```no_run
    /// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
    /// use hopmq_blocking::Event;
    ///
    /// let events = connection.events();
    /// std::thread::spawn(move || {
    ///     for event in events {
    ///         if let Event::Blocked { reason } = event {
    ///             eprintln!("the broker blocks publishing: {reason}");
    ///         }
    ///     }
    /// });
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    Events of Event
}

iterator! {
    /// The returned messages of a channel, made by [`Channel::returns`](crate::Channel::returns): an iterator that
    /// waits for the next message and ends with the channel.
    ///
    /// The iterator buffers 1,024 messages; beyond these, the oldest are dropped.
    ///
    /// ```no_run
    /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
    /// use std::time::Duration;
    ///
    /// let mut returns = channel.returns();
    /// channel.publish("", "no such queue", "hello").mandatory().send()?;
    /// for returned in returns.iter_within(Duration::from_secs(1)) {
    ///     println!("{} was returned: {}", returned.routing_key(), returned.reason());
    /// }
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    Returns of Returned
}
