//! The errors of the protocol: what happened, which rule was broken, and whose fault it was.

use std::borrow::Cow;
use std::fmt;

use crate::duration::LONGEST_TTL;
use crate::violation::{ShortString, Violation};

/// The reply codes of AMQP 0-9-1 (specification §1.2, plus RabbitMQ's 311–313).
pub mod code {
    /// Success.
    pub const REPLY_SUCCESS: u16 = 200;
    /// The message is larger than the peer accepts. Closes the channel.
    pub const CONTENT_TOO_LARGE: u16 = 311;
    /// No queue matches the message. Arrives with `basic.return`.
    pub const NO_ROUTE: u16 = 312;
    /// No consumer can take the message immediately. Arrives with `basic.return`.
    pub const NO_CONSUMERS: u16 = 313;
    /// An operator closed the connection. Closes the connection.
    pub const CONNECTION_FORCED: u16 = 320;
    /// The virtual host is unknown. Closes the connection.
    pub const INVALID_PATH: u16 = 402;
    /// The user lacks the permission. Closes the channel.
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
    /// The channel is not open. Closes the connection.
    pub const CHANNEL_ERROR: u16 = 504;
    /// A frame arrived in place of the expected one. Closes the connection.
    pub const UNEXPECTED_FRAME: u16 = 505;
    /// The peer lacks the resources. Closes the connection.
    pub const RESOURCE_ERROR: u16 = 506;
    /// The operation is not allowed, whatever the permissions. Closes the connection.
    pub const NOT_ALLOWED: u16 = 530;
    /// The method or feature is not implemented. Closes the connection.
    pub const NOT_IMPLEMENTED: u16 = 540;
    /// The peer has a bug or a broken state. Closes the connection.
    pub const INTERNAL_ERROR: u16 = 541;

    /// Returns the name of a code in the specification, for instance `NOT_FOUND`; `INTERNAL_ERROR` for unknown codes.
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
    /// The caller's request cannot be sent: nothing was sent, and the connection stays open.
    Caller,
}

/// A breach of the protocol, by the peer or by the caller.
///
/// Match on [`Error::violation`] to tell errors apart; [`Error::message`] is for people.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

/// Boxed, so that the results of the busy paths stay one word.
#[derive(Clone, PartialEq, Eq)]
struct Inner {
    code: u16,
    fault: Fault,
    violation: Violation,
    message: Cow<'static, str>,
}

impl Error {
    /// Makes the error of a peer that broke a rule of which this crate knows nothing.
    ///
    /// `code` is one of [`code`](mod@code); the peer receives it when the connection closes. The violation is
    /// [`Violation::Other`]; use [`Violation::by_peer`] for another one.
    #[cold]
    pub fn peer(code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Violation::Other.by_peer(code, message)
    }

    /// Returns the error of a caller whose request the protocol cannot express.
    ///
    /// The code is [`code::COMMAND_INVALID`]. The violation is [`Violation::Other`]; use [`Violation::by_caller`] for
    /// another one.
    #[cold]
    pub fn caller(message: impl Into<Cow<'static, str>>) -> Self {
        Violation::Other.by_caller(message)
    }

    /// Returns the AMQP reply code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// Returns who is to blame.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// Returns which rule was broken.
    pub fn violation(&self) -> Violation {
        self.0.violation
    }

    /// Returns what happened, in words. The words may change in any release: match on [`Error::violation`] instead.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Turns the error into the caller's fault, with `context` in front of its message.
    #[cold]
    pub(crate) fn while_sending(self, context: impl fmt::Display) -> Self {
        self.0.violation.by_caller(format!("{context}: {}", self.0.message))
    }
}

impl Violation {
    /// Makes the error of a peer that committed this violation. `code` is the reply code that the peer receives.
    #[cold]
    pub fn by_peer(self, code: u16, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner { code, fault: Fault::Peer, violation: self, message: message.into() }))
    }

    /// Makes the error of a caller that committed this violation. Its code is [`code::COMMAND_INVALID`].
    #[cold]
    pub fn by_caller(self, message: impl Into<Cow<'static, str>>) -> Error {
        let code = code::COMMAND_INVALID;
        Error(Box::new(Inner { code, fault: Fault::Caller, violation: self, message: message.into() }))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("fault", &self.0.fault)
            .field("violation", &self.0.violation)
            .field("message", &self.0.message)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.fault {
            Fault::Peer => write!(f, "{} ({})", self.0.message, self.0.code),
            Fault::Caller => f.write_str(&self.0.message),
        }
    }
}

impl std::error::Error for Error {}

/// The longest short string in bytes.
pub(crate) const SHORT_STRING_MAX: usize = 255;

/// Why a value that the caller built cannot be sent. The value remembers its first flaw and reports it when encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// Which string, and its length. Two bytes hold the length, so that tables and properties stay small.
    ShortString(ShortString, u16),
    LongString,
    Depth,
    Malformed,
    /// A time to live above the longest.
    Ttl,
    /// An integer above the largest that AMQP's tables hold.
    Integer,
}

impl Flaw {
    /// Returns the flaw of a short string of `size` bytes, which is more than [`SHORT_STRING_MAX`].
    #[cold]
    pub(crate) fn short_string(string: ShortString, size: usize) -> Self {
        Self::ShortString(string, u16::try_from(size).unwrap_or(u16::MAX))
    }
}

impl From<Flaw> for Error {
    #[cold]
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::ShortString(string, size) => {
                let at_least = if size == u16::MAX { "at least " } else { "" };
                let text = format!("{string} is {at_least}{size} bytes long; at most {SHORT_STRING_MAX} are allowed");
                Violation::ShortStringTooLong { string, size: size.into() }.by_caller(text)
            }
            Flaw::LongString => {
                Violation::LongStringTooLong.by_caller("a table, an array or a string is longer than 4 GiB")
            }
            Flaw::Depth => Violation::NestedTooDeep.by_caller("tables and arrays are nested more than 32 deep"),
            Flaw::Ttl => Violation::TtlTooLong.by_caller(format!(
                "expiration is longer than the longest time that RabbitMQ takes: {} ms, ten years",
                LONGEST_TTL.as_secs() * 1000
            )),
            Flaw::Integer => Violation::IntegerTooLarge.by_caller(format!(
                "a table or an array has an integer above {}, the largest that AMQP has a type for",
                i64::MAX
            )),
            Flaw::Malformed => Violation::Malformed.by_caller("cannot change the properties: they are malformed"),
        }
    }
}

/// Returns an error if there is a flaw.
#[inline]
pub(crate) fn sound(flaw: Option<Flaw>) -> Result<(), Error> {
    flaw.map_or(Ok(()), |flaw| Err(flaw.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn errors_and_flaws_are_small() {
        assert_eq!((size_of::<Result<(), Error>>(), size_of::<Option<Flaw>>()), (8, 4));
    }

    #[test]
    fn a_short_string_that_is_too_long_is_named_with_its_length() {
        let error = Error::from(Flaw::short_string(ShortString::RoutingKey, 300));
        assert_eq!(error.message(), "routing-key is 300 bytes long; at most 255 are allowed");
        let violation = Violation::ShortStringTooLong { string: ShortString::RoutingKey, size: 300 };
        assert_eq!((error.violation(), error.fault()), (violation, Fault::Caller));
        let error = Error::from(Flaw::short_string(ShortString::TableKey, 100_000));
        assert_eq!(error.message(), "table key is at least 65535 bytes long; at most 255 are allowed");
    }
}
