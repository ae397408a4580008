//! The crate's error type and its kinds.
//!
//! [`Error`] is opaque and cheap to clone, because one broken connection fails many pending futures with the same
//! reason. It never holds a password: URIs and secrets are redacted before an error is built.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use hopmq_proto::{Quoted, code};

use crate::message::Returned;
use crate::refusal::Refusal;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why an operation failed.
///
/// `Display` prints the message and the text of the error that caused it, if there is one. So
/// [`source`](StdError::source) continues behind that cause, as it does for a [`std::io::Error`] with a custom error;
/// [`Error::get_ref`] returns the cause itself.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    code: Option<u16>,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    returned: Option<Returned>,
    /// What the broker refused, if it closed the connection for that.
    refusal: Option<Refusal>,
}

/// The kinds of [`Error`]: what failed, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URI or an option is invalid. Correct the configuration.
    Config,
    /// The network, the name resolution or the operating system failed.
    Io,
    /// The TLS handshake failed: a certificate, a name or a version does not fit.
    Tls,
    /// The WebSocket handshake failed, or the WebSocket broke.
    WebSocket,
    /// The broker refused the credentials or the mechanism (code 403).
    Authentication,
    /// The broker closed the connection; [`Error::code`] says why.
    ConnectionClosed,
    /// The broker closed the channel; [`Error::code`] says why. Other channels stay open.
    ChannelClosed,
    /// This program had already closed the connection or the channel.
    Closed,
    /// The broker cancelled the consumer because its queue was deleted or moved.
    ConsumerCancelled,
    /// The peer violated the protocol. It is not an AMQP 0-9-1 broker, or it has a bug.
    Protocol,
    /// The call is invalid: a name over 255 bytes, a confirm in a transaction, …
    Usage,
    /// The timeout expired.
    Timeout,
    /// The peer sent nothing for two heartbeat intervals.
    Heartbeat,
    /// The broker received the message but could not store it (`basic.nack`). Publish the message again.
    Nacked,
    /// The link to the broker was lost before the reply arrived: the operation may or may not have been carried out.
    /// Repeat it if doing it twice is harmless.
    OutcomeUnknown,
    /// There is no link to the broker at the moment, and [`Recovery`](crate::Recovery) is set not to wait for one.
    Recovering,
    /// The message was published as mandatory and no queue took it: see [`Error::returned`].
    Returned,
}

impl Inner {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, code: None, message, source: None, returned: None, refusal: None }
    }
}

impl Error {
    /// Creates an error for a custom mechanism, a [`CredentialsProvider`](crate::auth::sasl::CredentialsProvider), or a
    /// layer above this crate. Keep secrets out of `message`: `Display` prints it.
    ///
    /// ```
    /// let error = hopmq::Error::new(hopmq::ErrorKind::Authentication, "no token for this tenant");
    /// assert_eq!(error.to_string(), "no token for this tenant");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(kind, message.into())))
    }

    /// Creates an error with the error that caused it. `Display` appends the cause to `message`.
    ///
    /// ```
    /// use std::io;
    ///
    /// let cause = io::Error::other("disk full");
    /// let error = hopmq::Error::with_source(hopmq::ErrorKind::Config, "can't read token.txt", cause);
    /// assert_eq!(error.to_string(), "can't read token.txt: disk full");
    /// assert!(error.get_ref().is_some_and(|cause| cause.is::<io::Error>()));
    /// assert!(std::error::Error::source(&error).is_none()); // a reporter of the chain prints the cause once
    /// ```
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let source: Arc<dyn StdError + Send + Sync> = Arc::new(source);
        Self(Arc::new(Inner { source: Some(source), ..Inner::new(kind, message.into()) }))
    }

    pub(crate) fn with_code(kind: ErrorKind, code: u16, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { code: Some(code), ..Inner::new(kind, message.into()) }))
    }

    /// Returns an error of another kind that quotes this one, with the same code.
    pub(crate) fn wrapped(&self, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { code: self.0.code, ..Inner::new(kind, message.into()) }))
    }

    /// Returns an error for a connection that the broker closed with `code`.
    pub(crate) fn refused(kind: ErrorKind, code: u16, message: String, refusal: Option<Refusal>) -> Self {
        Self(Arc::new(Inner { code: Some(code), refusal, ..Inner::new(kind, message) }))
    }

    pub(crate) fn from_return(returned: Returned) -> Self {
        let guess = match (returned.code(), returned.exchange()) {
            (code::NO_ROUTE, "") => " (no queue has that name)",
            (code::NO_ROUTE, _) => " (no binding matches it)",
            _ => "",
        };
        let message = format!(
            "message to exchange {} with routing key {} was returned: {} {}{guess}",
            Quoted(returned.exchange()),
            Quoted(returned.routing_key()),
            returned.code(),
            returned.reason(),
        );
        let code = Some(returned.code());
        Self(Arc::new(Inner { code, returned: Some(returned), ..Inner::new(ErrorKind::Returned, message) }))
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the AMQP reply code, if the error has one: 404 not found, 406 precondition failed, …
    pub fn code(&self) -> Option<u16> {
        self.0.code
    }

    /// Returns the message that the broker sent back, if the error is [`ErrorKind::Returned`].
    pub fn returned(&self) -> Option<&Returned> {
        self.0.returned.as_ref()
    }

    /// Returns the error that caused this one, to be downcast: an [`std::io::Error`] for [`ErrorKind::Io`], mostly.
    pub fn get_ref(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// Whether the broker refuses the credentials, the virtual host or the settings, so that the same attempt fails
    /// again.
    pub(crate) fn is_refusal(&self) -> bool {
        match self.kind() {
            ErrorKind::Authentication | ErrorKind::Config | ErrorKind::Usage => true,
            ErrorKind::ConnectionClosed => self.0.refusal.is_some_and(|refusal| !refusal.is_transient()),
            _ => false,
        }
    }

    /// Returns whether the connection or channel was closed, by either side.
    pub fn is_closed(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Closed | ErrorKind::ConnectionClosed | ErrorKind::ChannelClosed | ErrorKind::Heartbeat
        )
    }

    /// Returns whether a timeout expired.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

/// Prints the same as `Display`, for a `main` that returns an error and for `unwrap`; `{:#?}` prints all fields.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Display prints the direct cause already.
        self.0.source.as_ref().and_then(|cause| cause.source())
    }
}

impl From<hopmq_proto::Error> for Error {
    fn from(error: hopmq_proto::Error) -> Self {
        match error.fault() {
            hopmq_proto::Fault::Caller => Self::new(ErrorKind::Usage, error.message()),
            _ => Self::with_code(
                ErrorKind::Protocol,
                error.code(),
                format!("the peer violated the protocol: {}", error.message()),
            ),
        }
    }
}
