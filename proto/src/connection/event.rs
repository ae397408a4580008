//! The events of a connection.

use std::fmt;

use bytes::Bytes;

use crate::content::Content;
use crate::method_id::MethodId;
use crate::table::FieldTable;

/// Something that happened on the connection. Each item from the receiver causes at most one event.
#[non_exhaustive]
pub enum Event {
    /// Client: the server started the handshake. Answer with [`start_ok`](crate::Connection::start_ok).
    Start {
        /// The properties and capabilities of the server.
        server_properties: FieldTable,
        /// The SASL mechanisms that the server offers, separated by spaces.
        mechanisms: String,
    },
    /// Client: the server sent a SASL challenge. Answer with [`secure_ok`](crate::Connection::secure_ok).
    Secure {
        /// The challenge.
        challenge: Bytes,
    },
    /// Server: a client wants to log in. Answer with [`secure`](crate::Connection::secure),
    /// [`tune`](crate::Connection::tune) or [`refuse`](crate::Connection::refuse).
    StartOk {
        /// The properties and capabilities of the client.
        client_properties: FieldTable,
        /// The SASL mechanism that the client chose.
        mechanism: String,
        /// The initial response of the mechanism.
        response: Bytes,
    },
    /// Server: the client answered a SASL challenge.
    SecureOk {
        /// The response.
        response: Bytes,
    },
    /// Server: the client wants to open a virtual host. Answer with [`open_ok`](crate::Connection::open_ok) or
    /// [`refuse`](crate::Connection::refuse).
    Open {
        /// The virtual host.
        vhost: String,
    },
    /// Client: the connection is open, with the limits of [`tuning`](crate::Connection::tuning).
    Opened,
    /// Client: the reply to a request, undecoded.
    Reply {
        /// The channel number; 0 is the connection itself.
        channel: u16,
        /// The caller's key of the request.
        request: u64,
        /// The method; decode it with [`Method::decode`](crate::method::Method::decode).
        payload: Bytes,
    },
    /// Client: `basic.get` returned a message.
    Got {
        /// The channel number.
        channel: u16,
        /// The caller's key of the request.
        request: u64,
        /// The message.
        content: Content,
    },
    /// Client: a consumer received a message.
    Delivery {
        /// The channel number.
        channel: u16,
        /// The caller's key of the consumer.
        consumer: u64,
        /// The number of the delivery on its channel.
        delivery_tag: u64,
        /// The message.
        content: Content,
    },
    /// Client: the broker returned a mandatory message.
    Returned {
        /// The channel number.
        channel: u16,
        /// The tag of the publish; `None` without confirm mode, or if no publish matches the message.
        tag: Option<u64>,
        /// The message.
        content: Content,
    },
    /// Client: the broker confirmed or refused publishes. Tags of the range that were settled earlier keep their
    /// result.
    Confirmed {
        /// The channel number.
        channel: u16,
        /// The lowest tag.
        first: u64,
        /// The highest tag.
        last: u64,
        /// `true` for `basic.ack`, `false` for `basic.nack`.
        ack: bool,
    },
    /// Client: the broker cancelled a consumer, because its queue no longer exists.
    ConsumerCancelled {
        /// The channel number.
        channel: u16,
        /// The caller's key of the consumer.
        consumer: u64,
    },
    /// The peer paused or resumed publishing on a channel.
    Flow {
        /// The channel number.
        channel: u16,
        /// Whether publishing is allowed.
        active: bool,
    },
    /// The peer closed a channel. Its requests, consumers and deliveries have ended.
    ChannelClosed {
        /// The channel number.
        channel: u16,
        /// The reason.
        reason: CloseReason,
    },
    /// Server: the client opened a channel.
    ChannelOpened {
        /// The channel number.
        channel: u16,
    },
    /// Server: a client sent a method for the broker, undecoded. Clients may send this method.
    Method {
        /// The channel number; 0 is the connection itself.
        channel: u16,
        /// The method; decode it with [`Method::decode`](crate::method::Method::decode).
        payload: Bytes,
    },
    /// Server: a client published a message.
    Published {
        /// The channel number.
        channel: u16,
        /// The message.
        content: Content,
    },
    /// Server: a client published a message whose body is larger than the limit. Refuse it.
    Oversized {
        /// The channel number.
        channel: u16,
        /// The size of the body in bytes.
        size: u64,
    },
    /// Client: the broker blocked publishing, because memory or disk space is low.
    Blocked {
        /// The reason.
        reason: String,
    },
    /// Client: the broker accepts publishes again.
    Unblocked,
    /// The connection is closed, at the request of either peer. No events follow.
    Closed {
        /// The reason of the peer; `None` if this side closed the connection.
        reason: Option<CloseReason>,
    },
}

/// The purpose of a message from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// A consumer receives the message.
    Delivery {
        /// The caller's key of the consumer.
        consumer: u64,
        /// The number of the delivery on its channel.
        delivery_tag: u64,
    },
    /// The message is the reply to `basic.get`.
    Got {
        /// The caller's key of the request.
        request: u64,
    },
    /// The broker returned a mandatory message.
    Returned {
        /// The tag of the publish; `None` without confirm mode, or if no publish matches the message.
        tag: Option<u64>,
    },
}

impl Purpose {
    pub(super) fn event(self, channel: u16, content: Content) -> Event {
        match self {
            Self::Delivery { consumer, delivery_tag } => Event::Delivery { channel, consumer, delivery_tag, content },
            Self::Got { request } => Event::Got { channel, request, content },
            Self::Returned { tag } => Event::Returned { channel, tag, content },
        }
    }
}

impl fmt::Debug for Event {
    /// Hides payloads and SASL responses, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |payload: &[u8]| MethodId::peek(payload).unwrap_or_default();
        match self {
            Self::Start { server_properties, mechanisms } => {
                f.debug_tuple("Start").field(server_properties).field(mechanisms).finish()
            }
            Self::Secure { .. } => f.write_str("Secure"),
            Self::StartOk { client_properties, mechanism, .. } => {
                f.debug_tuple("StartOk").field(client_properties).field(mechanism).finish()
            }
            Self::SecureOk { .. } => f.write_str("SecureOk"),
            Self::Open { vhost } => write!(f, "Open({vhost:?})"),
            Self::Opened => f.write_str("Opened"),
            Self::Reply { channel, request, payload } => write!(f, "Reply({channel}, {request}, {})", id(payload)),
            Self::Got { channel, request, content } => write!(f, "Got({channel}, {request}, {content:?})"),
            Self::Delivery { channel, consumer, delivery_tag, content } => {
                write!(f, "Delivery({channel}, {consumer}, {delivery_tag}, {content:?})")
            }
            Self::Returned { channel, tag, content } => write!(f, "Returned({channel}, {tag:?}, {content:?})"),
            Self::Confirmed { channel, first, last, ack } => {
                write!(f, "Confirmed({channel}, {first}..={last}, ack: {ack})")
            }
            Self::ConsumerCancelled { channel, consumer } => write!(f, "ConsumerCancelled({channel}, {consumer})"),
            Self::Flow { channel, active } => write!(f, "Flow({channel}, active: {active})"),
            Self::ChannelClosed { channel, reason } => write!(f, "ChannelClosed({channel}, {reason:?})"),
            Self::ChannelOpened { channel } => write!(f, "ChannelOpened({channel})"),
            Self::Method { channel, payload } => write!(f, "Method({channel}, {})", id(payload)),
            Self::Published { channel, content } => write!(f, "Published({channel}, {content:?})"),
            Self::Oversized { channel, size } => write!(f, "Oversized({channel}, {size} bytes)"),
            Self::Blocked { reason } => write!(f, "Blocked({reason:?})"),
            Self::Unblocked => f.write_str("Unblocked"),
            Self::Closed { reason } => write!(f, "Closed({reason:?})"),
        }
    }
}

/// Why a peer closed a channel or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The reply code: 404 not found, 406 precondition failed, …
    pub code: u16,
    /// The reason in words.
    pub text: String,
    /// The method at fault, or zeros.
    pub method: MethodId,
}
