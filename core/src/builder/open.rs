//! Connecting independently of the caller's runtime.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use async_executor::Executor;

use super::Builder;
use crate::io::dial::{AnyTransport, HostConnector};
use crate::io::net::IoTimer;
use crate::io::reactor::{Reactor, ReactorHandle, ReactorTimer};
use crate::process::Process;
use crate::{Connection, Driver, Error, ErrorKind, Result};

impl Builder {
    /// Connects. A thread that all such connections of the program share drives the connection.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is invalid, [`ErrorKind::Io`] or [`ErrorKind::Tls`] if no host could be
    /// reached, [`ErrorKind::Timeout`] after `connect_timeout`, and those of [`Builder::handshake`].
    pub async fn open(&self) -> Result<Connection> {
        let DriverThread { executor, reactor, .. } = DriverThread::of_this_process()?;
        let builder = self.clone();
        let (connection, driver) = executor.spawn(async move { builder.connect_on(reactor).await }).await?;
        let driver = driver.assisted();
        driver.lead_by(reactor.events(), true);
        executor.spawn(driver).detach();
        Ok(connection)
    }

    /// Connects, and returns the connection with its driver, which the caller spawns or polls: on smol, on any other
    /// executor, or on the caller's own thread, beside its work:
    ///
    /// ```no_run
    /// # async fn example() -> hopmq::Result<()> {
    /// let (connection, driver) = hopmq::Connection::builder().uri("amqp://localhost").connect().await?;
    /// let work = async {
    ///     connection.channel().await?;
    ///     connection.close().await
    /// };
    /// let (_, result) = futures_lite::future::zip(driver, work).await;
    /// # result
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    pub async fn connect(&self) -> Result<(Connection, Driver<AnyTransport, IoTimer, HostConnector>)> {
        let connector = HostConnector::new(self.target(), |target, host| async move { target.connect_to(&host).await });
        self.connect_with(connector, IoTimer::new()).await
    }

    /// Connects on a [`Reactor`], and returns the connection with its driver, which must be polled in the future that
    /// the reactor runs.
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    pub async fn connect_on(
        &self,
        reactor: &ReactorHandle,
    ) -> Result<(Connection, Driver<AnyTransport, ReactorTimer, HostConnector>)> {
        let sockets = reactor.clone();
        let connector = HostConnector::new(self.target(), move |target, host| {
            let sockets = sockets.clone();
            async move { target.connect_on_to(&sockets, &host).await }
        });
        self.connect_with(connector, ReactorTimer::new(reactor)).await
    }
}

/// The thread that drives the connections of [`Builder::open`]. It never ends.
#[derive(Clone, Copy)]
struct DriverThread {
    process: Process,
    executor: &'static Executor<'static>,
    reactor: &'static ReactorHandle,
}

impl DriverThread {
    /// Returns the thread of this process, which the first connection starts.
    fn of_this_process() -> Result<Self> {
        static STARTED: Mutex<Option<DriverThread>> = Mutex::new(None);
        let mut started = try_lock(&STARTED)?;
        match *started {
            Some(thread) if !thread.process.is_other() => Ok(thread),
            // A process that was forked does not have the thread of its parent.
            _ => Ok(*started.insert(Self::start()?)),
        }
    }

    fn start() -> Result<Self> {
        let mut reactor = Reactor::new()?;
        let handle = Box::leak(Box::new(reactor.handle()));
        let executor: &Executor<'static> = Box::leak(Box::new(Executor::new()));
        let run = move || reactor.block_on(executor.run(pending::<()>()));
        let started = thread::Builder::new().name("hopmq-driver".to_owned()).spawn(run);
        started.map_err(|error| Error::with_source(ErrorKind::Io, "could not start the driver thread", error))?;
        Ok(Self { process: Process::current(), executor, reactor: handle })
    }
}

/// Takes a lock that is held only while a thread starts. In a process that was forked at that moment, no thread will
/// ever release it.
fn try_lock<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    let begin = Instant::now();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if begin.elapsed() < Duration::from_secs(1) => thread::yield_now(),
            Err(TryLockError::WouldBlock) => {
                let text = "this process was forked while its parent started the driver thread: fork earlier or later";
                return Err(Error::new(ErrorKind::Usage, text));
            }
        }
    }
}
