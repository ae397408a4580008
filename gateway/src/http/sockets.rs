//! The sockets without a WebSocket: new ones, plain requests, and pending upgrades.
//!
//! Bounded in total and by address. A new socket is always admitted, and closes the oldest one if a bound is reached: a
//! client sends its request at once, so the oldest is the one that keeps a place for nothing. So `/healthz` answers
//! while a client holds as many silent sockets as may be open. Admission and removal take logarithmic time. Knows
//! nothing of HTTP.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::admission::limits::network;

/// All sockets; see the [module](self).
#[derive(Debug)]
pub(crate) struct Sockets {
    total_max: usize,
    per_address_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// By age.
    open: BTreeMap<u64, Open>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Open {
    /// `None` if sockets of the address are counted in total only.
    address: Option<IpAddr>,
    /// Dropped to close the socket.
    _keep: oneshot::Sender<()>,
}

/// The place of a socket, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sockets: Arc<Sockets>,
    number: u64,
    lost: oneshot::Receiver<()>,
}

/// The bound for which an older socket was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Total,
    Address,
}

impl Sockets {
    pub(crate) fn new(total_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { total_max, per_address_max, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a socket. Returns the bound for which the oldest one was closed, if any. Without an address, only the
    /// total is bounded.
    pub(crate) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> (Place, Option<Bound>) {
        let address = address.map(network);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let of_address = address.and_then(|address| state.by_address.get(&address));
        let oldest_of_address = of_address.filter(|open| open.len() >= self.per_address_max).and_then(BTreeSet::first);
        let closed = if let Some(number) = oldest_of_address.copied() {
            state.remove(number);
            Some(Bound::Address)
        } else if state.open.len() >= self.total_max {
            state.remove_oldest();
            Some(Bound::Total)
        } else {
            None
        };
        let (keep, lost) = oneshot::channel();
        state.open.insert(number, Open { address, _keep: keep });
        if let Some(address) = address {
            state.by_address.entry(address).or_default().insert(number);
        }
        drop(state);
        (Place { sockets: Arc::clone(self), number, lost }, closed)
    }

    /// Closes the oldest socket, if there is one.
    pub(crate) fn close_oldest(&self) {
        self.state().remove_oldest();
    }
}

impl State {
    fn remove_oldest(&mut self) {
        if let Some(number) = self.open.keys().next().copied() {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(Open { address: Some(address), .. }) = self.open.remove(&number) else { return };
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.remove(&number);
            if of_address.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// Completes when the socket must be closed for a newer one.
    pub(crate) async fn lost(&mut self) {
        let _closed = (&mut self.lost).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sockets.state().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    impl Sockets {
        fn count(&self) -> usize {
            self.state().open.len()
        }
    }

    fn is_lost(place: &mut Place) -> bool {
        matches!(place.lost.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn the_oldest_socket_of_an_address_is_closed_for_a_newer_one() {
        let sockets = Sockets::new(100, 2);
        let [mut other, mut first, mut second] = [2, 1, 1].map(|last| sockets.admit(address(last)).0);
        let (mut third, closed) = sockets.admit(address(1));
        assert_eq!((closed, sockets.count()), (Some(Bound::Address), 3));
        assert!(is_lost(&mut first) && !is_lost(&mut second) && !is_lost(&mut third) && !is_lost(&mut other));
        drop(first);
        assert_eq!(sockets.count(), 3);
    }

    #[test]
    fn the_oldest_socket_of_all_is_closed_for_a_newer_one() {
        let sockets = Sockets::new(3, 2);
        let mut places: Vec<Place> = (0..10).map(|last| sockets.admit(address(last)).0).collect();
        assert_eq!(sockets.count(), 3);
        let lost: Vec<bool> = places.iter_mut().map(is_lost).collect();
        assert_eq!(lost, [[true; 7].as_slice(), &[false; 3]].concat());
        drop(places);
        assert_eq!((sockets.count(), sockets.state().by_address.len()), (0, 0));
    }

    #[test]
    fn sockets_of_a_trusted_proxy_are_bounded_in_total_only() {
        let sockets = Sockets::new(5, 1);
        let places: Vec<_> = (0..6).map(|_| sockets.admit(None)).collect();
        assert_eq!(places.iter().filter(|(_, closed)| closed.is_some()).count(), 1);
        sockets.close_oldest();
        assert_eq!(sockets.count(), 4);
    }
}
