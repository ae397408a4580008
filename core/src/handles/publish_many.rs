//! Publishing many messages at once, and their confirms.
//!
//! Owns the bodies that are not sent yet, and which publishes the batch has become. In comes an iterator of bodies; out
//! go the messages, as many under one lock as there is room for, and one outcome for all. It must never run the
//! program's iterator under that lock.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hopmq_proto::{Body, Time};

use crate::error::{Error, Result};
use crate::handles::channel::ChannelCore;
use crate::handles::publisher::Publisher;
use crate::state::keys::RequestKey;
use crate::state::{OutgoingMany, RoomWait, Tags};
#[cfg(doc)]
use crate::{Confirm, ErrorKind, Publish};

/// How many bodies are taken from the iterator at a time.
const CHUNK: usize = 256;

/// Messages to publish, one for each body of an iterator: created by [`Publisher::publish_many`], sent by one of three
/// methods, which are those of [`Publish`].
///
/// The messages are put into the output buffer many at a time, which costs less than one call for each. They keep their
/// order, also among the other messages of their channel, which may come in between. The iterator is advanced as there
/// is room, so it may be long, or slow.
///
/// Dropping the future before it resolves sends the first messages, or none: each of them completely.
#[must_use = "nothing is published before it is sent"]
pub struct PublishMany<'a, I> {
    publisher: &'a Publisher,
    bodies: I,
}

impl<'a, I> PublishMany<'a, I>
where
    I: Iterator<Item: Into<Body<'a>>>,
{
    pub(crate) fn new(publisher: &'a Publisher, bodies: I) -> Self {
        Self { publisher, bodies }
    }

    /// Sends the messages without confirms, so their outcomes are not known. Resolves to their number when all are in
    /// the output buffer.
    ///
    /// # Errors
    /// The errors of [`Publish::send`], for the first message that can't be sent. [`PublishManyError::sent`] says how
    /// many messages were sent before it; none is after it.
    pub async fn send(self) -> Result<usize, PublishManyError> {
        let mut attempt = Attempt::new(self, false);
        poll_fn(|context| attempt.poll(context)).await.map_err(|error| attempt.failed(error))?;
        Ok(attempt.tags.count())
    }

    /// Sends the messages and waits until the broker has confirmed all: see [`Publish::confirm`].
    ///
    /// # Errors
    /// [`PublishManyError`] if a message could not be sent, or the broker did not confirm it. The error names each such
    /// message and its reason; all others that were sent are confirmed.
    pub async fn confirm(self) -> Result<(), PublishManyError> {
        let mut attempt = Attempt::new(self, true);
        let stopped = poll_fn(|context| attempt.poll(context)).await.map_err(|error| attempt.failed(error));
        let mut confirms = attempt.confirms();
        let outcome = poll_fn(|context| confirms.poll_outcomes(context)).await;
        let Err(mut stopped) = stopped else { return outcome };
        if let Err(others) = outcome {
            stopped.failed.splice(0..0, others.failed);
        }
        Err(stopped)
    }

    /// Sends the messages and returns their [`Confirms`] to await later, so that many batches can be in flight.
    ///
    /// # Errors
    /// The errors of [`PublishMany::send`]. The broker's answers are reported by the [`Confirms`].
    pub async fn confirm_later(self) -> Result<Confirms, PublishManyError> {
        let mut attempt = Attempt::new(self, true);
        poll_fn(|context| attempt.poll(context)).await.map_err(|error| attempt.failed(error))?;
        Ok(attempt.confirms())
    }
}

impl<I> fmt::Debug for PublishMany<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishMany").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

/// The attempts to put all messages into the output buffer.
struct Attempt<'a, I> {
    publisher: &'a Publisher,
    bodies: I,
    /// Bodies that were taken from the iterator and not sent yet.
    taken: VecDeque<Body<'a>>,
    confirm: bool,
    tags: Tags,
    wait: RoomWait,
    /// The deadline that [`Channel::within`](crate::Channel::within) sets for the whole batch.
    deadline: Option<Time>,
}

impl<'a, I> Attempt<'a, I>
where
    I: Iterator<Item: Into<Body<'a>>>,
{
    fn new(batch: PublishMany<'a, I>, confirm: bool) -> Self {
        let PublishMany { publisher, bodies } = batch;
        let channel = publisher.channel();
        let deadline = channel.timeout().map(|_| channel.deadline());
        let (taken, tags, wait) = (VecDeque::new(), Tags::default(), RoomWait::default());
        Self { publisher, bodies, taken, confirm, tags, wait, deadline }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let channel = self.publisher.channel();
        let core = channel.core();
        loop {
            if self.taken.is_empty() {
                self.taken.extend(self.bodies.by_ref().take(CHUNK).map(Into::into));
            }
            if self.taken.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (route, properties, prepared) = self.publisher.parts();
            let bodies = &mut self.taken;
            let tags = &mut self.tags;
            let mut batch = OutgoingMany { route, properties, prepared, bodies, confirm: self.confirm, tags };
            let deadline = || self.deadline.unwrap_or_else(|| channel.deadline());
            ready!(core.shared().poll_publish_many(&core.id, &mut batch, &mut self.wait, deadline, context.waker()))?;
        }
    }

    /// Returns the error for the message that could not be sent.
    fn failed(&self, error: Error) -> PublishManyError {
        let sent = self.tags.count();
        PublishManyError { sent, failed: vec![(sent, error)] }
    }

    fn confirms(&mut self) -> Confirms {
        let channel = self.publisher.channel();
        let core = Arc::clone(channel.core());
        let tags = std::mem::take(&mut self.tags);
        Confirms { core, left: tags.clone(), tags, deadline: self.deadline, alarm: None, settled: false }
    }
}

impl<I> Drop for Attempt<'_, I> {
    fn drop(&mut self) {
        let core = self.publisher.channel().core();
        core.shared().abandon_publish(&self.wait);
        if self.confirm && self.tags.count() > 0 {
            core.shared().forget_confirms(&core.id, &self.tags, None);
        }
    }
}

/// The confirms of many messages: a future that resolves when the broker has taken responsibility for all of them, or
/// has refused or returned some. See [`Confirm`].
///
/// # Errors
/// [`PublishManyError`], which names each message that was not confirmed and its reason.
#[must_use = "whether the broker has the messages is not known unless this is awaited"]
pub struct Confirms {
    core: Arc<ChannelCore>,
    tags: Tags,
    /// Those that may not be settled.
    left: Tags,
    /// The deadline, if it started before the messages were sent.
    deadline: Option<Time>,
    /// The request that carries the deadline, created when the confirms were polled before they arrived.
    alarm: Option<RequestKey>,
    settled: bool,
}

impl Confirms {
    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.tags.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn poll_outcomes(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PublishManyError>> {
        let Self { core, tags, left, deadline, alarm, .. } = self;
        let shared = core.shared();
        let deadline = || deadline.unwrap_or_else(|| shared.clock.now() + shared.limits.confirm_timeout);
        let failed = ready!(shared.poll_confirms(&core.id, tags, left, alarm, deadline, context.waker()));
        self.settled = true;
        Poll::Ready(match failed.is_empty() {
            true => Ok(()),
            false => Err(PublishManyError { sent: self.len(), failed }),
        })
    }
}

impl Future for Confirms {
    type Output = Result<(), PublishManyError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcomes(context)
    }
}

impl Drop for Confirms {
    fn drop(&mut self) {
        if self.settled && self.alarm.is_none() {
            return;
        }
        self.core.shared().forget_confirms(&self.core.id, &self.tags, self.alarm);
    }
}

impl fmt::Debug for Confirms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirms").field("channel", &self.core.id.number).field("count", &self.len()).finish()
    }
}

/// Some messages of a batch were not confirmed, or not sent.
///
/// It converts into [`Error`](crate::Error), with the kind of the first message's error, so that `?` works in functions
/// that return [`Result`](crate::Result).
#[derive(Clone, Debug)]
pub struct PublishManyError {
    sent: usize,
    failed: Vec<(usize, Error)>,
}

impl PublishManyError {
    /// Returns how many messages were sent to the broker. If that is less than the batch has, sending stopped at an
    /// error, which is the last of [`failed`](Self::failed).
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Returns the messages that failed, by their index in the batch and in its order, with the reasons: those of
    /// [`Publish::confirm`].
    pub fn failed(&self) -> &[(usize, Error)] {
        &self.failed
    }
}

impl fmt::Display for PublishManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = self.failed.last().is_some_and(|(index, _)| *index == self.sent);
        let unconfirmed = self.failed.len() - usize::from(stopped);
        match (unconfirmed, stopped) {
            (0, _) => write!(f, "{} messages of the batch were sent, then one could not be", self.sent),
            (_, false) => write!(f, "{unconfirmed} of {} messages were not confirmed", self.sent),
            (_, true) => write!(f, "{unconfirmed} of {} messages were not confirmed, then one was not sent", self.sent),
        }?;
        match self.failed.first() {
            Some((index, error)) => write!(f, "; the first is number {index}: {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PublishManyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failed.first().map(|(_, error)| error as _)
    }
}

impl From<PublishManyError> for Error {
    fn from(error: PublishManyError) -> Self {
        let text = error.to_string();
        match error.failed.into_iter().next() {
            Some((_, first)) => first.wrapped(first.kind(), text),
            None => Error::new(crate::ErrorKind::Usage, text),
        }
    }
}
