//! Why an app did not start, or ended.

use std::fmt;

/// Why an app did not start, or ended. `Display` says what happened and what to do.
pub struct Error {
    kind: ErrorKind,
    text: String,
    source: Option<hopmq::Error>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A queue or an exchange exists with other settings (406).
    Differs,
    /// A queue or an exchange does not exist (404).
    Missing,
    /// The declaration of a route contradicts itself.
    Invalid,
    /// The database of an outbox failed.
    Store,
    /// A second signal ended the app before its handlers had finished.
    Interrupted,
    /// The client failed: the connection is closed, the broker refused a declaration, …
    Client,
}

impl Error {
    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the error of the client, if there is one.
    pub fn client(&self) -> Option<&hopmq::Error> {
        self.source.as_ref()
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, text: text.into(), source: None }
    }

    pub(crate) fn differs(what: &str, name: &str, source: hopmq::Error) -> Self {
        let text = format!(
            "the {what} '{name}' exists with other settings: {source}. Declare it with the settings that it has; or \
             use it as it is, with `.existing(Existing::Adopt)`; or delete it, which loses its messages, and start \
             again; or choose another name"
        );
        Self { kind: ErrorKind::Differs, text, source: Some(source) }
    }

    pub(crate) fn missing(what: &str, name: &str, source: hopmq::Error) -> Self {
        let text = format!(
            "the {what} '{name}' does not exist, and the app may not declare it (`Existing::Require`): {source}. \
             Declare it before, or leave out `Existing::Require`"
        );
        Self { kind: ErrorKind::Missing, text, source: Some(source) }
    }

    pub(crate) fn no_exchange(queue: &str, exchange: &str, source: hopmq::Error) -> Self {
        let text = format!(
            "the queue '{queue}' can't be bound to the exchange '{exchange}', which does not exist: {source}. Let the \
             app declare it, with `.exchange(Exchange::topic(\"{exchange}\"))`, or declare it before"
        );
        Self { kind: ErrorKind::Missing, text, source: Some(source) }
    }

    pub(crate) fn not_declared(what: &str, name: &str, source: hopmq::Error) -> Self {
        let text = format!("the {what} '{name}' could not be declared: {source}");
        Self { kind: ErrorKind::Client, text, source: Some(source) }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn outbox(source: &rusqlite::Error) -> Self {
        let text = format!("the outbox could not be read or written: {source}");
        Self { kind: ErrorKind::Store, text, source: None }
    }

    #[cfg(feature = "signals")]
    pub(crate) fn no_signals(error: std::io::Error) -> Self {
        let source = hopmq::Error::with_source(hopmq::ErrorKind::Io, "can't wait for signals", error);
        Self { kind: ErrorKind::Client, text: source.to_string(), source: Some(source) }
    }

    #[cfg(feature = "signals")]
    pub(crate) fn interrupted() -> Self {
        let text = "a second signal ended the app before its handlers had finished; their messages go back to their \
                    queues. A shorter `.drain_timeout(…)` ends it sooner"
            .to_owned();
        Self { kind: ErrorKind::Interrupted, text, source: None }
    }

    pub(crate) fn route(queue: &str, source: hopmq::Error) -> Self {
        let text = format!("the consumer of the queue '{queue}' ended: {source}");
        Self { kind: ErrorKind::Client, text, source: Some(source) }
    }
}

impl From<hopmq::Error> for Error {
    fn from(source: hopmq::Error) -> Self {
        Self { kind: ErrorKind::Client, text: source.to_string(), source: Some(source) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Prints what `Display` prints, so that `fn main() -> Result<(), Error>` ends with a text for people.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
