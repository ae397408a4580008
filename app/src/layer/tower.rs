use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_service::Service;

use super::Layer;
use super::endpoint::{Outer, Running, Switch, Wrapped};
use crate::flow::{Failure, Verdict};
use crate::handler::Slot;
use crate::incoming::Incoming;
use crate::outcome::IntoVerdict;

/// Makes a layer of a layer of tower: around a service that takes a message, without the right to settle it, and
/// responds with a [`Verdict`]. An error of the service is a failure of the class `tower`, and its message is tried
/// again.
///
/// Each slot has a service of its own, which handles one message at a time; a limit over all slots is a layer that
/// shares it, such as `GlobalConcurrencyLimitLayer`. Layers that wait need what they need elsewhere: those that use
/// tokio's timer run on tokio only, where [`Timeout`](crate::Timeout) and [`RateLimit`](crate::RateLimit) run anywhere
/// and in virtual time.
///
/// ```
/// use hopmq_app::{App, Incoming, Queue, tower};
/// use tower::util::MapRequestLayer;
///
/// let app = App::new(())
///     .layer(tower(MapRequestLayer::new(|message: Incoming| {
///         println!("a message of {}", message.queue());
///         message
///     })))
///     .route(Queue::new("orders"), || async {});
/// ```
pub fn tower<L>(layer: L) -> Tower<L> {
    Tower(layer)
}

/// A layer made of a layer of tower: created by [`tower`].
#[derive(Clone, Copy, Debug)]
pub struct Tower<L>(L);

/// The handler as a service of tower. Its response is the verdict, whatever message it is called with: the handler gets
/// the message that was delivered.
#[derive(Clone, Debug)]
pub struct Endpoint(Switch);

impl Service<Incoming> for Endpoint {
    type Response = Verdict;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Incoming) -> Answer {
        Answer(self.0.run())
    }
}

/// The future of [`Endpoint`].
#[derive(Debug)]
#[must_use = "the handler does not run before this is awaited"]
pub struct Answer(Running);

impl Future for Answer {
    type Output = Result<Verdict, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(task).map(Ok)
    }
}

impl<S, T, L> Layer<S, T> for Tower<L>
where
    T: Slot<S> + 'static,
    L: tower_layer::Layer<Endpoint>,
    L::Service: Service<Incoming, Response: IntoVerdict, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    type Slot = Wrapped<Serving<L::Service>, T>;

    fn wrap(&self, inner: T) -> Self::Slot {
        let switch = Switch::default();
        let service = self.0.layer(Endpoint(switch.clone()));
        Wrapped::new(Serving { service, waiting: None, future: Box::pin(None) }, inner, switch)
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Serving<V: Service<Incoming>> {
    service: V,
    /// The message for which the service is not ready yet.
    waiting: Option<Incoming>,
    future: Pin<Box<Option<V::Future>>>,
}

impl<V> Outer for Serving<V>
where
    V: Service<Incoming, Response: IntoVerdict, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    fn start(&mut self, incoming: Incoming) {
        self.waiting = Some(incoming);
    }

    fn poll(&mut self, task: &mut Context<'_>) -> Poll<Verdict> {
        if let Some(incoming) = self.waiting.take() {
            match self.service.poll_ready(task) {
                Poll::Ready(Ok(())) => self.future.set(Some(self.service.call(incoming))),
                Poll::Ready(Err(error)) => return Poll::Ready(failed(error)),
                Poll::Pending => {
                    self.waiting = Some(incoming);
                    return Poll::Pending;
                }
            }
        }
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let Poll::Ready(result) = future.poll(task) else { return Poll::Pending };
        self.future.set(None);
        Poll::Ready(result.map_or_else(failed, IntoVerdict::into_verdict))
    }

    fn clear(&mut self) {
        self.waiting = None;
        self.future.set(None);
    }
}

fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Verdict {
    Verdict::Retry(Failure::new("tower", error.into().to_string()))
}
