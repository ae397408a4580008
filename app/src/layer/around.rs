use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Layer;
use super::endpoint::{Outer, Running, Switch, Wrapped};
use crate::flow::Verdict;
use crate::handler::Slot;
use crate::incoming::Incoming;
use crate::outcome::IntoVerdict;

/// Makes a layer of an async function that is called in place of each handler, and may run it.
///
/// The function gets the message, without the right to settle it, and the handler as [`Next`]. What it returns counts;
/// without `next.run()`, the handler is not called. It costs a copy of the message's views for each message, and no
/// allocation. The handler is polled beside the function's future rather than in it, so a span that is entered around
/// `next.run()` is not the handler's: spans belong into an [`Observer`](crate::Observer).
///
/// ```
/// use hopmq_app::{App, Incoming, Next, Queue, Reject, Verdict, around};
///
/// async fn only_ours(message: Incoming, next: Next) -> Verdict {
///     if message.routing_key().starts_with("north.") {
///         next.run().await
///     } else {
///         Reject::because("not for this shop").into()
///     }
/// }
///
/// let app = App::new(())
///     .layer(around(only_ours))
///     .layer(around(|message: Incoming, next: Next| async move {
///         let verdict = next.run().await;
///         println!("{}: {}", message.queue(), verdict.name());
///         verdict
///     }))
///     .route(Queue::new("orders"), || async {});
/// ```
pub fn around<F, Fut>(function: F) -> Around<F>
where
    F: Fn(Incoming, Next) -> Fut + Clone + 'static,
    Fut: Future<Output: IntoVerdict> + 'static,
{
    Around(function)
}

/// A layer made of an async function: created by [`around`].
#[derive(Clone, Copy, Debug)]
pub struct Around<F>(F);

/// The handler inside a layer made by [`around`].
#[derive(Debug)]
pub struct Next(Switch);

impl Next {
    /// Runs the handler, and returns its verdict. Dropping the future drops the handler's.
    pub fn run(self) -> Running {
        self.0.run()
    }
}

impl<S, T, F, Fut> Layer<S, T> for Around<F>
where
    T: Slot<S> + 'static,
    F: Fn(Incoming, Next) -> Fut + Clone + 'static,
    Fut: Future<Output: IntoVerdict> + 'static,
{
    type Slot = Wrapped<Calling<F, Fut>, T>;

    fn wrap(&self, inner: T) -> Self::Slot {
        let switch = Switch::default();
        let outer = Calling { function: self.0.clone(), switch: switch.clone(), future: Box::pin(None) };
        Wrapped::new(outer, inner, switch)
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Calling<F, Fut> {
    function: F,
    switch: Switch,
    /// It has the same place in memory for every message.
    future: Pin<Box<Option<Fut>>>,
}

impl<F, Fut> Outer for Calling<F, Fut>
where
    F: Fn(Incoming, Next) -> Fut,
    Fut: Future<Output: IntoVerdict>,
{
    fn start(&mut self, incoming: Incoming) {
        self.future.set(Some((self.function)(incoming, Next(self.switch.clone()))));
    }

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Verdict> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let Poll::Ready(outcome) = future.poll(task) else { return Poll::Pending };
        self.future.set(None);
        Poll::Ready(outcome.into_verdict())
    }

    fn clear(&mut self) {
        self.future.set(None);
    }
}
