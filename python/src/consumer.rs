//! Consumers: deliveries one by one or in batches, awaited by tasks or waited for by threads.
//!
//! Owns the consumer of the core until it ends, and who waits for its next delivery. In come polls; out go messages,
//! with a turn of the loop now and then, so that a full queue does not starve other tasks. It must never keep a
//! delivery that no caller asked for.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;
use hopmq::{Acker, Deliveries, Settled};
use pyo3::exceptions::{PyIndexError, PyStopAsyncIteration, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::channel::table_or_empty;
use crate::convert::seconds;
use crate::errors::{IntoPy, exception, usage};
use crate::message::Message;
use crate::operation::{self, Operation, Outcome};
use crate::shared::Shared;

/// After how many deliveries that were there at once other tasks have a turn.
const BUDGET: u32 = 512;

/// How to consume.
pub(crate) struct Settings<'a> {
    pub(crate) prefetch: Option<u16>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
    pub(crate) no_local: bool,
    pub(crate) priority: Option<i32>,
}

/// Starts a consumer.
pub(crate) fn start(
    channel: &hopmq::Channel,
    queue: &str,
    settings: Settings<'_>,
    arguments: Option<&Bound<'_, PyAny>>,
) -> PyResult<Operation> {
    let mut consume = channel.consume(queue);
    if let Some(count) = settings.prefetch {
        consume = consume.prefetch(count);
    }
    if let Some(tag) = settings.tag {
        consume = consume.tag(tag);
    }
    if settings.no_ack {
        consume = consume.no_ack();
    }
    if settings.exclusive {
        consume = consume.exclusive();
    }
    if settings.no_local {
        consume = consume.no_local();
    }
    if let Some(priority) = settings.priority {
        consume = consume.priority(priority);
    }
    for (key, value) in table_or_empty(arguments)?.iter() {
        consume = consume.argument(key, value);
    }
    let (channel, no_ack, request) = (channel.clone(), settings.no_ack, consume.start());
    Ok(Operation::start(async move {
        let consumer = request.await;
        Python::attach(|py| {
            let core = consumer.py(py)?;
            let tag = PyString::new(py, core.tag()).unbind();
            let source = Arc::new(Shared::new(Stage::Single(core)));
            Ok(Py::new(py, Consumer { source, channel, tag, no_ack, spent: AtomicU32::new(0) })?.into_any())
        })
    }))
}

/// What deliveries come from.
enum Stage {
    Single(hopmq::Consumer),
    Batches(hopmq::Batches),
    Ended,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    fn poll_single(&mut self, context: &mut Context<'_>) -> Poll<Option<hopmq::Result<hopmq::Delivery>>> {
        match self {
            Self::Single(consumer) => Pin::new(consumer).poll_next(context),
            Self::Batches(_) => Poll::Ready(Some(Err(hopmq::Error::new(
                hopmq::ErrorKind::Usage,
                "this consumer hands out batches: take its messages from them",
            )))),
            Self::Ended => Poll::Ready(None),
        }
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<hopmq::Result<Deliveries>>> {
        match self {
            Self::Batches(batches) => Pin::new(batches).poll_next(context),
            Self::Single(_) | Self::Ended => Poll::Ready(None),
        }
    }
}

/// A consumer: an async iterator of messages.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Consumer {
    source: Arc<Shared<Stage>>,
    channel: hopmq::Channel,
    tag: Py<PyString>,
    no_ack: bool,
    spent: AtomicU32,
}

/// Makes the outcome of a stream's next item: the end of an async iterator is an exception.
fn next_async<T>(py: Python<'_>, item: Option<hopmq::Result<T>>, make: impl FnOnce(T) -> Outcome) -> Outcome {
    match item {
        Some(Ok(item)) => make(item),
        Some(Err(error)) => Err(exception(py, &error)),
        None => Err(PyStopAsyncIteration::new_err(())),
    }
}

/// Waits on this thread for the next item of a stream. `None` at its end.
fn next_blocking<T: Send>(
    py: Python<'_>,
    timeout: Option<&Bound<'_, PyAny>>,
    mut next: impl Future<Output = Option<hopmq::Result<T>>> + Send + Unpin,
) -> PyResult<Option<T>> {
    let limit: Option<Duration> = timeout.map(seconds).transpose()?;
    let item = match Pin::new(&mut next).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => item,
        Poll::Pending => match operation::wait(py, next, limit)? {
            Some(item) => item,
            None => return Err(PyTimeoutError::new_err("no message arrived in time")),
        },
    };
    item.transpose().py(py)
}

fn single(py: Python<'_>, delivery: hopmq::Delivery, tag: &Py<PyString>) -> Outcome {
    Ok(Py::new(py, Message::of_delivery(delivery, Some(tag.clone_ref(py))))?.into_any())
}

#[pymethods]
impl Consumer {
    /// The tag of the consumer.
    #[getter]
    fn tag(&self, py: Python<'_>) -> Py<PyString> {
        self.tag.clone_ref(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> Operation {
        let after_a_turn = self.spent.load(Ordering::Relaxed) >= BUDGET;
        if !after_a_turn && let Poll::Ready(item) = self.source.try_poll(Stage::poll_single) {
            self.spent.fetch_add(1, Ordering::Relaxed);
            return Operation::ready(next_async(py, item, |delivery| single(py, delivery, &self.tag)));
        }
        self.spent.store(0, Ordering::Relaxed);
        let (source, tag) = (Arc::clone(&self.source), self.tag.clone_ref(py));
        let work = Box::pin(async move {
            let item = source.wait(Stage::poll_single).await;
            Python::attach(|py| next_async(py, item, |delivery| single(py, delivery, &tag)))
        });
        // A delivery is taken only after the turn: one that a cancelled task held would be lost.
        if after_a_turn { Operation::after_a_turn(work) } else { Operation::waiting(work) }
    }

    /// Waits on this thread for the next message; `None` when the consumer has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let next = next_blocking(py, timeout, self.source.wait(Stage::poll_single))?;
        next.map(|delivery| single(py, delivery, &self.tag)).transpose()
    }

    /// Returns an iterator of messages for a thread.
    fn iterate(slf: Py<Self>) -> Iteration {
        Iteration { consumer: slf }
    }

    /// Makes the consumer hand out batches of up to `max_count` messages and about `max_size` bytes, and waits up to
    /// `wait` for a batch to fill.
    #[pyo3(signature = (max_count=None, *, wait=None, max_size=None))]
    fn batches(
        &self,
        py: Python<'_>,
        max_count: Option<usize>,
        wait: Option<&Bound<'_, PyAny>>,
        max_size: Option<usize>,
    ) -> PyResult<Batches> {
        let wait = wait.map(seconds).transpose()?;
        let mut stage = self.source.lock();
        let consumer = match std::mem::replace(&mut *stage, Stage::Ended) {
            Stage::Single(consumer) => consumer,
            other => {
                *stage = other;
                return Err(usage(py, "this consumer hands out batches already, or has ended"));
            }
        };
        let mut batches = consumer.batches();
        if let Some(count) = max_count {
            batches = batches.max_count(count);
        }
        if let Some(size) = max_size {
            batches = batches.max_size(size);
        }
        if let Some(wait) = wait {
            batches = batches.wait(wait);
        }
        *stage = Stage::Batches(batches);
        drop(stage);
        let (source, channel) = (Arc::clone(&self.source), self.channel.clone());
        Ok(Batches { source, channel, tag: self.tag.clone_ref(py), no_ack: self.no_ack, spent: AtomicBool::new(false) })
    }

    /// Cancels the consumer: messages that have arrived are still handed out, then it ends.
    fn cancel(&self) -> Operation {
        match &*self.source.lock() {
            Stage::Single(consumer) => crate::channel::done(consumer.cancel()),
            Stage::Batches(batches) => crate::channel::done(batches.cancel()),
            Stage::Ended => Python::attach(|py| Operation::ready(Ok(py.None()))),
        }
    }

    /// Cancels the consumer, and gives messages that were not handed out back to the queue.
    fn close(&self) -> Operation {
        let cancelled = match &*self.source.lock() {
            Stage::Single(consumer) => consumer.cancel(),
            Stage::Batches(batches) => batches.cancel(),
            Stage::Ended => return Python::attach(|py| Operation::ready(Ok(py.None()))),
        };
        self.source.replace(Stage::Ended);
        let is_open = self.channel.is_open();
        Operation::start(async move {
            let cancelled = cancelled.await;
            // A channel that is closed has no consumers, which is what was asked for.
            Python::attach(|py| match is_open {
                true => cancelled.py(py).map(|()| py.None()),
                false => Ok(py.None()),
            })
        })
    }

    fn __aenter__(slf: Py<Self>) -> Operation {
        Operation::ready(Ok(slf.into_any()))
    }

    #[pyo3(signature = (*_error))]
    fn __aexit__(&self, _error: &Bound<'_, PyTuple>) -> Operation {
        self.close()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Consumer {:?}>", self.tag.bind(py).to_string())
    }
}

/// The messages of a consumer, for a thread.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Iteration {
    consumer: Py<Consumer>,
}

#[pymethods]
impl Iteration {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.consumer.get().next_blocking(py, None)
    }
}

/// The batches of a consumer: an async iterator.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Batches {
    source: Arc<Shared<Stage>>,
    channel: hopmq::Channel,
    tag: Py<PyString>,
    no_ack: bool,
    /// Whether the last batch was there at once.
    spent: AtomicBool,
}

#[pymethods]
impl Batches {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>, py: Python<'_>) -> Operation {
        let this = slf.get();
        // A batch is worth a turn of the loop, and is taken after it: one that a cancelled task held would be lost.
        let after_a_turn = this.spent.swap(false, Ordering::Relaxed);
        if !after_a_turn && let Poll::Ready(item) = this.source.try_poll(Stage::poll_batch) {
            this.spent.store(true, Ordering::Relaxed);
            return Operation::ready(next_async(py, item, |batch| this.wrap(py, batch)));
        }
        let source = Arc::clone(&this.source);
        let work = Box::pin(async move {
            let item = source.wait(Stage::poll_batch).await;
            Python::attach(|py| next_async(py, item, |batch| slf.get().wrap(py, batch)))
        });
        if after_a_turn { Operation::after_a_turn(work) } else { Operation::waiting(work) }
    }

    /// Waits on this thread for the next batch; `None` when the consumer has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let next = next_blocking(py, timeout, self.source.wait(Stage::poll_batch))?;
        next.map(|batch| self.wrap(py, batch)).transpose()
    }
}

impl Batches {
    fn wrap(&self, py: Python<'_>, deliveries: Deliveries) -> Outcome {
        let link = deliveries.link();
        let tags = deliveries.iter().map(|delivery| delivery.delivery_tag()).collect();
        let facts: Vec<_> = deliveries
            .iter()
            .map(|delivery| (hopmq::Message::clone(&delivery), (delivery.delivery_tag(), link, delivery.redelivered())))
            .collect();
        let state = Mutex::new(HeldState { deliveries: Some(deliveries), settled: None });
        let held = Arc::new(Held { channel: self.channel.clone(), tags, link, no_ack: self.no_ack, state });
        let messages = PyList::empty(py);
        for (index, (message, facts)) in facts.into_iter().enumerate() {
            let tag = Some(self.tag.clone_ref(py));
            messages.append(Py::new(py, Message::of_batch(message, facts, &held, index, tag))?)?;
        }
        Ok(Py::new(py, Batch { messages: messages.unbind(), held })?.into_any())
    }
}

/// The right to settle the messages of a batch.
pub(crate) struct Held {
    channel: hopmq::Channel,
    tags: Vec<u64>,
    link: u32,
    no_ack: bool,
    state: Mutex<HeldState>,
}

struct HeldState {
    /// All messages, while none was settled by itself.
    deliveries: Option<Deliveries>,
    /// Which messages are settled, once one was by itself.
    settled: Option<Vec<bool>>,
}

/// The right to settle one message of a batch.
pub(crate) enum Part {
    Acker(Acker),
    NotNeeded,
    Gone,
}

impl Held {
    /// Takes the right to settle one message.
    pub(crate) fn take(&self, index: usize) -> Part {
        if self.no_ack {
            return Part::NotNeeded;
        }
        let mut state = lock(&self.state);
        if state.settled.is_none() {
            if state.deliveries.take().is_none() {
                return Part::Gone;
            }
            state.settled = Some(vec![false; self.tags.len()]);
        }
        let settled = state.settled.as_mut().and_then(|settled| settled.get_mut(index));
        match settled.map(|settled| std::mem::replace(settled, true)) {
            Some(false) => Part::Acker(self.channel.acker(self.tags[index], self.link)),
            _ => Part::Gone,
        }
    }

    /// Whether a message can be settled.
    pub(crate) fn has(&self, index: usize) -> bool {
        let state = lock(&self.state);
        match &state.settled {
            Some(settled) => settled.get(index).is_some_and(|settled| !settled),
            None => state.deliveries.is_some(),
        }
    }

    /// Settles what is not settled yet.
    fn settle(
        &self,
        all: impl FnOnce(Deliveries) -> hopmq::Result<Settled>,
        each: impl Fn(Acker) -> hopmq::Result<Settled>,
    ) -> hopmq::Result<Settled> {
        let mut state = lock(&self.state);
        if let Some(deliveries) = state.deliveries.take() {
            return all(deliveries);
        }
        let mut last = Ok(Settled::NotNeeded);
        for (index, settled) in state.settled.iter_mut().flatten().enumerate() {
            if !std::mem::replace(settled, true) {
                last = each(self.channel.acker(self.tags[index], self.link));
                last.clone()?;
            }
        }
        last
    }
}

/// Messages that arrived together: a sequence.
#[pyclass(frozen, sequence, module = "hopmq._hopmq")]
pub(crate) struct Batch {
    messages: Py<PyList>,
    held: Arc<Held>,
}

#[pymethods]
impl Batch {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.messages.bind(py).len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let messages = self.messages.bind(py);
        let len = messages.len();
        let place = if index < 0 { len.checked_sub(index.unsigned_abs()) } else { Some(index.unsigned_abs()) };
        match place.filter(|place| *place < len) {
            Some(place) => messages.get_item(place),
            None => Err(PyIndexError::new_err(format!("this batch has {len} messages, and no number {index}"))),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.messages.bind(py).try_iter()?.into_any())
    }

    /// Acks all messages that are not settled yet. Returns whether the broker will know.
    fn ack(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.held.settle(Deliveries::ack_all, Acker::ack).py(py)? != Settled::Stale)
    }

    /// Gives all messages that are not settled yet back to the queue, or drops or dead-letters them.
    #[pyo3(signature = (*, requeue=true))]
    fn nack(&self, py: Python<'_>, requeue: bool) -> PyResult<bool> {
        let settled = self.held.settle(|deliveries| deliveries.nack_all(requeue), |acker| acker.nack(requeue));
        Ok(settled.py(py)? != Settled::Stale)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Batch of {}>", self.__len__(py))
    }
}

/// Gives back what an operation held and no task took.
pub(crate) fn give_back(held: &Bound<'_, PyAny>) {
    // A link that was lost has given it back already.
    if let Ok(message) = held.cast::<Message>() {
        message.get().give_back();
    } else if let Ok(batch) = held.cast::<Batch>() {
        let _settled = batch.get().held.settle(|deliveries| deliveries.nack_all(true), |acker| acker.nack(true));
    }
}

/// The messages that the broker gave back: an async iterator that ends with the channel.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Returns {
    core: Arc<Shared<hopmq::Returns>>,
}

impl Returns {
    pub(crate) fn new(core: hopmq::Returns) -> Self {
        Self { core: Arc::new(Shared::new(core)) }
    }
}

fn poll_returned(core: &mut hopmq::Returns, context: &mut Context<'_>) -> Poll<Option<hopmq::Result<hopmq::Returned>>> {
    Pin::new(core).poll_next(context).map(|next| next.map(Ok))
}

#[pymethods]
impl Returns {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self) -> Operation {
        let core = Arc::clone(&self.core);
        // Polled only when it is awaited: what a cancelled task held would be lost.
        Operation::waiting(Box::pin(async move {
            let next = core.wait(poll_returned).await;
            Python::attach(|py| {
                next_async(py, next, |returned| Ok(Py::new(py, Message::of_returned(returned))?.into_any()))
            })
        }))
    }

    /// Waits on this thread for the next message; `None` when the channel has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Message>> {
        Ok(next_blocking(py, timeout, self.core.wait(poll_returned))?.map(Message::of_returned))
    }
}
