//! Consumers: deliveries one by one or in batches, awaited by tasks or waited for by threads.
//!
//! Owns the consumer of the core until it ends, and who waits for its next delivery. In come polls; out go messages,
//! with a turn of the loop now and then, so that a full queue does not starve other tasks. It must never keep a
//! delivery that no caller asked for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
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
            let source = Arc::new(Source { stage: Mutex::new(Stage::Single(core)), waiting: Arc::default() });
            Ok(Py::new(py, Consumer { source, channel, tag, no_ack, spent: AtomicU32::new(0) })?.into_any())
        })
    }))
}

/// What deliveries come from.
struct Source {
    stage: Mutex<Stage>,
    waiting: Arc<Waiting>,
}

enum Stage {
    Single(hopmq::Consumer),
    Batches(hopmq::Batches),
    Ended,
}

/// The tasks and threads that wait for the next delivery: the core knows one waker.
#[derive(Default)]
struct Waiting(Mutex<Vec<Waker>>);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let all = std::mem::take(&mut *lock(&self.0));
        all.into_iter().for_each(Waker::wake);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// Polls with the wakers of all that wait.
    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Stage, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut stage = lock(&self.stage);
        if context.waker().will_wake(Waker::noop()) {
            let polled = poll(&mut stage, context);
            // The poll has replaced the waker of those that wait.
            if polled.is_pending() && !lock(&self.waiting.0).is_empty() {
                drop(stage);
                Arc::clone(&self.waiting).wake();
            }
            return polled;
        }
        lock(&self.waiting.0).push(context.waker().clone());
        let waker = Waker::from(Arc::clone(&self.waiting));
        let polled = poll(&mut stage, &mut Context::from_waker(&waker));
        drop(stage);
        if polled.is_ready() {
            // There may be more for the others.
            Arc::clone(&self.waiting).wake();
        }
        polled
    }

    fn end(&self) {
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Ended);
        drop(stage);
        Arc::clone(&self.waiting).wake();
    }
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
    source: Arc<Source>,
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
    poll: impl FnMut(&mut Context<'_>) -> Poll<Option<hopmq::Result<T>>> + Send + Unpin,
) -> PyResult<Option<T>> {
    let limit: Option<Duration> = timeout.map(seconds).transpose()?;
    let mut future = poll_fn(poll);
    let item = match Pin::new(&mut future).poll_once() {
        Poll::Ready(item) => item,
        Poll::Pending => match operation::wait(py, future, limit)? {
            Some(item) => item,
            None => return Err(PyTimeoutError::new_err("no message arrived in time")),
        },
    };
    item.transpose().py(py)
}

trait PollOnce: Future {
    fn poll_once(self: Pin<&mut Self>) -> Poll<Self::Output>;
}

impl<F: Future> PollOnce for F {
    fn poll_once(self: Pin<&mut Self>) -> Poll<F::Output> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }
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

    fn __anext__(&self, py: Python<'_>) -> PyResult<Operation> {
        match self.source.poll(&mut Context::from_waker(Waker::noop()), Stage::poll_single) {
            Poll::Ready(item) => {
                let outcome = next_async(py, item, |delivery| single(py, delivery, &self.tag));
                if self.spent.fetch_add(1, Ordering::Relaxed) + 1 >= BUDGET
                    && let Ok(message) = outcome
                {
                    self.spent.store(0, Ordering::Relaxed);
                    return Operation::after_a_turn(py, message);
                }
                Ok(Operation::ready(outcome))
            }
            Poll::Pending => {
                self.spent.store(0, Ordering::Relaxed);
                let (source, tag) = (Arc::clone(&self.source), self.tag.clone_ref(py));
                Ok(Operation::waiting(Box::pin(async move {
                    let item = poll_fn(|context| source.poll(context, Stage::poll_single)).await;
                    Python::attach(|py| next_async(py, item, |delivery| single(py, delivery, &tag)))
                })))
            }
        }
    }

    /// Waits on this thread for the next message; `None` when the consumer has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let source = &*self.source;
        let next = next_blocking(py, timeout, |context: &mut Context<'_>| source.poll(context, Stage::poll_single))?;
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
        let mut stage = lock(&self.source.stage);
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
        Ok(Batches { source, channel, tag: self.tag.clone_ref(py), no_ack: self.no_ack })
    }

    /// Cancels the consumer: messages that have arrived are still handed out, then it ends.
    fn cancel(&self) -> Operation {
        match &*lock(&self.source.stage) {
            Stage::Single(consumer) => crate::channel::done(consumer.cancel()),
            Stage::Batches(batches) => crate::channel::done(batches.cancel()),
            Stage::Ended => Python::attach(|py| Operation::ready(Ok(py.None()))),
        }
    }

    /// Cancels the consumer, and gives messages that were not handed out back to the queue.
    fn close(&self) -> Operation {
        let cancelled = match &*lock(&self.source.stage) {
            Stage::Single(consumer) => consumer.cancel(),
            Stage::Batches(batches) => batches.cancel(),
            Stage::Ended => return Python::attach(|py| Operation::ready(Ok(py.None()))),
        };
        self.source.end();
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
    source: Arc<Source>,
    channel: hopmq::Channel,
    tag: Py<PyString>,
    no_ack: bool,
}

#[pymethods]
impl Batches {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>, py: Python<'_>) -> PyResult<Operation> {
        let this = slf.get();
        match this.source.poll(&mut Context::from_waker(Waker::noop()), Stage::poll_batch) {
            Poll::Ready(item) => {
                let batch = next_async(py, item, |batch| this.wrap(py, batch))?;
                // A batch is worth a turn of the loop.
                Operation::after_a_turn(py, batch)
            }
            Poll::Pending => {
                let source = Arc::clone(&this.source);
                Ok(Operation::waiting(Box::pin(async move {
                    let item = poll_fn(|context| source.poll(context, Stage::poll_batch)).await;
                    Python::attach(|py| next_async(py, item, |batch| slf.get().wrap(py, batch)))
                })))
            }
        }
    }

    /// Waits on this thread for the next batch; `None` when the consumer has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let source = &*self.source;
        let next = next_blocking(py, timeout, |context: &mut Context<'_>| source.poll(context, Stage::poll_batch))?;
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

/// The messages that the broker gave back: an async iterator that ends with the channel.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Returns {
    core: Arc<Mutex<hopmq::Returns>>,
}

impl Returns {
    pub(crate) fn new(core: hopmq::Returns) -> Self {
        Self { core: Arc::new(Mutex::new(core)) }
    }
}

fn returned(py: Python<'_>, returned: Option<hopmq::Returned>) -> Outcome {
    next_async(py, returned.map(Ok), |returned| Ok(Py::new(py, Message::of_returned(returned))?.into_any()))
}

#[pymethods]
impl Returns {
    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self) -> Operation {
        let core = Arc::clone(&self.core);
        Operation::start(async move {
            let next = poll_fn(|context| Pin::new(&mut *lock(&core)).poll_next(context)).await;
            Python::attach(|py| returned(py, next))
        })
    }

    /// Waits on this thread for the next message; `None` when the channel has ended.
    #[pyo3(signature = (timeout=None))]
    fn next_blocking(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Message>> {
        let core = &self.core;
        let poll = |context: &mut Context<'_>| Pin::new(&mut *lock(core)).poll_next(context).map(|next| next.map(Ok));
        Ok(next_blocking(py, timeout, poll)?.map(Message::of_returned))
    }
}
