//! Messages, and those that the broker returned.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use hopmq_proto::{Arguments, Content, ContentKind, FieldTable, Properties, Value};

#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;

/// A message: its exchange and routing key, its properties and its body.
///
/// Nothing is decoded before it is accessed. The body is a slice of the receive buffer and keeps up to 1 MiB of it
/// alive, so copy bodies that you keep for long.
#[derive(Clone)]
pub struct Message {
    pub(crate) content: Content,
}

impl Message {
    /// Returns a message that never passed through a broker: for tests of code that reads messages.
    ///
    /// ```
    /// use hopmq::{Message, Properties};
    ///
    /// let properties = Properties::new().with_content_type("text/plain").with_header("attempt", 2);
    /// let message = Message::new("shop", "order.new", &properties, "a pizza")?;
    /// assert_eq!((message.routing_key(), &*message.text()), ("order.new", "a pizza"));
    /// assert_eq!(message.header("attempt").and_then(|value| value.as_i64()), Some(2));
    /// # Ok::<_, hopmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a name is longer than 255 bytes, or a property can't be encoded.
    pub fn new<B: AsRef<[u8]>>(
        exchange: &str,
        routing_key: &str,
        properties: &Properties<B>,
        body: impl AsRef<[u8]>,
    ) -> Result<Self> {
        let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
        let arguments = Arguments { exchange, routing_key, ..Arguments::default() };
        Ok(Self { content: Content::build(ContentKind::Deliver, &arguments, properties, body.as_ref())? })
    }

    pub(crate) fn from_content(content: Content) -> Self {
        Self { content }
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        self.content.body()
    }

    /// Returns the body as shared bytes, without a copy.
    pub fn body_bytes(&self) -> Bytes {
        self.content.body_bytes()
    }

    /// Converts the message into its body, without a copy.
    pub fn into_body(self) -> Bytes {
        self.body_bytes()
    }

    /// Returns the body as text. Bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.body())
    }

    /// Returns the exchange that the message was published to; empty for the default exchange, U+FFFD if it is not
    /// UTF-8.
    pub fn exchange(&self) -> &str {
        text(self.exchange_bytes())
    }

    /// Returns the bytes of the exchange that the message was published to.
    pub fn exchange_bytes(&self) -> &[u8] {
        self.content.arguments().exchange
    }

    /// Returns the routing key that the message was published with; U+FFFD if it is not UTF-8.
    pub fn routing_key(&self) -> &str {
        text(self.routing_key_bytes())
    }

    /// Returns the bytes of the routing key that the message was published with. AMQP requires UTF-8, but RabbitMQ
    /// forwards any bytes that a publisher sent.
    pub fn routing_key_bytes(&self) -> &[u8] {
        self.content.arguments().routing_key
    }

    /// Returns the properties: content type, headers, delivery mode, … For each text, [`Properties`] also returns its
    /// bytes, which need not be UTF-8.
    pub fn properties(&self) -> Properties<&[u8]> {
        self.content.properties()
    }

    /// Returns the header with this name, or `None` if the message has no such header.
    ///
    /// ```no_run
    /// # fn example(delivery: hopmq::Delivery) {
    /// let tenant = delivery.header("tenant").and_then(|value| value.as_str()).unwrap_or("unknown");
    /// let attempt = delivery.header("attempt").and_then(|value| value.as_i64()).unwrap_or(0);
    /// println!("attempt {attempt} for tenant {tenant}");
    /// # }
    /// ```
    ///
    /// A header whose name is not UTF-8 hides no other: [`FieldTable::get_bytes`] finds it. Headers that are no field
    /// table count as missing; [`headers`](Self::headers) reports that error.
    pub fn header(&self, name: &str) -> Option<Value<'_>> {
        self.properties().headers().ok()?.get(name)
    }

    /// Returns all headers; empty if the message has none. [`header`](Self::header) returns a single one.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the headers are not a valid field table.
    pub fn headers(&self) -> Result<FieldTable<&[u8]>> {
        Ok(self.properties().headers()?)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &String::from_utf8_lossy(self.exchange_bytes()))
            .field("routing_key", &String::from_utf8_lossy(self.routing_key_bytes()))
            .field("properties", &self.properties())
            .field("body_size", &self.body().len())
            .finish()
    }
}

/// AMQP requires UTF-8 names, but a broker forwards any bytes that a publisher sent.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

/// A mandatory message that the broker returned because no queue took it.
#[derive(Clone, Debug)]
pub struct Returned {
    message: Message,
}

impl Returned {
    pub(crate) fn new(content: Content) -> Self {
        Self { message: Message::from_content(content) }
    }

    /// Returns the reply code, mostly 312 (`NO_ROUTE`).
    pub fn code(&self) -> u16 {
        self.message.content.arguments().reply_code
    }

    /// Returns the broker's reason as text.
    pub fn reason(&self) -> &str {
        text(self.message.content.arguments().reply_text)
    }

    /// Converts this into the message.
    pub fn into_message(self) -> Message {
        self.message
    }
}

impl Deref for Returned {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}
