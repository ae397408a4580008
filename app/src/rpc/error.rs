use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// Why a call has no result. `E` is the error type of the method; [`Never`] if it has none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RpcError<E = Never> {
    /// The method returned this error.
    Failed(E),
    /// The server could not carry out the call, or a method panicked.
    Fault(Fault),
    /// No server consumes from the queue of the service. The call was not carried out.
    NoServer {
        /// The queue of the service.
        service: String,
    },
    /// The reply did not arrive in time. The call may or may not have been carried out.
    Deadline {
        /// How long the call has waited; zero if its deadline had passed before it was sent.
        waited: Duration,
    },
    /// The arguments can't be written, or the reply can't be read: client and server declare the method differently.
    Decode(String),
    /// The link to the broker was lost before the reply arrived: the call may or may not have been carried out.
    OutcomeUnknown(hopmq::Error),
    /// The call could not be sent.
    Connection(hopmq::Error),
}

/// The error of a method that returns none. There is no such value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("the server declares an error for this method, and the client does not"))
    }
}

/// Why a server could not carry out a call: the header `x-hopmq-fault` of its reply, and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class, one of the constants of this type, or that of a server in another language.
    pub class: String,
    /// The text for people.
    pub text: String,
}

impl Fault {
    /// The method returned an error, which the body holds.
    pub const FAILED: &str = "failed";
    /// The method panicked.
    pub const PANIC: &str = "panic";
    /// The server has no such method.
    pub const UNKNOWN_METHOD: &str = "unknown-method";
    /// The server can't read the arguments.
    pub const DECODE: &str = "decode";
    /// The server can't write the result.
    pub const ENCODE: &str = "encode";
    /// The server stopped before the stream of answers ended.
    pub const STOPPED: &str = "stopped";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.text)
    }
}

impl<E> RpcError<E> {
    /// Returns the error that the method returned.
    pub fn failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Returns whether the call may have been carried out although there is no result: repeat it if doing it twice is
    /// harmless.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_) | Self::Deadline { .. })
    }

    /// Gives the error of a call the type of a method's errors.
    pub(super) fn of_method(error: RpcError) -> Self {
        match error {
            RpcError::Failed(never) => match never {},
            RpcError::Fault(fault) => Self::Fault(fault),
            RpcError::NoServer { service } => Self::NoServer { service },
            RpcError::Deadline { waited } => Self::Deadline { waited },
            RpcError::Decode(text) => Self::Decode(text),
            RpcError::OutcomeUnknown(error) => Self::OutcomeUnknown(error),
            RpcError::Connection(error) => Self::Connection(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RpcError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "the server could not carry out the call: {fault}"),
            Self::NoServer { service } => {
                write!(f, "no server consumes from '{service}': start one, or check its name")
            }
            Self::Deadline { waited } if waited.is_zero() => f.write_str("the deadline had passed before the call"),
            Self::Deadline { waited } => write!(f, "no reply within {waited:?}; the call may have been carried out"),
            Self::Decode(text) => write!(f, "client and server do not agree: {text}"),
            Self::OutcomeUnknown(error) => {
                write!(f, "the link was lost before the reply, and the call may have been carried out: {error}")
            }
            Self::Connection(error) => write!(f, "the call could not be sent: {error}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for RpcError<E> {}
