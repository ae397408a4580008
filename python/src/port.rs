//! The way from a wake-up, on any thread, to the thread of an event loop.
//!
//! Owns the list of the operations of one loop that were woken, and the one signal that is under way. In come wake-ups
//! of the core; out goes one turn of the loop, in which the tokens of all of them are set. It must never know what was
//! waited for, nor whose loop it is.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

/// The wake-ups of one event loop.
///
/// Without `call`, the loop watches `fileno()` and calls `drain()` when it is readable. With it, `call()` is called on
/// the thread of the wake-up, and makes the loop call `drain()`.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct Port {
    shared: Arc<Shared>,
    reader: Option<Mutex<PipeReader>>,
}

struct Shared {
    woken: Mutex<Vec<Arc<Waiter>>>,
    /// Whether the loop was told, and has not come yet.
    signalled: AtomicBool,
    bell: Bell,
}

/// How the loop is told.
enum Bell {
    Pipe(PipeWriter),
    Call(Py<PyAny>),
}

/// An operation that waits in a loop.
pub(crate) struct Waiter {
    port: Arc<Shared>,
    /// What the task of the operation awaits at the moment.
    token: Mutex<Option<Py<PyAny>>>,
    woken: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Port {
    #[new]
    #[pyo3(signature = (call=None))]
    fn new(call: Option<Py<PyAny>>) -> PyResult<Self> {
        let (reader, bell) = match call {
            Some(call) => (None, Bell::Call(call)),
            None => {
                let (reader, writer) = std::io::pipe().map_err(|error| PyOSError::new_err(error.to_string()))?;
                (Some(Mutex::new(reader)), Bell::Pipe(writer))
            }
        };
        let shared = Shared { woken: Mutex::default(), signalled: AtomicBool::new(false), bell };
        Ok(Self { shared: Arc::new(shared), reader })
    }

    /// Returns the descriptor that is readable when operations were woken.
    #[cfg(unix)]
    fn fileno(&self) -> Option<i32> {
        use std::os::fd::AsRawFd;
        self.reader.as_ref().map(|reader| lock(reader).as_raw_fd())
    }

    /// Sets the tokens of all operations that were woken.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(reader) = &self.reader
            && self.shared.signalled.load(Ordering::Acquire)
        {
            // One byte was written for one signal, so this does not wait.
            let _read = lock(reader).read(&mut [0; 1]);
        }
        self.shared.signalled.store(false, Ordering::Release);
        let woken = std::mem::take(&mut *lock(&self.shared.woken));
        for waiter in woken {
            let token = lock(&waiter.token).take();
            if let Some(token) = token
                && !token.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
            {
                token.call_method1(py, intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }
}

impl Port {
    /// Returns a waiter for one operation.
    pub(crate) fn waiter(&self) -> Arc<Waiter> {
        Arc::new(Waiter { port: Arc::clone(&self.shared), token: Mutex::default(), woken: AtomicBool::new(false) })
    }
}

impl Waiter {
    /// Prepares for the next poll of the operation: what wakes it from now on is told.
    pub(crate) fn arm(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Sets what the operation's task awaits.
    pub(crate) fn wait_by(&self, token: Py<PyAny>) {
        *lock(&self.token) = Some(token);
    }

    /// Shows the collector the token, which is referred to here once, by whatever wakes the waiter.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.token.try_lock().map_or(Ok(()), |token| visit.call(&*token))
    }

    pub(crate) fn belongs_to(&self, port: &Port) -> bool {
        Arc::ptr_eq(&self.port, &port.shared)
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let port = Arc::clone(&self.port);
        lock(&port.woken).push(self);
        if port.signalled.swap(true, Ordering::AcqRel) {
            return;
        }
        match &port.bell {
            // A loop that is gone does not read any more, which is not this thread's concern.
            Bell::Pipe(writer) => drop((&*writer).write(&[1])),
            Bell::Call(call) => {
                // No interpreter is left, or the loop is closed: no task waits.
                let _told = Python::try_attach(|py| call.call0(py).map(drop));
            }
        }
    }
}
