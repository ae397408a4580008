//! What a connection tells its user.

use std::fmt;

use bytes::Bytes;

use crate::method::MethodId;
use crate::{Content, FieldTable};

/// Something that happened on the connection. At most one for each thing that came in.
#[non_exhaustive]
pub enum Event {
    /// Client: the server introduced itself. Answer with [`start_ok`](crate::Connection::start_ok).
    Start {
        /// Who the server is and what it can do.
        server_properties: FieldTable,
        /// The SASL mechanisms that it offers, separated by spaces.
        mechanisms: String,
    },
    /// Client: the server's mechanism asks on. Answer with [`secure_ok`](crate::Connection::secure_ok).
    Secure {
        /// The challenge.
        challenge: Bytes,
    },
    /// Server: a client wants to log in. Answer with [`secure`](crate::Connection::secure),
    /// [`tune`](crate::Connection::tune) or [`refuse`](crate::Connection::refuse).
    StartOk {
        /// Who the client is and what it can do.
        client_properties: FieldTable,
        /// The SASL mechanism that it chose.
        mechanism: String,
        /// What the mechanism sends first.
        response: Bytes,
    },
    /// Server: the client's answer to a challenge.
    SecureOk {
        /// The answer.
        response: Bytes,
    },
    /// Server: the client asks for a virtual host. Answer with [`open_ok`](crate::Connection::open_ok) or
    /// [`refuse`](crate::Connection::refuse).
    Open {
        /// The virtual host.
        vhost: String,
    },
    /// Client: the connection is open, with the limits of [`tuning`](crate::Connection::tuning).
    Opened,
    /// Client: the answer to a request, undecoded.
    Reply {
        /// The channel's number; 0 is the connection itself.
        channel: u16,
        /// What the caller called the request.
        request: u64,
        /// The method; give it to [`Method::decode`](crate::method::Method::decode).
        payload: Bytes,
    },
    /// Client: the answer to `basic.get`, with a message.
    Got {
        /// The channel's number.
        channel: u16,
        /// What the caller called the request.
        request: u64,
        /// The message.
        content: Content,
    },
    /// Client: a message for a consumer.
    Delivery {
        /// The channel's number.
        channel: u16,
        /// What the caller called the consumer.
        consumer: u64,
        /// The message's number on its channel.
        delivery_tag: u64,
        /// The message.
        content: Content,
    },
    /// Client: a message that was published as mandatory came back.
    Returned {
        /// The channel's number.
        channel: u16,
        /// The number of its publish, if the channel is in confirm mode and the message is known.
        tag: Option<u64>,
        /// The message.
        content: Content,
    },
    /// Client: the broker took care of publishes, or could not. Tags in the range that were settled before stay so.
    Confirmed {
        /// The channel's number.
        channel: u16,
        /// The lowest tag.
        first: u64,
        /// The highest tag.
        last: u64,
        /// `true` for `basic.ack`, `false` for `basic.nack`.
        ack: bool,
    },
    /// Client: the broker cancelled a consumer, because its queue is gone.
    ConsumerCancelled {
        /// The channel's number.
        channel: u16,
        /// What the caller called the consumer.
        consumer: u64,
    },
    /// The peer stops or resumes the publishing on a channel.
    Flow {
        /// The channel's number.
        channel: u16,
        /// Whether publishing may go on.
        active: bool,
    },
    /// The peer closed a channel for a fault on it. Everything on the channel is over.
    ChannelClosed {
        /// The channel's number.
        channel: u16,
        /// Why.
        reason: CloseReason,
    },
    /// Server: the client opened a channel.
    ChannelOpened {
        /// The channel's number.
        channel: u16,
    },
    /// Server: a method for the broker, undecoded; it is one that clients may send.
    Method {
        /// The channel's number; 0 is the connection itself.
        channel: u16,
        /// The method; give it to [`Method::decode`](crate::method::Method::decode).
        payload: Bytes,
    },
    /// Server: a published message.
    Published {
        /// The channel's number.
        channel: u16,
        /// The message.
        content: Content,
    },
    /// The broker takes no publishes at the moment, because memory or disk run out.
    Blocked {
        /// Why.
        reason: String,
    },
    /// The broker takes publishes again.
    Unblocked,
    /// The connection is closed, as this side or the peer asked for. Nothing follows.
    Closed {
        /// The peer's reason, or `None` if this side closed it.
        reason: Option<CloseReason>,
    },
}

/// What a message from the server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// It is for a consumer.
    Delivery {
        /// What the caller called the consumer.
        consumer: u64,
        /// The message's number on its channel.
        delivery_tag: u64,
    },
    /// It is the answer to `basic.get`.
    Got {
        /// What the caller called the request.
        request: u64,
    },
    /// It was published as mandatory, and came back.
    Returned {
        /// The number of its publish, if the channel is in confirm mode and the message is known.
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
    /// Payloads and the answers of SASL mechanisms are not shown: there are credentials among them.
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
    /// The same in words.
    pub text: String,
    /// The class and method that were at fault, or zeros.
    pub method: MethodId,
}
