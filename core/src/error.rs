//! What can go wrong, whose fault it was, and what to do about it.
//!
//! One opaque [`Error`] for the whole crate. It is cheap to clone, because one broken connection ends many
//! waiting futures with the same reason. It never holds a password: URIs and secrets are redacted before they get here.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use hopmq_proto::code;

use crate::Returned;
use crate::refusal::Refusal;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
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

/// The families of [`Error`], by who is at fault and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The URI or an option makes no sense. Mend the configuration.
    Config,
    /// The network, the name resolution or the operating system failed.
    Io,
    /// The TLS handshake failed: a certificate, a name, a version.
    Tls,
    /// The WebSocket handshake failed or the WebSocket broke.
    WebSocket,
    /// The broker refused the credentials or the mechanism (code 403).
    Authentication,
    /// The broker closed the connection and said why: see [`Error::code`].
    ConnectionClosed,
    /// The broker closed the channel and said why: see [`Error::code`]. Other channels go on.
    ChannelClosed,
    /// This program closed the connection or the channel before.
    Closed,
    /// The broker cancelled the consumer, because its queue is gone or moved.
    ConsumerCancelled,
    /// The peer broke the protocol. It is not RabbitMQ, or has a bug.
    Protocol,
    /// The caller asked for what can't be done: a name over 255 bytes, a confirm in a transaction, …
    Usage,
    /// The deadline passed.
    Timeout,
    /// The peer sent nothing for two heartbeat intervals.
    Heartbeat,
    /// The broker took the message and could not store it (`basic.nack`): publish it again.
    Nacked,
    /// The link to the broker was lost before the answer came: it may have been done or not. Where doing it twice does
    /// no harm, do it again.
    OutcomeUnknown,
    /// There is no link to the broker at the moment, and waiting was not wanted.
    Recovering,
    /// No queue took the message, and it was published as mandatory: see [`Error::returned`].
    Returned,
}

impl Inner {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, code: None, message, source: None, returned: None, refusal: None }
    }
}

impl Error {
    /// An error of your own: for a mechanism, a [`CredentialsProvider`](crate::auth::sasl::CredentialsProvider), or a layer
    /// above this one. Keep secrets out of the message: it is shown.
    ///
    /// ```
    /// let error = hopmq::Error::new(hopmq::ErrorKind::Authentication, "no token for this tenant");
    /// assert_eq!(error.to_string(), "no token for this tenant");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(kind, message.into())))
    }

    /// The same with the error that caused it.
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
            (code::NO_ROUTE, "") => " (there is no queue of that name)",
            (code::NO_ROUTE, _) => " (no queue is bound for it)",
            _ => "",
        };
        let message = format!(
            "message to exchange {:?} with routing key {:?} was returned: {} {}{guess}",
            returned.exchange(),
            returned.routing_key(),
            returned.code(),
            returned.reason(),
        );
        let code = Some(returned.code());
        Self(Arc::new(Inner { code, returned: Some(returned), ..Inner::new(ErrorKind::Returned, message) }))
    }

    /// The family of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The reply code of AMQP, where the broker gave one or the fault has one: 404 not found, 406 precondition failed,
    /// …
    pub fn code(&self) -> Option<u16> {
        self.0.code
    }

    /// The message that the broker sent back, if the error is [`ErrorKind::Returned`].
    pub fn returned(&self) -> Option<&Returned> {
        self.0.returned.as_ref()
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

    /// Whether the connection or channel was closed, by anyone.
    pub fn is_closed(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Closed | ErrorKind::ConnectionClosed | ErrorKind::ChannelClosed | ErrorKind::Heartbeat
        )
    }

    /// Whether a deadline passed.
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

/// The message, for a `main` that returns an error and for `unwrap`; all of it by `{:#?}`.
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
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<hopmq_proto::Error> for Error {
    fn from(error: hopmq_proto::Error) -> Self {
        match error.fault() {
            hopmq_proto::Fault::Caller => Self::new(ErrorKind::Usage, error.message()),
            _ => Self::with_code(
                ErrorKind::Protocol,
                error.code(),
                format!("the peer broke the protocol: {}", error.message()),
            ),
        }
    }
}
