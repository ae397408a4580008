//! What can go wrong in the protocol, and whose fault it was.

use std::borrow::Cow;
use std::fmt;

/// The reply codes of AMQP 0-9-1 (specification §1.2, plus RabbitMQ's 311–313).
pub mod code {
    /// Everything went well.
    pub const REPLY_SUCCESS: u16 = 200;
    /// The content is larger than the peer takes. Closes the channel.
    pub const CONTENT_TOO_LARGE: u16 = 311;
    /// No queue takes the message. Comes with `basic.return`.
    pub const NO_ROUTE: u16 = 312;
    /// No consumer takes the message at once. Comes with `basic.return`.
    pub const NO_CONSUMERS: u16 = 313;
    /// An operator closed the connection. Closes the connection.
    pub const CONNECTION_FORCED: u16 = 320;
    /// The virtual host is unknown. Closes the connection.
    pub const INVALID_PATH: u16 = 402;
    /// The user may not do that. Closes the channel.
    pub const ACCESS_REFUSED: u16 = 403;
    /// The queue or exchange does not exist. Closes the channel.
    pub const NOT_FOUND: u16 = 404;
    /// Another connection holds the exclusive queue. Closes the channel.
    pub const RESOURCE_LOCKED: u16 = 405;
    /// The arguments differ from those of the existing resource, or a delivery tag is unknown. Closes the channel.
    pub const PRECONDITION_FAILED: u16 = 406;
    /// A frame could not be decoded. Closes the connection.
    pub const FRAME_ERROR: u16 = 501;
    /// A frame held an illegal value. Closes the connection.
    pub const SYNTAX_ERROR: u16 = 502;
    /// A sequence of frames was not allowed. Closes the connection.
    pub const COMMAND_INVALID: u16 = 503;
    /// A channel was used that is not open. Closes the connection.
    pub const CHANNEL_ERROR: u16 = 504;
    /// A frame came where another was due. Closes the connection.
    pub const UNEXPECTED_FRAME: u16 = 505;
    /// The peer lacks the resources. Closes the connection.
    pub const RESOURCE_ERROR: u16 = 506;
    /// The peer may not do that, whoever it is. Closes the connection.
    pub const NOT_ALLOWED: u16 = 530;
    /// The method or feature does not exist here. Closes the connection.
    pub const NOT_IMPLEMENTED: u16 = 540;
    /// A bug or a broken state in the peer. Closes the connection.
    pub const INTERNAL_ERROR: u16 = 541;

    /// What the specification calls a code, for instance `NOT_FOUND`; `INTERNAL_ERROR` for those that it doesn't know.
    pub fn name(code: u16) -> &'static str {
        match code {
            REPLY_SUCCESS => "REPLY_SUCCESS",
            CONTENT_TOO_LARGE => "CONTENT_TOO_LARGE",
            NO_ROUTE => "NO_ROUTE",
            NO_CONSUMERS => "NO_CONSUMERS",
            CONNECTION_FORCED => "CONNECTION_FORCED",
            INVALID_PATH => "INVALID_PATH",
            ACCESS_REFUSED => "ACCESS_REFUSED",
            NOT_FOUND => "NOT_FOUND",
            RESOURCE_LOCKED => "RESOURCE_LOCKED",
            PRECONDITION_FAILED => "PRECONDITION_FAILED",
            FRAME_ERROR => "FRAME_ERROR",
            SYNTAX_ERROR => "SYNTAX_ERROR",
            COMMAND_INVALID => "COMMAND_INVALID",
            CHANNEL_ERROR => "CHANNEL_ERROR",
            UNEXPECTED_FRAME => "UNEXPECTED_FRAME",
            RESOURCE_ERROR => "RESOURCE_ERROR",
            NOT_ALLOWED => "NOT_ALLOWED",
            NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
            _ => "INTERNAL_ERROR",
        }
    }
}

/// Who is to blame for an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The peer broke the protocol: close the connection with [`Error::code`].
    Peer,
    /// This program asked for what can't be sent: nothing was sent, and the connection goes on.
    Caller,
}

/// A breach of the protocol, by the peer or by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: u16,
    fault: Fault,
    message: Cow<'static, str>,
}

impl Error {
    /// The peer broke the protocol. `code` is one of [`code`](mod@code), and is what it will be told.
    #[cold]
    pub fn peer(code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, fault: Fault::Peer, message: message.into() }
    }

    /// The caller asked for what the protocol can't express. Its code is [`code::COMMAND_INVALID`].
    #[cold]
    pub fn caller(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code::COMMAND_INVALID, fault: Fault::Caller, message: message.into() }
    }

    /// The AMQP reply code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Who is to blame.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Peer => write!(f, "{} ({})", self.message, self.code),
            Fault::Caller => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// Why something that the caller built can't be sent. Remembered by the thing, reported when it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    ShortString,
    Length,
    Depth,
    Malformed,
}

impl Flaw {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::ShortString => "a name or short string is longer than 255 bytes",
            Self::Length => "a table, array or string is longer than 4 GiB",
            Self::Depth => "tables and arrays are nested more than 32 deep",
            Self::Malformed => "the properties that were to be changed are malformed",
        }
    }
}

impl From<Flaw> for Error {
    fn from(flaw: Flaw) -> Self {
        Self::caller(flaw.message())
    }
}

/// `Err` if there is a flaw.
#[inline]
pub(crate) fn sound(flaw: Option<Flaw>) -> Result<(), Error> {
    flaw.map_or(Ok(()), |flaw| Err(flaw.into()))
}
