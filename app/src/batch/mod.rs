//! Handlers of batches: functions that take many messages at once.
//!
//! Owns the step from messages to the future of a handler, and the places in which those futures live. In come the
//! messages of a batch; out go its verdicts, and those of messages that can't be read. It must never know a queue, and
//! settles nothing.

mod outcome;

use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

pub use outcome::{IntoVerdicts, Verdicts};

use crate::context::Context;
#[cfg(feature = "codec")]
use crate::extract::Out;
use crate::extract::{FromDelivery, FromRef, State};
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// The messages of a batch, in the order of the queue: the first argument of a handler that
/// [`App::route_batch`](crate::App::route_batch) takes. Never empty.
///
/// Each message is read by the extractor `T`; a tuple reads more than one thing. A message that can't be read goes to
/// the dead letters alone, and is not in the batch.
///
/// ```
/// use hopmq_app::{Attempt, Batch, Json, Verdict};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// // One outcome for all.
/// async fn store(orders: Batch<Json<Order>>) -> Result<(), std::io::Error> {
///     println!("{} orders, the first is {}", orders.len(), orders[0].0.id);
///     Ok(())
/// }
///
/// // One outcome each, in the order of the batch.
/// async fn check(orders: Batch<(Json<Order>, Attempt)>) -> Vec<Verdict> {
///     orders.into_iter().map(|(Json(order), Attempt(attempt))| Verdict::Ack).collect()
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch<T>(pub Vec<T>);

impl<T> Deref for Batch<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for Batch<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// An argument of a batch handler that belongs to the app and to no message: [`State`], [`Context`], and
/// `Out` of the features that bring formats.
#[diagnostic::on_unimplemented(
    message = "a batch handler can't take `{Self}` beside its batch",
    label = "belongs to no single message",
    note = "what belongs to each message is read with it: `Batch<(Json<Order>, {Self})>`"
)]
pub trait FromApp<S>: Sized {
    /// Reads the argument.
    fn from_app(context: &Context, state: &S) -> Self;
}

impl<S, T: FromRef<S>> FromApp<S> for State<T> {
    fn from_app(_: &Context, state: &S) -> Self {
        Self(T::from_ref(state))
    }
}

impl<S> FromApp<S> for Context {
    fn from_app(context: &Context, _: &S) -> Self {
        context.clone()
    }
}

#[cfg(feature = "codec")]
impl<S, T, C> FromApp<S> for Out<T, C> {
    fn from_app(context: &Context, _: &S) -> Self {
        Self::new(context)
    }
}

/// A function that handles batches: `async fn(Batch<T>, …) -> …` with up to four arguments after the batch that
/// implement [`FromApp`], and a result that implements [`IntoVerdicts`].
#[diagnostic::on_unimplemented(
    message = "this function is not a batch handler of an app whose state is `{S}`",
    label = "not a batch handler",
    note = "a batch handler is `async fn`, its first argument is `Batch<T>` whose `T` implements `FromDelivery<{S}>`, \
            each other argument implements `FromApp<{S}>`, and the result is an outcome or one outcome a message"
)]
pub trait BatchHandler<S, A>: 'static {
    /// What reads each message.
    type Item: FromDelivery<S>;
    /// What the future yields.
    type Outcome: IntoVerdicts;
    /// The future of one call.
    type Future: Future<Output = Self::Outcome> + 'static;

    /// Calls the function.
    fn call(&self, batch: Batch<Self::Item>, context: &Context, state: &S) -> Self::Future;
}

/// A place in which a handler works on one batch at a time, again and again.
pub trait BatchSlot<S> {
    /// Starts to work on the messages that can be read, and returns the verdicts about the others with their indexes,
    /// in ascending order. If none can be read, the slot stays free.
    fn start(&mut self, batch: &mut [Incoming], context: &Context, state: &S) -> Vec<(usize, Verdict)>;

    /// Goes on with the batch. After it is ready, the slot is free.
    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Verdicts>;

    /// Gives up the batch, and frees the slot.
    fn clear(&mut self);
}

impl<S, T: BatchSlot<S> + ?Sized> BatchSlot<S> for Box<T> {
    fn start(&mut self, batch: &mut [Incoming], context: &Context, state: &S) -> Vec<(usize, Verdict)> {
        (**self).start(batch, context, state)
    }

    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Verdicts> {
        (**self).poll(task)
    }

    fn clear(&mut self) {
        (**self).clear();
    }
}

/// The slot of a batch handler.
pub(crate) struct BatchHandlerSlot<H: BatchHandler<S, A>, S, A> {
    handler: H,
    future: Pin<Box<Option<H::Future>>>,
    arguments: PhantomData<fn(S, A)>,
}

impl<H: BatchHandler<S, A>, S, A> BatchHandlerSlot<H, S, A> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, future: Box::pin(None), arguments: PhantomData }
    }
}

impl<H: BatchHandler<S, A>, S, A> BatchSlot<S> for BatchHandlerSlot<H, S, A> {
    fn start(&mut self, batch: &mut [Incoming], context: &Context, state: &S) -> Vec<(usize, Verdict)> {
        let mut items = Vec::with_capacity(batch.len());
        let mut unreadable = Vec::new();
        for (index, incoming) in batch.iter_mut().enumerate() {
            match H::Item::from_delivery(incoming, state) {
                Ok(item) => items.push(item),
                Err(verdict) => unreadable.push((index, verdict)),
            }
        }
        if !items.is_empty() {
            self.future.set(Some(self.handler.call(Batch(items), context, state)));
        }
        unreadable
    }

    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<Verdicts> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let Poll::Ready(outcome) = future.poll(task) else { return Poll::Pending };
        self.future.set(None);
        Poll::Ready(outcome.into_verdicts())
    }

    fn clear(&mut self) {
        self.future.set(None);
    }
}

macro_rules! handlers {
    ($(($($argument:ident)*))*) => {$(
        impl<S, F, Fut, T, $($argument),*> BatchHandler<S, (Fut, T, $($argument,)*)> for F
        where
            F: Fn(Batch<T>, $($argument),*) -> Fut + 'static,
            Fut: Future<Output: IntoVerdicts> + 'static,
            T: FromDelivery<S>,
            $($argument: FromApp<S>,)*
        {
            type Item = T;
            type Outcome = Fut::Output;
            type Future = Fut;

            #[allow(non_snake_case, unused_variables, reason = "the arguments are named as their types")]
            fn call(&self, batch: Batch<T>, context: &Context, state: &S) -> Fut {
                $(let $argument = $argument::from_app(context, state);)*
                self(batch, $($argument),*)
            }
        }

        #[cfg(feature = "net")]
        impl<S, F, R, T, $($argument),*> BatchHandler<S, (R, T, $($argument,)*)> for crate::handler::Cpu<F>
        where
            F: Fn(Batch<T>, $($argument),*) -> R + Clone + Send + 'static,
            R: IntoVerdicts + 'static,
            T: FromDelivery<S> + Send + 'static,
            $($argument: FromApp<S> + Send + 'static,)*
        {
            type Item = T;
            type Outcome = Verdicts;
            type Future = blocking::Task<Verdicts>;

            #[allow(non_snake_case, unused_variables, reason = "the arguments are named as their types")]
            fn call(&self, batch: Batch<T>, context: &Context, state: &S) -> Self::Future {
                $(let $argument = $argument::from_app(context, state);)*
                let function = self.0.clone();
                blocking::unblock(move || function(batch, $($argument),*).into_verdicts())
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
}

macro_rules! tuples {
    ($(($($item:ident)*))*) => {$(
        /// Reads each in turn.
        impl<S, $($item: FromDelivery<S>),*> FromDelivery<S> for ($($item,)*) {
            fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
                Ok(($($item::from_delivery(incoming, state)?,)*))
            }
        }
    )*};
}

tuples! {
    (A B)
    (A B C)
    (A B C D)
}
