//! Connecting to one of several addresses, as in [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305), section 5.
//!
//! The next connection begins when the previous one has failed, or has taken a while; the first one that is made wins,
//! and the others are dropped. A [`Network`] brings the sockets and the time, so that this works on every runtime.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::addresses::{Addresses, Resolver, literal};
use super::dial::unreachable;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::Address;

/// The time between the beginnings of two connections, as RFC 8305 recommends it.
const DELAY: Duration = Duration::from_millis(250);

/// The sockets and the time of a runtime.
pub(crate) trait Network {
    type Socket;

    /// Runs a function that may block.
    fn unblock<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + Send;

    /// Connects a socket.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Socket>> + Send;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Connects to one of the addresses of `host`: those that remain from the previous attempt, or else all that the
/// resolver returns. With `timeout` for the attempt, each address gets its turn.
pub(crate) async fn connect<N: Network>(
    network: &N,
    host: &Address,
    addresses: &Mutex<Addresses>,
    resolver: &Resolver,
    timeout: Duration,
) -> Result<N::Socket> {
    let mut candidates = lock(addresses).take_left();
    if candidates.is_empty() {
        let resolved = resolve(network, host, resolver).await.map_err(|error| unreachable(host, error))?;
        candidates = lock(addresses).order(resolved);
    }
    let delay = DELAY.min(timeout / (candidates.len() as u32 + 1));
    let mut begun = 0;
    let begin = |address| {
        begun += 1;
        lock(addresses).note_begun(address);
        network.connect(address)
    };
    let (winner, failures) = race(&candidates, begin, || network.sleep(delay)).await;
    let Some((address, socket)) = winner else { return Err(all_unreachable(host, failures)) };
    let (begun, waiting) = candidates.split_at(begun);
    let may_work = |other: &&SocketAddr| **other != address && failures.iter().all(|(failed, _)| failed != *other);
    let left = waiting.iter().chain(begun.iter().filter(may_work)).copied().collect();
    lock(addresses).note_connected(address, left);
    Ok(socket)
}

pub(crate) fn lock(addresses: &Mutex<Addresses>) -> MutexGuard<'_, Addresses> {
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn resolve<N: Network>(network: &N, host: &Address, resolver: &Resolver) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = literal(host) {
        return Ok(vec![address]);
    }
    let (resolver, host) = (resolver.clone(), host.clone());
    network.unblock(move || resolver.lookup(&host)).await
}

/// The addresses that failed.
type Failures = Vec<(SocketAddr, io::Error)>;

/// Returns the first connection that is made, if there is one, and the failures until then.
async fn race<S, C, P>(
    addresses: &[SocketAddr],
    mut connect: impl FnMut(SocketAddr) -> C,
    pause: impl Fn() -> P,
) -> (Option<(SocketAddr, S)>, Failures)
where
    C: Future<Output = io::Result<S>>,
    P: Future<Output = ()>,
{
    let mut waiting = addresses.iter().copied();
    let mut running = Vec::new();
    let mut pausing = None;
    let mut failures = Vec::new();
    let winner = poll_fn(|context| {
        loop {
            let mut index = 0;
            while let Some((address, connecting)) = running.get_mut(index) {
                let address: SocketAddr = *address;
                let connecting: &mut std::pin::Pin<Box<C>> = connecting;
                match connecting.as_mut().poll(context) {
                    Poll::Ready(Ok(socket)) => return Poll::Ready(Some((address, socket))),
                    Poll::Ready(Err(error)) => {
                        running.remove(index);
                        failures.push((address, error));
                        pausing = None;
                    }
                    Poll::Pending => index += 1,
                }
            }
            let is_pausing = |pause: &mut std::pin::Pin<Box<P>>| pause.as_mut().poll(context).is_pending();
            if pausing.as_mut().is_some_and(is_pausing) {
                return Poll::Pending;
            }
            pausing = None;
            match waiting.next() {
                Some(address) => {
                    running.push((address, Box::pin(connect(address))));
                    if waiting.len() > 0 {
                        pausing = Some(Box::pin(pause()));
                    }
                }
                None if running.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    })
    .await;
    (winner, failures)
}

/// Returns the error of a host none of whose addresses could be reached.
fn all_unreachable(host: &Address, mut failures: Failures) -> Error {
    let Some((address, last)) = failures.pop() else {
        return unreachable(host, io::Error::new(io::ErrorKind::NotFound, "the host name has no address"));
    };
    if failures.is_empty() {
        return unreachable(host, last);
    }
    let others: String = failures.iter().map(|(address, error)| format!("{}: {error}; ", address.ip())).collect();
    let text = format!("{host} can't be reached at any of its addresses: {others}{}", address.ip());
    Error::with_source(ErrorKind::Io, text, last)
}

#[cfg(test)]
mod tests;
