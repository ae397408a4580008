//! What a handler says about a message.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// What a handler says about a message. Handlers return [`Ack`](crate::Ack), a `Result`, or one of the other types that
/// turn into this.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// The message is done.
    Ack,
    /// The message failed and may succeed later: try it again as the queue's [`Backoff`](super::Backoff) says, and
    /// after the last attempt move it to the dead letters.
    Retry(Failure),
    /// The message can't succeed: move it to the dead letters.
    Reject(Failure),
    /// A person must look at the message: move it to the parked messages.
    Park(Failure),
    /// This worker can't handle the message now: give it back to the queue at once, uncounted where the broker counts.
    Release,
    /// The message is done, and this is the answer to its sender.
    Reply(Payload),
    /// The handler has taken the delivery and settles it.
    Taken,
}

/// Why a message failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    class: Cow<'static, str>,
    text: String,
    after: Option<Duration>,
}

/// A body and how it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The body.
    pub body: Bytes,
    /// The `content-type`; empty for none.
    pub content_type: Cow<'static, str>,
    /// The `content-encoding`, such as `gzip`; empty for none.
    pub content_encoding: Cow<'static, str>,
    /// The class of the fault that the payload describes, in place of a result.
    pub fault: Option<Cow<'static, str>>,
}

impl Payload {
    /// Returns a body with its content type.
    pub fn new(body: impl Into<Bytes>, content_type: impl Into<Cow<'static, str>>) -> Self {
        Self { body: body.into(), content_type: content_type.into(), ..Self::default() }
    }
}

impl Failure {
    /// Returns a failure of a class, such as `timeout`, with a text for people.
    pub fn new(class: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { class: class.into(), text: text.into(), after: None }
    }

    /// Asks for a wait of this time before the next attempt, in place of the backoff's. A wait of a second or more
    /// is as long as the backoff's longest step at most; without steps of a second or more, the message waits in the
    /// handler's slot, for 15 minutes at most.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = Some(time);
        self
    }

    /// Returns the class of the error.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Returns the text for people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the wait that the handler asked for.
    pub fn after_time(&self) -> Option<Duration> {
        self.after
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.text)
    }
}

impl Verdict {
    /// Returns a word for logs and metrics: `ack`, `retry`, `reject`, `park`, `release`, `reply`, `taken`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry(_) => "retry",
            Self::Reject(_) => "reject",
            Self::Park(_) => "park",
            Self::Release => "release",
            Self::Reply(_) => "reply",
            Self::Taken => "taken",
        }
    }

    /// Returns why the message failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Retry(failure) | Self::Reject(failure) | Self::Park(failure) => Some(failure),
            _ => None,
        }
    }
}
