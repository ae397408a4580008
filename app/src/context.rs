//! The app as its handlers see it: its time, and its way to publish.
//!
//! Owns the channel that all forwards and handlers of an app publish on, and reopens it when the broker closes it. In
//! come messages; out go confirmed publishes. It must never consume or settle.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hopmq::{Channel, Connection, Properties};
use tracing::{Instrument, Span};

use crate::alarms::{Alarms, Sleep};
use crate::observe::{Observer, Sent};
#[cfg(feature = "json")]
use crate::rpc::Client;
use crate::telemetry::{self, Propagation};
use crate::topology::Queue;

/// The app around a handler. Clones are the same app, seen from the same queue.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    queue: Arc<str>,
    body_limit: usize,
    by_broker: bool,
    app: Arc<Shared>,
}

/// What all routes of an app share.
pub(crate) struct Shared {
    connection: Connection,
    channel: Mutex<Channel>,
    /// The channel for answers, which need no confirms.
    answers: Mutex<Option<Channel>>,
    alarms: Alarms,
    observers: Arc<[Arc<dyn Observer>]>,
    propagation: Option<Arc<dyn Propagation>>,
    #[cfg(feature = "json")]
    rpc: std::sync::OnceLock<Client>,
}

impl Context {
    pub(crate) async fn open(
        connection: &Connection,
        alarms: &Alarms,
        observers: Arc<[Arc<dyn Observer>]>,
        propagation: Option<Arc<dyn Propagation>>,
    ) -> hopmq::Result<Self> {
        let channel = Mutex::new(connection.channel().await?);
        let app = Shared {
            connection: connection.clone(),
            channel,
            answers: Mutex::default(),
            alarms: alarms.clone(),
            observers,
            propagation,
            #[cfg(feature = "json")]
            rpc: std::sync::OnceLock::new(),
        };
        Ok(Self(Arc::new(Inner { queue: "".into(), body_limit: usize::MAX, by_broker: false, app: Arc::new(app) })))
    }

    pub(crate) fn of_queue(&self, queue: &Queue) -> Self {
        let (name, by_broker) = (queue.title().into(), queue.broker_retry.is_some());
        let (body_limit, app) = (queue.body_limit, Arc::clone(&self.0.app));
        Self(Arc::new(Inner { queue: name, body_limit, by_broker, app }))
    }

    /// Whether the broker delays and counts the attempts.
    pub(crate) fn is_retried_by_broker(&self) -> bool {
        self.0.by_broker
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

    pub(crate) fn shared_queue(&self) -> Arc<str> {
        Arc::clone(&self.0.queue)
    }

    pub(crate) fn propagation(&self) -> Option<&dyn Propagation> {
        self.0.app.propagation.as_deref()
    }

    /// Adds the headers that carry the trace of the current span, for what is published in another way than with
    /// [`publish`](Self::publish). Does nothing if the app has no [`Propagation`].
    #[must_use]
    pub fn trace(&self, properties: Properties) -> Properties {
        match self.propagation() {
            Some(propagation) => injected(propagation, &Span::current(), properties),
            None => properties,
        }
    }

    /// Returns the client that the calls and streams of this app share.
    #[cfg(feature = "json")]
    pub(crate) fn rpc(&self) -> &Client {
        self.0.app.rpc.get_or_init(|| Client::of_app(&self.0.app.connection, &self.0.app.alarms))
    }

    /// Publishes a message as mandatory, and waits until the broker has confirmed it. Opens the channel again if an
    /// earlier publish made the broker close it. The message carries the trace of the current span if the app has a
    /// [`Propagation`].
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
        let observers = &self.0.app.observers;
        if observers.is_empty() {
            return self.publish_traced(exchange, routing_key, properties, body).await;
        }
        let began = self.alarms().now();
        let result = self.publish_traced(exchange, routing_key, properties, body).await;
        let sent = Sent { exchange, routing_key, result: &result, elapsed: self.alarms().now() - began };
        observers.iter().for_each(|observer| observer.sent(&sent));
        result
    }

    async fn publish_traced(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: impl Into<Bytes>,
    ) -> hopmq::Result<()> {
        let Some(propagation) = self.propagation() else {
            return self.forward(exchange, routing_key, properties, body).await;
        };
        let span = telemetry::publishing(exchange, routing_key);
        // A subscriber may leave the span out: the trace is that of the handler then.
        let carried = if span.is_disabled() { Span::current() } else { span.clone() };
        let properties = injected(propagation, &carried, properties.clone());
        let publish = self.forward(exchange, routing_key, &properties, body);
        let result = publish.instrument(span.clone()).await;
        telemetry::ended(&span, &result);
        result
    }

    /// Publishes a message with the headers that it has, unobserved.
    pub(crate) async fn forward(
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

    /// Returns the channel that answers are sent on, if it is open.
    pub(crate) fn open_answers(&self) -> Option<Channel> {
        let answers = self.0.app.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.as_ref().filter(|channel| channel.is_open()).cloned()
    }

    /// Returns the channel that answers are sent on, and opens it first if it is not open.
    pub(crate) async fn answers(&self) -> hopmq::Result<Channel> {
        if let Some(channel) = self.open_answers() {
            return Ok(channel);
        }
        let channel = self.connection().channel().await?;
        let mut answers = self.0.app.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Another answer may have opened one meanwhile.
        let current = answers.take().filter(Channel::is_open).unwrap_or(channel);
        *answers = Some(current.clone());
        Ok(current)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.0.app.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn injected(propagation: &dyn Propagation, span: &Span, properties: Properties) -> Properties {
    let mut traced = properties;
    propagation.inject(span, &mut |name, value| {
        traced = std::mem::take(&mut traced).with_header(name, value);
    });
    traced
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("queue", &self.0.queue).finish_non_exhaustive()
    }
}
