//! Whether the futures of an app may move between threads.
//!
//! Owns the types that an app's handlers are erased to. It must never know a handler or a queue.

use std::future::Future;
use std::pin::Pin;

#[cfg(doc)]
use crate::App;
use crate::batch::BatchSlot;
use crate::context::Context;
use crate::control::Control;
use crate::error::Error;
use crate::handler::Slot;

/// Whether the futures of an app's handlers may move between threads: [`Threads`] or [`Local`].
pub trait Mode<S>: 'static {
    /// A slot of any handler.
    type Slot: Slot<S> + Unpin + 'static;
    /// Makes the slots of one handler.
    type Slots: Fn() -> Self::Slot;
    /// Wraps the slots of all handlers in a layer.
    type Wrap: Fn(Self::Slot) -> Self::Slot;
    /// A slot of any batch handler.
    type BatchSlot: BatchSlot<S> + Unpin + 'static;
    /// Makes the slots of one batch handler.
    type BatchSlots: Fn() -> Self::BatchSlot;
    /// The future that runs beside the handlers: see [`App::beside`].
    type Beside: Future<Output = Result<(), Error>> + Unpin + 'static;
    /// Makes that future.
    type Besides: FnOnce(Context, Control) -> Self::Beside;

    /// Makes slots of those that may move between threads.
    fn slots<T: Slot<S> + Unpin + Send + 'static>(make: impl Fn() -> T + Send + Sync + 'static) -> Self::Slots;

    /// Makes a future of one that may move between threads.
    fn beside<F>(make: impl FnOnce(Context, Control) -> F + Send + Sync + 'static) -> Self::Besides
    where
        F: Future<Output = Result<(), Error>> + Send + 'static;
}

/// Handlers whose futures are `Send`: the future that runs the app is `Send` as well.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

/// Handlers of any kind: the app runs on the thread that polls it.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl<S: 'static> Mode<S> for Threads {
    type Slot = Box<dyn Slot<S> + Send>;
    type Slots = Box<dyn Fn() -> Self::Slot + Send + Sync>;
    type Wrap = Box<dyn Fn(Self::Slot) -> Self::Slot + Send + Sync>;
    type BatchSlot = Box<dyn BatchSlot<S> + Send>;
    type BatchSlots = Box<dyn Fn() -> Self::BatchSlot + Send + Sync>;
    type Beside = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
    type Besides = Box<dyn FnOnce(Context, Control) -> Self::Beside + Send + Sync>;

    fn slots<T: Slot<S> + Unpin + Send + 'static>(make: impl Fn() -> T + Send + Sync + 'static) -> Self::Slots {
        Box::new(move || Box::new(make()))
    }

    fn beside<F>(make: impl FnOnce(Context, Control) -> F + Send + Sync + 'static) -> Self::Besides
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Box::new(move |context, control| Box::pin(make(context, control)))
    }
}

impl<S: 'static> Mode<S> for Local {
    type Slot = Box<dyn Slot<S>>;
    type Slots = Box<dyn Fn() -> Self::Slot>;
    type Wrap = Box<dyn Fn(Self::Slot) -> Self::Slot>;
    type BatchSlot = Box<dyn BatchSlot<S>>;
    type BatchSlots = Box<dyn Fn() -> Self::BatchSlot>;
    type Beside = Pin<Box<dyn Future<Output = Result<(), Error>>>>;
    type Besides = Box<dyn FnOnce(Context, Control) -> Self::Beside>;

    fn slots<T: Slot<S> + Unpin + Send + 'static>(make: impl Fn() -> T + Send + Sync + 'static) -> Self::Slots {
        Box::new(move || Box::new(make()))
    }

    fn beside<F>(make: impl FnOnce(Context, Control) -> F + Send + Sync + 'static) -> Self::Besides
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        Box::new(move |context, control| Box::pin(make(context, control)))
    }
}

/// The modes whose handlers are async functions: [`Threads`] and [`Local`].
pub trait Asynchronous {}

impl Asynchronous for Threads {}
impl Asynchronous for Local {}
