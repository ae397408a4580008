//! The app as its handlers see it: its time, and its way to publish.
//!
//! Owns the channel that all forwards and handlers of an app publish on, and reopens it when the broker closes it. In
//! come messages; out go confirmed publishes. It must never consume or settle.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hopmq::{Channel, Connection, Properties};

use crate::alarms::{Alarms, Sleep};
use crate::topology::Queue;

/// The app around a handler. Clones are the same app, seen from the same queue.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    queue: Arc<str>,
    body_limit: usize,
    app: Arc<Shared>,
}

/// What all routes of an app share.
pub(crate) struct Shared {
    connection: Connection,
    channel: Mutex<Channel>,
    alarms: Alarms,
}

impl Context {
    pub(crate) async fn open(connection: &Connection, alarms: &Alarms) -> hopmq::Result<Self> {
        let channel = Mutex::new(connection.channel().await?);
        let app = Shared { connection: connection.clone(), channel, alarms: alarms.clone() };
        Ok(Self(Arc::new(Inner { queue: "".into(), body_limit: usize::MAX, app: Arc::new(app) })))
    }

    pub(crate) fn of_queue(&self, queue: &Queue) -> Self {
        let (name, body_limit) = (queue.title().into(), queue.body_limit);
        Self(Arc::new(Inner { queue: name, body_limit, app: Arc::clone(&self.0.app) }))
    }

    /// Returns how long a body of the queue may be, in bytes: see [`Queue::body_limit`].
    pub fn body_limit(&self) -> usize {
        self.0.body_limit
    }

    /// Returns the queue of the handler.
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Returns the connection of the app.
    pub fn connection(&self) -> &Connection {
        &self.0.app.connection
    }

    /// Waits, on the app's timer.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.0.app.alarms.sleep(time)
    }

    /// Returns the app's timer.
    pub fn alarms(&self) -> &Alarms {
        &self.0.app.alarms
    }

    /// Publishes a message as mandatory, and waits until the broker has confirmed it. Opens the channel again if an
    /// earlier publish made the broker close it.
    ///
    /// # Errors
    /// The errors of [`Publish::confirm`](hopmq::Publish::confirm): [`Returned`](hopmq::ErrorKind::Returned) if no
    /// queue took the message, 404 if there is no such exchange, …
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: impl Into<Bytes>,
    ) -> hopmq::Result<()> {
        let (channel, body) = (self.channel().await?, body.into());
        channel.publish(exchange, routing_key, body).properties(properties).mandatory().confirm().await
    }

    /// Returns the channel that the app publishes on.
    ///
    /// # Errors
    /// If the broker closed the channel and opening another one fails.
    pub async fn channel(&self) -> hopmq::Result<Channel> {
        let channel = self.lock().clone();
        if channel.is_open() {
            return Ok(channel);
        }
        let channel = channel.reopen().await?;
        let mut current = self.lock();
        // Another publish may have opened it meanwhile.
        if !current.is_open() {
            *current = channel;
        }
        Ok(current.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.0.app.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("queue", &self.0.queue).finish_non_exhaustive()
    }
}
