//! Connecting independently of the caller's runtime.

use std::future::pending;
use std::sync::OnceLock;
use std::thread;

use async_executor::Executor;

use super::Builder;
use crate::io::dial::AnyTransport;
use crate::io::net::{IoConnector, IoTimer, ReactorConnector};
use crate::io::reactor::{Reactor, ReactorHandle, ReactorTimer};
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
        let (executor, reactor) = driver_thread()?;
        let builder = self.clone();
        let (connection, driver) = executor.spawn(async move { builder.connect_on(reactor).await }).await?;
        executor.spawn(driver.assisted()).detach();
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
    pub async fn connect(&self) -> Result<(Connection, Driver<AnyTransport, IoTimer, IoConnector>)> {
        self.connect_with(IoConnector::new(&self.target()), IoTimer::new()).await
    }

    /// Connects on a [`Reactor`], and returns the connection with its driver, which must be polled in the future that
    /// the reactor runs.
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    pub async fn connect_on(
        &self,
        reactor: &ReactorHandle,
    ) -> Result<(Connection, Driver<AnyTransport, ReactorTimer, ReactorConnector>)> {
        let connector = ReactorConnector::new(&self.target(), reactor);
        self.connect_with(connector, ReactorTimer::new(reactor)).await
    }
}

/// Returns the executor and the reactor of the driver thread. The first connection starts the thread, and it never
/// ends.
fn driver_thread() -> Result<(&'static Executor<'static>, &'static ReactorHandle)> {
    static EXECUTOR: Executor<'static> = Executor::new();
    static STARTED: OnceLock<Option<ReactorHandle>> = OnceLock::new();
    let start = || {
        let mut reactor = Reactor::new().ok()?;
        let handle = reactor.handle();
        let run = move || reactor.block_on(EXECUTOR.run(pending::<()>()));
        thread::Builder::new().name("hopmq-driver".to_owned()).spawn(run).ok().map(|_| handle)
    };
    match STARTED.get_or_init(start) {
        Some(reactor) => Ok((&EXECUTOR, reactor)),
        None => Err(Error::new(
            ErrorKind::Io,
            "could not start the driver thread: the system has no more threads or file descriptors",
        )),
    }
}
