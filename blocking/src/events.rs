//! What comes without being asked for: events of the connection, and messages that come back.

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

            /// Waits for the next one for up to `limit`: see [`Next`].
            pub fn next_within(&mut self, limit: Duration) -> Next<$item> {
                next_within(&mut self.core, limit)
            }

            /// The next one if it is there already.
            pub fn next_now(&mut self) -> Next<$item> {
                self.next_within(Duration::ZERO)
            }

            /// An iterator that ends when this one does, or when nothing has come for `limit`.
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
    /// The events of a connection, as an iterator that waits for the next one and ends with [`Event::Closed`]: see
    /// [`Connection::events`](crate::Connection::events).
    ///
    /// It keeps the last 256 events that were not taken. It does not keep the connection open.
    ///
    /// ```no_run
    /// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
    /// use hopmq_blocking::Event;
    ///
    /// let events = connection.events();
    /// std::thread::spawn(move || {
    ///     for event in events {
    ///         if let Event::Blocked { reason } = event {
    ///             eprintln!("the broker takes no messages: {reason}");
    ///         }
    ///     }
    /// });
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    Events of Event
}

iterator! {
    /// Returned messages of a channel, as an iterator that waits for the next one and ends with the channel: see
    /// [`Channel::returns`](crate::Channel::returns).
    ///
    /// It keeps the last 1,024 that were not taken.
    ///
    /// ```no_run
    /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
    /// use std::time::Duration;
    ///
    /// let mut returns = channel.returns();
    /// channel.publish("", "no such queue", "hello").mandatory().send()?;
    /// for returned in returns.iter_within(Duration::from_secs(1)) {
    ///     println!("{} came back: {}", returned.routing_key(), returned.reason());
    /// }
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    Returns of Returned
}
