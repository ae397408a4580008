//! Apps: the worker of the crate `hopmq-app`, whose handlers are jobs for tasks in Python.
//!
//! Owns one app and its run. In come declarations, and outcomes of jobs; out go jobs, and the end of the run. It must
//! never decide what happens with a message: retries, dead letters, groups and batches are those of the crate.

mod inbox;
mod job;
mod queue;
mod rpc;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hopmq_app::{App as Core, Control};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::Connection;
use crate::convert::seconds;
use crate::errors::exception;
use crate::operation::Operation;
use inbox::{Entry, Inbox};
use job::Route;
pub(crate) use job::{Job, Jobs};
pub(crate) use rpc::Caller;

type Run = Pin<Box<dyn Future<Output = Result<(), hopmq_app::Error>> + Send>>;

/// An app: queues with their handlers. It runs once.
#[pyclass(frozen, module = "hopmq._hopmq")]
pub(crate) struct App {
    core: Mutex<Option<Core<()>>>,
    control: Control,
    inbox: Arc<Inbox>,
    running: Arc<Mutex<Running>>,
    declared: Arc<Mutex<Declared>>,
}

/// Whether queues and exchanges are declared, and the tasks that wait for that.
#[derive(Default)]
struct Declared {
    done: bool,
    waiting: Vec<Waker>,
}

/// The run of the app, which the loop polls, and workers do when they find no job.
#[derive(Default)]
struct Running {
    run: Option<Run>,
    waker: Option<Waker>,
    ended: Option<Result<(), hopmq_app::Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Goes on. `woken` is who is told when there is more to do.
    fn poll(&mut self, waker: &Waker) {
        if let Some(run) = &mut self.run
            && let Poll::Ready(ended) = run.as_mut().poll(&mut Context::from_waker(waker))
        {
            (self.run, self.ended) = (None, Some(ended));
        }
    }
}

/// Ends the app when its run is given up.
struct Guard {
    running: Arc<Mutex<Running>>,
    inbox: Arc<Inbox>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let run = lock(&self.running).run.take();
        drop(run);
        self.inbox.close();
    }
}

fn raised(py: Python<'_>, error: &hopmq_app::Error) -> PyErr {
    let make = py.import("hopmq.errors").and_then(|errors| errors.getattr("of_app"));
    let cause = error.client().map(|client| exception(py, client).into_value(py));
    match make.and_then(|make| make.call1((format!("{:?}", error.kind()), error.to_string(), cause))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

#[pymethods]
impl App {
    /// Makes an app of exchanges and routes: each route is `(queue, settings, is_batch, is_rpc)`.
    #[new]
    #[pyo3(signature = (exchanges, routes, drain=None))]
    fn new(
        exchanges: Vec<Bound<'_, PyAny>>,
        routes: Vec<(String, Bound<'_, PyDict>, bool, bool)>,
        drain: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let inbox = Arc::<Inbox>::default();
        let mut core = Core::new(());
        for declared in &exchanges {
            core = core.exchange(queue::exchange(declared)?);
        }
        for (index, (name, settings, is_batch, answers)) in routes.into_iter().enumerate() {
            let queue = if answers { rpc::queue(&name, &settings)? } else { queue::queue(&name, &settings)? };
            let route = Route { index, inbox: Arc::clone(&inbox), answers };
            core = match is_batch {
                true => core.route_batch(queue, route),
                false => core.route(queue, route),
            };
        }
        if let Some(drain) = drain {
            core = core.drain_timeout(seconds(drain)?);
        }
        let declared = Arc::<Mutex<Declared>>::default();
        let tell = Arc::clone(&declared);
        core = core.beside(|_, _| async move {
            let mut declared = lock(&tell);
            declared.done = true;
            declared.waiting.drain(..).for_each(Waker::wake);
            Ok(())
        });
        let control = core.control();
        Ok(Self { core: Mutex::new(Some(core)), control, inbox, running: Arc::default(), declared })
    }

    /// Declares exchanges, queues and bindings, and runs nothing.
    fn declare(&self, connection: &Bound<'_, Connection>) -> PyResult<Operation> {
        let core = lock(&self.core).take().ok_or_else(run_twice)?;
        let connection = connection.get().core.clone();
        Ok(Operation::start(async move {
            let declared = core.declare(&connection).await;
            Python::attach(|py| declared.map(|()| py.None()).map_err(|error| raised(py, &error)))
        }))
    }

    /// Runs the app until it is stopped or fails.
    fn run(&self, connection: &Bound<'_, Connection>) -> PyResult<Operation> {
        let core = lock(&self.core).take().ok_or_else(run_twice)?;
        let connection = connection.get().core.clone();
        let run = async move { core.run_with(&connection, hopmq::IoTimer::new()).await };
        lock(&self.running).run = Some(Box::pin(run));
        let guard = Guard { running: Arc::clone(&self.running), inbox: Arc::clone(&self.inbox) };
        Ok(Operation::start(async move {
            let ended = poll_fn(|task| {
                let mut running = lock(&guard.running);
                running.poll(task.waker());
                match running.ended.take() {
                    Some(ended) => Poll::Ready(ended),
                    None => {
                        running.waker = Some(task.waker().clone());
                        Poll::Pending
                    }
                }
            })
            .await;
            drop(guard);
            Python::attach(|py| ended.map(|()| py.None()).map_err(|error| raised(py, &error)))
        }))
    }

    /// Waits until the run has declared its queues.
    fn declared(&self) -> Operation {
        let declared = Arc::clone(&self.declared);
        Operation::start(async move {
            poll_fn(|task| {
                let mut declared = lock(&declared);
                if declared.done {
                    return Poll::Ready(());
                }
                declared.waiting.push(task.waker().clone());
                Poll::Pending
            })
            .await;
            Python::attach(|py| Ok(py.None()))
        })
    }

    /// Takes the next job; `None` if there is none now.
    fn pull(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(entry) = self.inbox.pop() {
            return object(py, entry).map(Some);
        }
        self.go_on();
        self.inbox.pop().map(|entry| object(py, entry)).transpose()
    }

    /// Waits for a job: `True` if there may be one, `False` if the app has ended.
    fn arrival(&self) -> Operation {
        let (arrival, inbox) = (self.inbox.arrival(), Arc::clone(&self.inbox));
        Operation::start(async move {
            arrival.await;
            Python::attach(|py| Ok(pyo3::types::PyBool::new(py, !inbox.is_closed()).to_owned().into_any().unbind()))
        })
    }

    /// Takes no more messages, and lets the run end when those in work are done.
    fn stop(&self) {
        self.control.stop();
    }

    /// Takes no more messages of a queue. Returns whether the app has the queue.
    fn pause(&self, queue: &str) -> bool {
        self.control.pause(queue)
    }

    /// Takes messages of a paused queue again. Returns whether the app has the queue.
    fn resume(&self, queue: &str) -> bool {
        self.control.resume(queue)
    }

    /// Returns whether the app is connected, and the state of each queue.
    fn health(&self) -> (bool, Vec<(String, String)>) {
        let health = self.control.health();
        let queues = health.queues.into_iter().map(|queue| (queue.queue, format!("{:?}", queue.state).to_lowercase()));
        (health.connected, queues.collect())
    }
}

impl App {
    /// Lets the app settle what has its outcome and hand out further jobs, without a turn of the loop.
    fn go_on(&self) {
        // A key function that was called by the run can't be here at the same time.
        let Ok(mut running) = self.running.try_lock() else { return };
        let Some(waker) = running.waker.clone() else { return };
        running.poll(&waker);
        if running.ended.is_some() {
            drop(running);
            waker.wake();
        }
    }
}

#[cold]
fn run_twice() -> PyErr {
    PyRuntimeError::new_err("this app has run already: make another one")
}

fn object(py: Python<'_>, entry: Entry) -> PyResult<Py<PyAny>> {
    match entry {
        Entry::Single(job) => Ok(Py::new(py, job)?.into_any()),
        Entry::Batch(batch) => batch.into_object(py),
    }
}
