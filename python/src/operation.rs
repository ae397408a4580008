//! What methods return that may have to wait: awaitable in any event loop, and waited for by plain threads.
//!
//! Owns the future of one operation. In come polls, by the loop that awaits the object or by a thread in `wait()`; out
//! goes the result as a Python object or exception. It must never know which operation it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::consumer;
use crate::convert::seconds;
use crate::port::{Port, Waiter};

/// The result of an operation.
pub(crate) type Outcome = PyResult<Py<PyAny>>;

pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// How long a thread waits before it looks whether Python has a signal to handle, such as ctrl-c.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// An operation that has begun: `await` it, or `wait()` for it.
///
/// It has been tried once already when it is returned, so that nothing is scheduled for what needs no wait.
#[pyclass(frozen, generic, module = "hopmq._hopmq")]
pub(crate) struct Operation {
    state: Mutex<State>,
}

enum State {
    Ready(Outcome),
    Waiting(Waiting),
    /// A poll is under way, or the result was taken.
    Over,
}

struct Waiting {
    work: Work,
    waiter: Option<Arc<Waiter>>,
    /// The iterator of the token that the task awaits.
    token: Option<Py<PyAny>>,
    /// Whether the other tasks of the loop run before the first poll.
    turn: bool,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Operation {
    fn with(state: State) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// Returns an operation that is done.
    pub(crate) fn ready(outcome: Outcome) -> Self {
        Self::with(State::Ready(outcome))
    }

    /// Starts an operation: polls it once, so that what is there already needs no loop.
    pub(crate) fn start(work: impl Future<Output = Outcome> + Send + 'static) -> Self {
        let mut work: Work = Box::pin(work);
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Self::ready(outcome),
            Poll::Pending => Self::waiting(work),
        }
    }

    /// Returns an operation that is polled when it is awaited.
    pub(crate) fn waiting(work: Work) -> Self {
        Self::with(State::Waiting(Waiting { work, waiter: None, token: None, turn: false }))
    }

    /// Returns an operation that lets the other tasks of its loop run before its work begins.
    pub(crate) fn after_a_turn(work: Work) -> Self {
        Self::with(State::Waiting(Waiting { work, waiter: None, token: None, turn: true }))
    }

    /// Drops what is left to do. A delivery that no task took goes back to its queue.
    fn give_up(&self) {
        if let State::Ready(Ok(value)) = self.take() {
            Python::try_attach(|py| consumer::give_back(value.bind(py)));
        }
    }

    fn go_on(&self, py: Python<'_>, sent: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        match self.take() {
            State::Ready(outcome) => Step::Done(outcome?).into_next(py),
            State::Waiting(waiting) => waiting.step(self, py, sent)?.into_next(py),
            State::Over => Err(taken_twice()),
        }
    }

    /// Takes the result, or the rest of the work if there is none yet.
    pub(crate) fn take_ready(self) -> Result<Outcome, Work> {
        match self.take() {
            State::Ready(outcome) => Ok(outcome),
            State::Waiting(waiting) => Err(waiting.work),
            State::Over => Ok(Err(taken_twice())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> State {
        std::mem::replace(&mut *self.lock(), State::Over)
    }
}

/// Makes what is both awaitable and an async context manager, which closes what the operation opened.
pub(crate) fn opening(py: Python<'_>, operation: Operation) -> PyResult<Py<PyAny>> {
    static OPENING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make =
        OPENING.get_or_try_init(py, || PyResult::Ok(py.import("hopmq._opening")?.getattr("Opening")?.unbind()))?;
    make.call1(py, (operation,))
}

/// Looks up a function of the module that knows event loops.
fn loops<'py>(py: Python<'py>, cell: &'py PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<&'py Py<PyAny>> {
    cell.get_or_try_init(py, || Ok(py.import("hopmq._loops")?.getattr(name)?.unbind()))
}

#[cold]
fn taken_twice() -> PyErr {
    PyRuntimeError::new_err("this operation was awaited already: call the method again for another one")
}

impl Waiting {
    /// Goes on as far as possible. Returns what the task must yield, or the result.
    fn step(mut self, operation: &Operation, py: Python<'_>, mut sent: Option<&Bound<'_, PyAny>>) -> PyResult<Step> {
        if std::mem::take(&mut self.turn) {
            static BREATHE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let breathe = loops(py, &BREATHE, "breathe")?.call0(py)?;
            self.token = Some(breathe.call_method0(py, intern!(py, "__await__"))?);
        }
        loop {
            if let Some(token) = self.token.take() {
                let stepped = match sent.take() {
                    Some(value) => token.bind(py).call_method1(intern!(py, "send"), (value,)),
                    None => token.bind(py).call_method0(intern!(py, "__next__")),
                };
                match stepped {
                    Ok(yielded) => {
                        self.token = Some(token);
                        let yielded = yielded.unbind();
                        *operation.lock() = State::Waiting(self);
                        return Ok(Step::Yield(yielded));
                    }
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {}
                    Err(error) => return Err(error),
                }
            }
            let first = self.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(outcome) = first {
                return outcome.map(Step::Done);
            }
            static SUSPEND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let (port, token): (Bound<'_, Port>, Py<PyAny>) = loops(py, &SUSPEND, "suspend")?.call0(py)?.extract(py)?;
            let waiter = match &self.waiter {
                Some(waiter) if waiter.belongs_to(port.get()) => Arc::clone(waiter),
                _ => self.waiter.insert(port.get().waiter()).clone(),
            };
            waiter.arm();
            waiter.wait_by(token.clone_ref(py));
            let waker = Waker::from(waiter);
            if let Poll::Ready(outcome) = self.work.as_mut().poll(&mut Context::from_waker(&waker)) {
                return outcome.map(Step::Done);
            }
            self.token = Some(token.call_method0(py, intern!(py, "__await__"))?);
        }
    }
}

enum Step {
    Yield(Py<PyAny>),
    Done(Py<PyAny>),
}

impl Step {
    /// Returns what `__next__` returns: `None` ends the iteration with the value `None`.
    fn into_next(self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Yield(yielded) => Ok(Some(yielded)),
            Self::Done(value) if value.is_none(py) => Ok(None),
            // An exception is made of a value only when it is looked at, unless the value could be its arguments.
            Self::Done(value) if is_plain(value.bind(py)) => Err(PyStopIteration::new_err(value)),
            Self::Done(value) => Err(PyStopIteration::new_err((value,))),
        }
    }
}

fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    !value.is_instance_of::<PyTuple>() && !value.is_instance_of::<PyBaseException>()
}

#[pymethods]
impl Operation {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.go_on(py, None)
    }

    /// Goes on with what the event loop says, as `__next__` does without.
    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        // Only `__next__` may end with None in place of an exception.
        self.go_on(py, Some(value).filter(|value| !value.is_none()))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let state = self.take();
        if let State::Ready(Ok(held)) = &state {
            consumer::give_back(held.bind(py));
        }
        if let State::Waiting(mut waiting) = state
            && let Some(token) = waiting.token.take()
        {
            let arguments = (kind, value, traceback);
            return match token.bind(py).call_method1(intern!(py, "throw"), arguments) {
                Ok(yielded) => {
                    waiting.token = Some(token);
                    *self.lock() = State::Waiting(waiting);
                    Ok(Some(yielded.unbind()))
                }
                Err(error) => Err(error),
            };
        }
        match value {
            Some(value) if !value.is_none() => Err(PyErr::from_value(value)),
            _ => match kind.cast::<PyType>() {
                Ok(kind) => Err(PyErr::from_value(kind.call0()?)),
                Err(_) => Err(PyErr::from_value(kind)),
            },
        }
    }

    /// Gives up the operation, as a cancelled task does.
    fn close(&self) {
        self.give_up();
    }

    /// Waits on this thread. Other threads run meanwhile, and ctrl-c ends the wait.
    ///
    /// `TimeoutError` after `timeout`, if it is given; the operation goes on, and can be waited for again.
    #[pyo3(signature = (timeout=None))]
    pub(crate) fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = timeout.map(seconds).transpose()?;
        match self.take() {
            State::Ready(outcome) => outcome,
            State::Waiting(mut waiting) => match wait(py, waiting.work.as_mut(), limit)? {
                Some(outcome) => outcome,
                None => {
                    *self.lock() = State::Waiting(waiting);
                    Err(PyTimeoutError::new_err("the operation was not done in time"))
                }
            },
            State::Over => Err(taken_twice()),
        }
    }

    /// Whether the result is there.
    #[getter]
    fn is_ready(&self) -> bool {
        matches!(*self.lock(), State::Ready(_))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        match &*state {
            State::Ready(Ok(value)) => visit.call(value),
            State::Waiting(Waiting { token, waiter, .. }) => {
                visit.call(token)?;
                waiter.as_ref().map_or(Ok(()), |waiter| waiter.traverse(&visit))
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.give_up();
    }
}

/// Waits on this thread for a future, without the GIL. `None` if it was not ready in time; an error if a signal's
/// handler raised one.
pub(crate) fn wait<F: Future + Send + Unpin>(
    py: Python<'_>,
    mut future: F,
    limit: Option<Duration>,
) -> PyResult<Option<F::Output>>
where
    F::Output: Send,
{
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SIGNAL_CHECK, |left| left.min(SIGNAL_CHECK));
        let output = py.detach(|| hopmq::wait_within(&mut future, slice));
        if output.is_some() {
            return Ok(output);
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
    }
}
