//! The rules of the protocol, as types that callers can match on.

use std::fmt;

use crate::method_id::MethodId;

/// The rule that an [`Error`](crate::Error) reports as broken.
///
/// [`Error::fault`](crate::Error::fault) says who broke it. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// The peer speaks another protocol: HTTP, TLS or another version of AMQP.
    WrongProtocol,
    /// The handshake agreed on no usable limits, or a peer accepted more than was proposed.
    Negotiation,
    /// The caller made a handshake call before the event that it answers.
    HandshakeOrder,
    /// The caller used a connection that is not open.
    ConnectionNotOpen,
    /// The peer sent nothing for two heartbeat intervals.
    HeartbeatTimeout,

    /// A frame has an unknown type or a wrong end octet, or is a heartbeat with a channel or a payload.
    MalformedFrame,
    /// A frame is larger than the limit that both peers agreed on.
    FrameTooLarge {
        /// The size of the frame, including its 8 bytes of overhead.
        size: usize,
        /// The largest allowed frame.
        limit: usize,
    },
    /// A frame breaks the sequence of method, header and body.
    UnexpectedFrame {
        /// The channel of the frame.
        channel: u16,
    },
    /// The header of a message announces a body above the receiver's limit.
    BodyTooLarge {
        /// The announced size.
        size: u64,
        /// The largest accepted body.
        limit: u64,
    },
    /// The body frames of a message hold more than its header announced.
    BodyTooLong {
        /// The channel of the message.
        channel: u16,
    },

    /// A method, a content header, a table or a property list cannot be decoded.
    Malformed,
    /// Tables and arrays are nested more than [`MAX_DEPTH`](crate::MAX_DEPTH) deep.
    NestedTooDeep,
    /// A short string is longer than 255 bytes.
    ShortStringTooLong {
        /// The argument, property or key that holds the string.
        string: ShortString,
        /// The length of the string; 65,535 stands for any greater length.
        size: usize,
    },
    /// A table, an array or a long string is longer than 4 GiB.
    LongStringTooLong,
    /// An integer of a table is above `i64::MAX`.
    IntegerTooLarge,
    /// A time to live is above [`LONGEST_TTL`](crate::LONGEST_TTL).
    TtlTooLong,

    /// The method does not exist, or uses a feature that this crate does not implement.
    NotImplemented {
        /// The method.
        method: MethodId,
    },
    /// The role of the sender does not allow this method.
    ForbiddenMethod {
        /// The method.
        method: MethodId,
    },
    /// A method arrived that neither a request nor the handshake is waiting for.
    UnexpectedMethod {
        /// The method.
        method: MethodId,
    },
    /// A method of the connection was sent on a channel, or a method of a channel on channel 0.
    WrongChannel {
        /// The method.
        method: MethodId,
        /// The channel.
        channel: u16,
    },
    /// The caller made a request of a method that has no reply, or that has its own call.
    NotARequest {
        /// The method.
        method: MethodId,
    },
    /// Too many requests of one channel are waiting for a reply.
    TooManyRequests {
        /// The channel.
        channel: u16,
    },

    /// The channel is not open.
    ChannelNotOpen {
        /// The channel.
        channel: u16,
    },
    /// The channel is already open, or still closing.
    ChannelInUse {
        /// The channel.
        channel: u16,
    },
    /// The channel number is 0 where a channel is needed, or above the limit that both peers agreed on.
    ChannelOutOfRange {
        /// The channel.
        channel: u16,
        /// The highest allowed number.
        limit: u16,
    },
    /// A channel cannot both confirm publishes and be transactional, and confirms only in confirm mode.
    ChannelMode,
    /// A consumer tag is empty, or already in use on its channel.
    ConsumerTag,
    /// A delivery tag is zero, unknown, or already in use on its channel.
    DeliveryTag {
        /// The tag.
        tag: u64,
    },
    /// The broker confirmed a publish that was never made.
    UnknownPublish {
        /// The number of the publish on its channel.
        tag: u64,
    },

    /// A rule that this crate does not check: the error was made with [`Error::peer`](crate::Error::peer) or
    /// [`Error::caller`](crate::Error::caller).
    Other,
}

/// The arguments, properties and keys that are short strings: at most 255 bytes each (specification §4.2.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShortString {
    /// The argument `queue`.
    Queue,
    /// The argument `exchange`.
    Exchange,
    /// The argument `routing-key`.
    RoutingKey,
    /// The argument `consumer-tag`.
    ConsumerTag,
    /// The argument `source` of `exchange.bind` and `exchange.unbind`.
    Source,
    /// The argument `destination` of `exchange.bind` and `exchange.unbind`.
    Destination,
    /// The argument `type` of `exchange.declare`.
    ExchangeType,
    /// The argument `reply-text`.
    ReplyText,
    /// The argument `virtual-host`.
    VirtualHost,
    /// The argument `mechanism` of `connection.start-ok`.
    Mechanism,
    /// The argument `locale` of `connection.start-ok`.
    Locale,
    /// The argument `reason` of `connection.blocked` and `connection.update-secret`.
    Reason,
    /// The argument `realm` of `access.request`.
    Realm,
    /// The property `content-type`.
    ContentType,
    /// The property `content-encoding`.
    ContentEncoding,
    /// The property `correlation-id`.
    CorrelationId,
    /// The property `reply-to`.
    ReplyTo,
    /// The property `expiration`.
    Expiration,
    /// The property `message-id`.
    MessageId,
    /// The property `type`.
    MessageType,
    /// The property `user-id`.
    UserId,
    /// The property `app-id`.
    AppId,
    /// The property `cluster-id`.
    ClusterId,
    /// The key of an entry in a field table.
    TableKey,
}

impl ShortString {
    /// Returns the name in the specification, for instance `routing-key`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
            Self::RoutingKey => "routing-key",
            Self::ConsumerTag => "consumer-tag",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::ExchangeType | Self::MessageType => "type",
            Self::ReplyText => "reply-text",
            Self::VirtualHost => "virtual-host",
            Self::Mechanism => "mechanism",
            Self::Locale => "locale",
            Self::Reason => "reason",
            Self::Realm => "realm",
            Self::ContentType => "content-type",
            Self::ContentEncoding => "content-encoding",
            Self::CorrelationId => "correlation-id",
            Self::ReplyTo => "reply-to",
            Self::Expiration => "expiration",
            Self::MessageId => "message-id",
            Self::UserId => "user-id",
            Self::AppId => "app-id",
            Self::ClusterId => "cluster-id",
            Self::TableKey => "table key",
        }
    }
}

impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
