//! The future of a reply.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hopmq_proto::method::Method;

use crate::state::keys::RequestKey;
use crate::state::{Reply, Shared};
use crate::{Error, ErrorKind, Result};

/// A request to the broker, and a future of its reply.
///
/// The request is sent when the method that returns this future is called, not when the future is first polled. To have
/// several requests in flight at once, call all the methods before awaiting the first future. A request without a reply
/// ends with [`ErrorKind::Timeout`].
///
/// Dropping the future discards the reply, not the request: a queue is still declared. What the reply would have
/// returned is released: a channel is closed, a consumer is cancelled, a fetched message is requeued.
#[must_use = "the request is sent, but whether it succeeded is not known unless it is awaited"]
pub struct Request<T> {
    state: Progress,
    finish: Option<Finish<T>>,
}

type Finish<T> = Box<dyn FnOnce(Reply) -> Result<T> + Send>;

enum Progress {
    Failed(Error),
    Waiting { shared: Arc<Shared>, key: RequestKey },
    Done,
}

impl<T> Request<T> {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        sent: Result<RequestKey>,
        finish: impl FnOnce(Reply) -> Result<T> + Send + 'static,
    ) -> Self {
        match sent {
            Ok(key) => {
                let state = Progress::Waiting { shared: Arc::clone(shared), key };
                Self { state, finish: Some(Box::new(finish)) }
            }
            Err(error) => Self::failed(error),
        }
    }

    /// Creates a request that was not sent.
    pub(crate) fn failed(error: Error) -> Self {
        Self { state: Progress::Failed(error), finish: None }
    }

    /// Converts the result of the request.
    pub(crate) fn map<U: 'static>(mut self, map: impl FnOnce(T) -> U + Send + 'static) -> Request<U>
    where
        T: 'static,
    {
        let state = std::mem::replace(&mut self.state, Progress::Done);
        let finish = self.finish.take().map(|finish| -> Finish<U> { Box::new(move |reply| finish(reply).map(map)) });
        Request { state, finish }
    }
}

impl Request<()> {
    /// Creates a request whose reply carries no data.
    pub(crate) fn plain(shared: &Arc<Shared>, sent: Result<RequestKey>) -> Self {
        Self::new(shared, sent, |_| Ok(()))
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let outcome = ready!(this.state.poll(context));
        Poll::Ready(outcome.and_then(|reply| match this.finish.take() {
            Some(finish) => finish(reply),
            None => Err(ended()),
        }))
    }
}

impl Progress {
    /// Polls for the reply, before it is converted.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Reply>> {
        let outcome = match self {
            Self::Waiting { shared, key } => {
                ready!(shared.poll_request(*key, context.waker()))
            }
            Self::Failed(error) => return Poll::Ready(Err(error.clone())),
            Self::Done => return Poll::Ready(Err(ended())),
        };
        *self = Self::Done;
        Poll::Ready(outcome)
    }

    /// Discards the reply.
    fn abandon(&self) {
        if let Self::Waiting { shared, key } = self {
            shared.abandon(*key);
        }
    }
}

#[cold]
fn ended() -> Error {
    Error::new(ErrorKind::Usage, "this Request has already returned its result: do not poll it again")
}

impl<T> Unpin for Request<T> {}

impl<T> Drop for Request<T> {
    fn drop(&mut self) {
        self.state.abandon();
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            Progress::Failed(_) => "failed",
            Progress::Waiting { .. } => "waiting",
            Progress::Done => "done",
        };
        f.debug_tuple("Request").field(&state).finish()
    }
}

/// Decodes a reply that must be one kind of method.
pub(crate) fn decode<T>(reply: &Reply, read: impl FnOnce(Method<'_>) -> Option<T>) -> Result<T> {
    read(method(reply)?).ok_or_else(of_another_kind)
}

fn method(reply: &Reply) -> Result<Method<'_>> {
    Ok(Method::decode(reply.payload()?)?)
}

#[cold]
fn of_another_kind() -> Error {
    Error::new(ErrorKind::Protocol, "unexpected reply type")
}
