//! The source of a connection's transports, which is asked again after the link is lost.

use std::future::{Future, Ready, ready};

use crate::error::{Error, ErrorKind, Result};
use crate::io::Transport;

/// Makes the transports of one connection: one for the first link, and one for each attempt to reconnect.
///
/// A closure that returns a future of a transport is a connector:
///
/// ```no_run
/// # use hopmq::{Timer, Transport};
/// # async fn open_pipe() -> hopmq::Result<Box<dyn Transport + Send>> { unimplemented!() }
/// # async fn example(timer: impl Timer + Unpin + Send + 'static) -> hopmq::Result<()> {
/// let (connection, driver) = hopmq::Connection::builder().connect_with(open_pipe, timer).await?;
/// # Ok(())
/// # }
/// ```
pub trait Connector {
    /// The transport that it makes.
    type Transport: Transport;
    /// The future of one attempt. It is dropped if it takes longer than `connect_timeout`.
    type Connecting: Future<Output = Result<Self::Transport>>;

    /// Starts one attempt, to the next host if there are several.
    fn connect(&mut self) -> Self::Connecting;

    /// Returns whether it can connect again after the link is lost. If not, the connection then ends.
    fn reconnects(&self) -> bool {
        true
    }

    /// Returns the number of hosts, which is the number of attempts in a row without a delay.
    fn hosts(&self) -> usize {
        1
    }

    /// Returns how many other addresses the host of the latest attempt has that may be tried if the attempt fails, once
    /// the attempt has chosen its own. The attempt then gets a share of `connect_timeout`, and if it fails,
    /// [`connect_again`](Connector::connect_again) follows within the rest.
    fn addresses_left(&self) -> usize {
        0
    }

    /// Starts another attempt at the host of the latest one, at the other addresses.
    fn connect_again(&mut self) -> Self::Connecting {
        self.connect()
    }

    /// Returns the host of the latest attempt, for events and errors.
    fn host(&self) -> String {
        "the broker".to_owned()
    }
}

impl<F, A, T> Connector for F
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
    T: Transport,
{
    type Transport = T;
    type Connecting = A;

    fn connect(&mut self) -> A {
        self()
    }
}

/// A connector over a given transport. A connection over it can't reconnect.
#[derive(Debug)]
pub struct Once<T>(Option<T>);

impl<T> Once<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self(Some(transport))
    }
}

impl<T: Transport> Connector for Once<T> {
    type Transport = T;
    type Connecting = Ready<Result<T>>;

    fn connect(&mut self) -> Ready<Result<T>> {
        let gone = || Error::new(ErrorKind::Io, "the transport of this connection can be used only once");
        ready(self.0.take().ok_or_else(gone))
    }

    fn reconnects(&self) -> bool {
        false
    }
}
