//! Where the bytes come from: something that connects, and can be asked again after the link is lost.

use std::future::{Future, Ready, ready};

use crate::io::Transport;
use crate::{Error, ErrorKind, Result};

/// Makes the transports of one connection: the first, and one for each attempt to come back after it was lost.
///
/// A closure that returns a future of a transport is one:
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
    /// What it makes.
    type Transport: Transport;
    /// The future of one attempt. It is dropped when it takes longer than `connect_timeout`.
    type Connecting: Future<Output = Result<Self::Transport>>;

    /// Begins one attempt, at the next host if there are several.
    fn connect(&mut self) -> Self::Connecting;

    /// Whether it can connect again after the connection is lost. If not, the connection ends then.
    fn reconnects(&self) -> bool {
        true
    }

    /// How many hosts there are: so many attempts are made in a row before waiting.
    fn hosts(&self) -> usize {
        1
    }

    /// The host of the latest attempt, for events and errors.
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

/// A transport that was handed in: a connection over it can't come back.
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
        let gone = || Error::new(ErrorKind::Io, "the connection's only transport is gone");
        ready(self.0.take().ok_or_else(gone))
    }

    fn reconnects(&self) -> bool {
        false
    }
}
