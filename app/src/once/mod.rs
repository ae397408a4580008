//! Handlers that skip what was done before.
//!
//! Owns the order of begin, work and complete around a handler, and the ids of messages. In come a handler and a store;
//! out goes a handler. It must never know how a store remembers, and settles nothing.

#[cfg(feature = "sqlite")]
mod effect;
mod memory;
#[cfg(feature = "sqlite")]
mod stored;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

#[cfg(feature = "sqlite")]
pub use effect::{Applied, Effect};
use hopmq::Time;
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use stored::SqliteStore;

use crate::alarms::Sleep;
use crate::context::Context;
use crate::extract::unreadable;
use crate::flow::{Failure, Payload, Verdict};
use crate::handler::Handler;
use crate::incoming::Incoming;
use crate::outcome::IntoVerdict;

/// How long a message waits before it asks again whether another worker is done with it.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What a message is known by: its queue, and its `message-id`. The same message in two queues is two messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The queue, or the group's queue of a partition.
    pub queue: String,
    /// The `message-id`, or what [`Once::by`] reads.
    pub id: String,
}

/// What a store says about a message that a worker begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// It was not done before: the worker must call [`Seen::complete`] or [`Seen::forget`].
    Fresh,
    /// It was done before, and this was the answer to its sender.
    Done(Option<Payload>),
    /// Another worker is at it.
    InWork,
}

/// A store of what was done: see [`once`].
///
/// It must forget at some time, because ids are without end: keep them for longer than a message can come twice, which
/// is as long as it can wait in a queue or be replayed.
pub trait Seen: Clone + Send + Sync + 'static {
    /// Begins with a message: of all workers that begin at the same time, one gets [`Begun::Fresh`].
    fn begin(&self, id: &MessageId, now: Time) -> impl Future<Output = Result<Begun, Failure>> + Send;

    /// Notes that the message is done.
    fn complete(
        &self,
        id: &MessageId,
        reply: Option<Payload>,
        now: Time,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Notes that the message is not done, and may begin again.
    fn forget(&self, id: &MessageId) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Forgets a message whose handler was dropped or panicked, at once if the store can: it must not block. The
    /// default does nothing, for stores in which a message that is in work for too long is fresh again.
    fn abandon(&self, id: &MessageId) {
        let _ = id;
    }
}

/// Makes a handler skip the messages that it has done before, as their `message-id` and `store` say.
///
/// A message that is done is acknowledged, or answered again, without a call. One that another worker is at waits in
/// its slot until that one is done. One that failed is forgotten, so that its next attempt and a replay from the dead
/// letters are handled. A message without an id can't be told from another one and goes to the dead letters: publish
/// with `Properties::with_message_id`, or let [`Builder`](hopmq::Builder) set ids, or read another id by
/// [`Once::by`].
///
/// The handler may still run twice if the program ends after it and before the store has noted it. Where that matters,
/// write both in one transaction: see `Effect` (feature `sqlite`).
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{App, Json, Queue};
/// use hopmq_app::once::{MemoryStore, once};
///
/// async fn send_mail(Json(address): Json<String>) {
///     println!("a mail to {address}");
/// }
///
/// let store = MemoryStore::new(100_000, Duration::from_secs(3600));
/// let app = App::new(()).route(Queue::new("mails"), once(store, send_mail));
/// ```
pub fn once<H, T: Seen>(store: T, handler: H) -> Once<H, T> {
    Once { handler, store, read: None }
}

/// A handler that skips what was done before: created by [`once`].
#[derive(Clone)]
pub struct Once<H, T> {
    handler: H,
    store: T,
    read: Option<Arc<ReadId>>,
}

type ReadId = dyn Fn(&Incoming) -> Option<String> + Send + Sync;

impl<H, T> Once<H, T> {
    /// Reads the id of a message in another way than from its `message-id`.
    #[must_use]
    pub fn by(mut self, read: impl Fn(&Incoming) -> Option<String> + Send + Sync + 'static) -> Self {
        self.read = Some(Arc::new(read));
        self
    }
}

impl<H, T> std::fmt::Debug for Once<H, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl MessageId {
    /// Returns the id of a message by its `message-id`.
    ///
    /// # Errors
    /// The message is rejected if it has none.
    pub fn of(incoming: &Incoming) -> Result<Self, Verdict> {
        let id = incoming.properties().message_id().filter(|id| !id.is_empty());
        let text = "the message has no message-id, by which it could be recognized when it comes twice; its publisher \
                    must set one";
        let id = id.ok_or_else(|| unreadable("message-id", text))?.to_owned();
        Ok(Self { queue: incoming.queue().to_owned(), id })
    }
}

impl<S, A, H, T> Handler<S, (T, A)> for Once<H, T>
where
    A: 'static,
    H: Handler<S, A>,
    T: Seen,
{
    type Outcome = Verdict;
    type Future = OnceFuture<H::Future, T>;

    fn call(&self, incoming: &mut Incoming, state: &S) -> Result<Self::Future, Verdict> {
        let id = match &self.read {
            None => MessageId::of(incoming)?,
            Some(read) => {
                let missing = || unreadable("message-id", "the message has no id of the kind that the app reads");
                MessageId { queue: incoming.queue().to_owned(), id: read(incoming).ok_or_else(missing)? }
            }
        };
        let work = Box::pin(self.handler.call(incoming, state)?);
        let context = incoming.context().clone();
        let begin = begin(&self.store, &id, &context);
        Ok(OnceFuture { work: Some(work), store: self.store.clone(), id, context, stage: Stage::Begin(begin) })
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// The future of a handler that skips what was done before.
pub struct OnceFuture<F, T: Seen> {
    /// The handler's future, which does nothing before it is polled.
    work: Option<Pin<Box<F>>>,
    store: T,
    id: MessageId,
    context: Context,
    stage: Stage,
}

/// Nothing in it is pinned in place.
impl<F, T: Seen> Unpin for OnceFuture<F, T> {}

enum Stage {
    Begin(Boxed<Begun>),
    /// Another worker is at it.
    Asleep(Sleep),
    Work,
    /// The outcome is noted.
    Noting(Boxed<()>, Option<Verdict>),
    Ended,
}

fn begin<T: Seen>(store: &T, id: &MessageId, context: &Context) -> Boxed<Begun> {
    let (store, id, now) = (store.clone(), id.clone(), context.alarms().now());
    Box::pin(async move { store.begin(&id, now).await })
}

impl<F, T: Seen> OnceFuture<F, T> {
    /// Begins to note an outcome.
    fn note(&self, verdict: Verdict) -> Stage {
        let (store, id, now) = (self.store.clone(), self.id.clone(), self.context.alarms().now());
        let reply = match &verdict {
            Verdict::Ack | Verdict::Taken => None,
            Verdict::Reply(reply) => Some(reply.clone()),
            _ => return Stage::Noting(Box::pin(async move { store.forget(&id).await }), Some(verdict)),
        };
        Stage::Noting(Box::pin(async move { store.complete(&id, reply, now).await }), Some(verdict))
    }
}

impl<F: Future<Output: IntoVerdict>, T: Seen> Future for OnceFuture<F, T> {
    type Output = Verdict;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Verdict> {
        let this = self.get_mut();
        loop {
            this.stage = match &mut this.stage {
                Stage::Begin(begin) => match ready!(begin.as_mut().poll(task)) {
                    Ok(Begun::Fresh) => Stage::Work,
                    Ok(Begun::InWork) => Stage::Asleep(this.context.sleep(ASK_AGAIN)),
                    Ok(Begun::Done(reply)) => {
                        this.stage = Stage::Ended;
                        return Poll::Ready(reply.map_or(Verdict::Ack, Verdict::Reply));
                    }
                    Err(failure) => {
                        this.stage = Stage::Ended;
                        return Poll::Ready(Verdict::Retry(failure));
                    }
                },
                Stage::Asleep(sleep) => {
                    ready!(Pin::new(sleep).poll(task));
                    Stage::Begin(begin(&this.store, &this.id, &this.context))
                }
                Stage::Work => {
                    let Some(work) = &mut this.work else { return Poll::Pending };
                    let outcome = ready!(work.as_mut().poll(task));
                    this.note(outcome.into_verdict())
                }
                Stage::Noting(noting, verdict) => {
                    // The handler has done its work, whatever the store says: to try again would do it twice.
                    if let Err(error) = ready!(noting.as_mut().poll(task)) {
                        tracing::warn!(id = ?this.id, %error, "whether a message is done could not be noted");
                    }
                    let verdict = verdict.take();
                    this.stage = Stage::Ended;
                    return Poll::Ready(verdict.unwrap_or(Verdict::Ack));
                }
                Stage::Ended => return Poll::Pending,
            };
        }
    }
}

/// A handler that is dropped in its work is not done. While the outcome is noted, it is.
impl<F, T: Seen> Drop for OnceFuture<F, T> {
    fn drop(&mut self) {
        if let Stage::Work = self.stage {
            self.store.abandon(&self.id);
        }
    }
}

impl<F, T: Seen> std::fmt::Debug for OnceFuture<F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnceFuture").field("id", &self.id).finish_non_exhaustive()
    }
}
