//! A message as a test reads it from a queue.

use std::fmt;
use std::ops::Deref;

use hopmq::Message;
use serde::de::DeserializeOwned;

use crate::flow::headers;

/// A message that a test read from a queue: it derefs to [`Message`], and knows the headers that the app sets.
#[derive(Clone)]
pub struct TestMessage(pub(super) Message);

impl TestMessage {
    /// Returns the attempt that was the last, or will be the next for a message that waits: 1 if the app never moved
    /// the message.
    pub fn attempt(&self) -> u32 {
        self.0.header(headers::ATTEMPT).and_then(|value| value.as_i64()).and_then(|n| n.try_into().ok()).unwrap_or(1)
    }

    /// Returns why the app moved the message, for people.
    pub fn error(&self) -> Option<&str> {
        self.text_of(headers::ERROR)
    }

    /// Returns the class of the error for which the app moved the message, such as `decode` or `panic`.
    pub fn error_class(&self) -> Option<&str> {
        self.text_of(headers::ERROR_CLASS)
    }

    /// Returns the queue whose handler moved the message.
    pub fn came_from(&self) -> Option<&str> {
        self.text_of(headers::QUEUE)
    }

    /// Returns the exchange and the routing key that the message was first published with.
    pub fn origin(&self) -> (&str, &str) {
        match (self.text_of(headers::EXCHANGE), self.text_of(headers::ROUTING_KEY)) {
            (Some(exchange), Some(key)) => (exchange, key),
            _ => (self.0.exchange(), self.0.routing_key()),
        }
    }

    /// Reads the body as JSON.
    ///
    /// # Panics
    /// If it is not the JSON of `T`.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(self.0.body()).unwrap_or_else(|error| {
            panic!("the body is not the JSON of {}: {error}\n  {self:?}", std::any::type_name::<T>())
        })
    }

    fn text_of(&self, header: &str) -> Option<&str> {
        self.0.header(header).and_then(|value| value.as_str())
    }
}

impl Deref for TestMessage {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.0
    }
}

/// The bytes of a body that are shown.
const SHOWN: usize = 200;

/// One line: where it was published, what the app noted, and the beginning of the body.
impl fmt::Debug for TestMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exchange, key) = self.origin();
        write!(f, "{exchange}/{key}")?;
        if self.came_from().is_some() {
            write!(f, ", attempt {}", self.attempt())?;
        }
        if let (Some(class), Some(error)) = (self.error_class(), self.error()) {
            write!(f, ", {class}: {error}")?;
        }
        let body = self.0.body();
        write!(f, ", body {:?}", String::from_utf8_lossy(&body[..body.len().min(SHOWN)]))?;
        if body.len() > SHOWN {
            write!(f, "… of {} bytes", body.len())?;
        }
        Ok(())
    }
}
