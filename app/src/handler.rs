//! Handlers: functions whose arguments are extractors.
//!
//! Owns the step from a message to the future of a handler, and the places in which those futures live. It must never
//! know a queue, and settles nothing.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::extract::FromDelivery;
use crate::flow::Verdict;
use crate::incoming::Incoming;
use crate::outcome::IntoVerdict;

/// A function that handles messages: `async fn(…) -> …` with up to twelve arguments that implement [`FromDelivery`],
/// and a result that implements [`IntoVerdict`].
#[diagnostic::on_unimplemented(
    message = "this function is not a handler of an app whose state is `{S}`",
    label = "not a handler",
    note = "a handler is `async fn`, each argument implements `FromDelivery<{S}>`, and the result is an outcome; \
            `#[hopmq_app::handler]` on the function says which argument does not fit",
    note = "a plain `fn`, which runs on a pool of threads, is given as `cpu(name)`"
)]
pub trait Handler<S, A>: 'static {
    /// What the future yields.
    type Outcome: IntoVerdict;
    /// The future of one call.
    type Future: Future<Output = Self::Outcome> + 'static;

    /// Reads the arguments from the message and calls the function.
    ///
    /// # Errors
    /// What must happen with the message if an argument can't be read.
    fn call(&self, incoming: &mut Incoming, state: &S) -> Result<Self::Future, Verdict>;
}

/// A place in which a handler works on one message at a time, again and again.
pub trait Slot<S> {
    /// Starts to work on a message. Returns a verdict if an argument of the handler can't be read.
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict>;

    /// Goes on with the message that was started. After it is ready, the slot is free.
    fn poll(&mut self, incoming: &mut Incoming, state: &S, context: &mut Context<'_>) -> Poll<Verdict>;

    /// Gives up the message, and frees the slot.
    fn clear(&mut self);
}

impl<S, T: Slot<S> + ?Sized> Slot<S> for Box<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        (**self).start(incoming, state)
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, context: &mut Context<'_>) -> Poll<Verdict> {
        (**self).poll(incoming, state, context)
    }

    fn clear(&mut self) {
        (**self).clear();
    }
}

/// The slot of a handler: its future has the same place in memory for every message.
pub(crate) struct HandlerSlot<H: Handler<S, A>, S, A> {
    handler: H,
    future: Pin<Box<Option<H::Future>>>,
    arguments: PhantomData<fn(S, A)>,
}

impl<H: Handler<S, A>, S, A> HandlerSlot<H, S, A> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, future: Box::pin(None), arguments: PhantomData }
    }
}

impl<H: Handler<S, A>, S, A> Slot<S> for HandlerSlot<H, S, A> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        match self.handler.call(incoming, state) {
            Ok(future) => {
                self.future.set(Some(future));
                None
            }
            Err(verdict) => Some(verdict),
        }
    }

    fn poll(&mut self, _: &mut Incoming, _: &S, context: &mut Context<'_>) -> Poll<Verdict> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let Poll::Ready(outcome) = future.poll(context) else { return Poll::Pending };
        self.future.set(None);
        Poll::Ready(outcome.into_verdict())
    }

    fn clear(&mut self) {
        self.future.set(None);
    }
}

macro_rules! handlers {
    ($(($($argument:ident)*))*) => {$(
        impl<S, F, Fut, $($argument),*> Handler<S, (Fut, $($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + 'static,
            Fut: Future<Output: IntoVerdict> + 'static,
            $($argument: FromDelivery<S>,)*
        {
            type Outcome = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, unused_variables, reason = "the arguments are named as their types")]
            fn call(&self, incoming: &mut Incoming, state: &S) -> Result<Fut, Verdict> {
                $(let $argument = $argument::from_delivery(incoming, state)?;)*
                Ok(self($($argument),*))
            }
        }

        #[cfg(feature = "net")]
        impl<S, F, R, $($argument),*> Handler<S, (R, $($argument,)*)> for Cpu<F>
        where
            F: Fn($($argument),*) -> R + Clone + Send + 'static,
            R: IntoVerdict + 'static,
            $($argument: FromDelivery<S> + Send + 'static,)*
        {
            type Outcome = Verdict;
            type Future = blocking::Task<Verdict>;

            #[allow(non_snake_case, unused_variables, reason = "the arguments are named as their types")]
            fn call(&self, incoming: &mut Incoming, state: &S) -> Result<Self::Future, Verdict> {
                $(let $argument = $argument::from_delivery(incoming, state)?;)*
                let function = self.0.clone();
                let span = tracing::Span::current();
                Ok(blocking::unblock(move || span.in_scope(|| function($($argument),*).into_verdict())))
            }
        }
    )*};
}

handlers! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E G)
    (A B C D E G H)
    (A B C D E G H I)
    (A B C D E G H I J)
    (A B C D E G H I J K)
    (A B C D E G H I J K L)
    (A B C D E G H I J K L M)
}

/// A plain function that runs on a pool of threads: created by [`cpu`].
#[cfg(feature = "net")]
#[derive(Clone, Debug)]
pub struct Cpu<F>(pub(crate) F);

/// Makes a handler of a plain function that computes or blocks: it runs on a pool of threads, so that other messages
/// are handled meanwhile. Set the queue's [`concurrency`](crate::Queue::concurrency) to the number of threads that it
/// may use.
#[cfg(feature = "net")]
pub fn cpu<F>(function: F) -> Cpu<F> {
    Cpu(function)
}
