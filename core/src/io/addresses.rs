//! The addresses of a host name: where they come from, and in which order attempts to connect use them.
//!
//! The order is that of [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305), section 4: the resolver's, with the address
//! families in turn. Addresses that an earlier attempt used follow behind, the least recently used first, so that each
//! attempt begins with another address.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use crate::uri::Address;

/// The most addresses of one attempt. A name server may return thousands.
const MOST: usize = 32;

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Returns the addresses of host names. It may block.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Lookup>);

impl Resolver {
    pub(crate) fn new(lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    pub(crate) fn lookup(&self, address: &Address) -> io::Result<Vec<SocketAddr>> {
        (self.0)(&address.host, address.port)
    }
}

impl Default for Resolver {
    /// Asks the operating system.
    fn default() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Returns the address of a host that is given as an address, and needs no resolver.
pub(crate) fn literal(address: &Address) -> Option<SocketAddr> {
    address.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, address.port))
}

/// What is known of the addresses of one host.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// The addresses to which attempts to connect were made, the least recently used first.
    used: Vec<SocketAddr>,
    /// The addresses that remain if the present attempt fails.
    left: Vec<SocketAddr>,
    /// The address of the present attempt, if the host has several.
    current: Option<SocketAddr>,
}

impl Addresses {
    /// Begins to try the host, whose addresses must be resolved.
    pub(crate) fn restart(&mut self) {
        self.left.clear();
        self.current = None;
    }

    /// Returns the resolved addresses in the order of the next attempt.
    pub(crate) fn order(&mut self, resolved: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut ordered = interleave(resolved);
        self.used.retain(|address| ordered.contains(address));
        let place = |address: &SocketAddr| self.used.iter().position(|used| used == address).map_or(0, |at| at + 1);
        ordered.sort_by_key(place);
        ordered.truncate(MOST);
        ordered
    }

    /// Takes the addresses that remained when the previous attempt failed.
    pub(crate) fn take_left(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.left)
    }

    /// Returns how many addresses remain if the present attempt fails.
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// Returns the address of the present attempt, if the host has several.
    pub(crate) fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// Notes that a connection to `address` was begun.
    pub(crate) fn note_begun(&mut self, address: SocketAddr) {
        self.used.retain(|used| *used != address);
        self.used.push(address);
    }

    /// Notes the address that the attempt continues with, and those that remain if it fails.
    pub(crate) fn note_connected(&mut self, address: SocketAddr, left: Vec<SocketAddr>) {
        self.note_begun(address);
        self.current = (self.used.len() + left.len() > 1).then_some(address);
        self.left = left;
    }
}

/// Returns the addresses with their families in turn, beginning with the family of the first one.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| SocketAddr::new(host.parse().expect("an address"), 5672)).collect()
    }

    #[test]
    fn families_take_turns_and_repeated_addresses_are_dropped() {
        let resolved = addresses(&["::1", "::2", "::3", "10.0.0.1", "::1", "10.0.0.2"]);
        let expected = addresses(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(Addresses::default().order(resolved), expected);
        let resolved = addresses(&["10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(Addresses::default().order(resolved), addresses(&["10.0.0.1", "::1", "10.0.0.2"]));
        assert_eq!(Addresses::default().order(Vec::new()), []);
    }

    #[test]
    fn each_attempt_begins_with_the_address_that_was_not_used_for_longest() {
        let resolved = addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let mut known = Addresses::default();
        let mut firsts = Vec::new();
        for _ in 0..5 {
            known.restart();
            let first = known.order(resolved.clone())[0];
            known.note_connected(first, Vec::new());
            firsts.push(first);
        }
        assert_eq!(firsts, addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.2"]));
        // An address that the name no longer has is forgotten.
        let fewer = addresses(&["10.0.0.1"]);
        assert_eq!(known.order(fewer.clone()), fewer);
        assert_eq!(known.used, fewer);
    }

    #[test]
    fn a_name_with_thousands_of_addresses_is_tried_in_parts() {
        let resolved: Vec<SocketAddr> = (0..5000).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        let mut known = Addresses::default();
        let part = known.order(resolved.clone());
        assert_eq!(part.len(), MOST);
        part.iter().for_each(|address| known.note_begun(*address));
        assert!(!part.contains(&known.order(resolved)[0]));
    }

    #[test]
    fn addresses_need_no_resolver() {
        let host = |host: &str| Address { host: host.to_owned(), port: 1 };
        assert_eq!(literal(&host("127.0.0.1")), Some(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(literal(&host("::1")).map(|address| address.to_string()).as_deref(), Some("[::1]:1"));
        assert_eq!(literal(&host("rabbit")), None);
    }
}
