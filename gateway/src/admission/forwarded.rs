//! The client's address and the requested host, from the headers of trusted reverse proxies.
//!
//! Any client can send such headers, so only those of trusted proxies count: from the socket's peer backwards, each
//! trusted proxy names the previous hop, up to the first address that is not a trusted proxy.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::config::{self, ProxyHeader};

/// The trusted proxies, and the header that they write.
#[derive(Debug)]
pub(crate) struct TrustedProxies {
    trusted: Vec<IpNet>,
    header: ProxyHeader,
}

/// The client behind the proxies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// The host that the last trusted proxy was requested for.
    pub(crate) host: Option<String>,
    /// Whether the client is on the gateway's own machine: it connects from loopback, and not through a proxy.
    pub(crate) is_local: bool,
}

impl TrustedProxies {
    pub(crate) fn new(config: &config::Proxy) -> Self {
        Self { trusted: config.trusted.clone(), header: config.header }
    }

    /// Whether the address is that of a trusted proxy.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns the client that sent these headers over a connection from `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            let is_proxied = ["x-forwarded-for", "forwarded"].iter().any(|name| headers.contains_key(*name));
            return Client { address: peer, host: None, is_local: peer.is_loopback() && !is_proxied };
        }
        let (hops, hosts) = match self.header {
            ProxyHeader::XForwardedFor => (list(headers, "x-forwarded-for"), list(headers, "x-forwarded-host")),
            ProxyHeader::Forwarded => {
                let elements = list(headers, "forwarded");
                let hops = elements.iter().map(|element| parameter(element, "for").unwrap_or_default()).collect();
                (hops, elements.iter().filter_map(|element| parameter(element, "host")).collect())
            }
        };
        let mut address = peer;
        for hop in hops.iter().rev() {
            // A proxy may hide the client's address (`unknown`): the proxy's own address is then used instead.
            let Some(next) = parse(hop) else { break };
            address = next;
            if !self.trusts(address) {
                break;
            }
        }
        Client { address, host: hosts.last().cloned(), is_local: false }
    }
}

/// Returns the entries of a list header, in order, over all its lines.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|entry| entry.trim().to_owned()).collect()
}

/// Returns a parameter of a `Forwarded` element (RFC 7239, section 4), without quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
}

/// Parses an address with or without brackets and port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], header: ProxyHeader, peer: &str, lines: &[(&'static str, &str)]) -> Client {
        let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        TrustedProxies::new(&config::Proxy { trusted, header }).client(peer.parse().unwrap(), &headers)
    }

    fn address(trusted: &[&str], peer: &str, value: &str) -> String {
        client(trusted, ProxyHeader::XForwardedFor, peer, &[("x-forwarded-for", value)]).address.to_string()
    }

    #[test]
    fn untrusted_peers_cannot_set_the_address() {
        assert_eq!(address(&[], "203.0.113.9", "127.0.0.1"), "203.0.113.9");
        assert_eq!(address(&["10.0.0.0/8"], "203.0.113.9", "127.0.0.1"), "203.0.113.9");
    }

    #[test]
    fn the_last_untrusted_hop_is_the_client() {
        assert_eq!(address(&["10.0.0.0/8"], "10.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(address(&["10.0.0.0/8"], "10.0.0.1", "127.0.0.1, 203.0.113.9, 10.0.0.2"), "203.0.113.9");
        assert_eq!(address(&["10.0.0.0/8"], "::ffff:10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(address(&["10.0.0.0/8"], "10.0.0.1", "10.0.0.7"), "10.0.0.7");
    }

    #[test]
    fn an_unknown_hop_ends_the_chain() {
        assert_eq!(address(&["10.0.0.0/8"], "10.0.0.1", "127.0.0.1, unknown"), "10.0.0.1");
        assert_eq!(address(&["10.0.0.0/8"], "10.0.0.1", ""), "10.0.0.1");
        let spoofed = client(
            &["10.0.0.0/8"],
            ProxyHeader::Forwarded,
            "10.0.0.1",
            &[("forwarded", "for=127.0.0.1, for=203.0.113.9;host=here.example")],
        );
        let address = "203.0.113.9".parse().unwrap();
        assert_eq!(spoofed, Client { address, host: Some("here.example".into()), is_local: false });
    }

    #[test]
    fn only_a_client_without_a_proxy_is_local() {
        let is_local = |trusted: &[&str], peer: &str, lines: &[(&'static str, &str)]| {
            client(trusted, ProxyHeader::XForwardedFor, peer, lines).is_local
        };
        assert!(is_local(&[], "127.0.0.1", &[]) && is_local(&[], "::1", &[]));
        assert!(!is_local(&[], "192.0.2.1", &[]));
        // A proxy on this machine, trusted or not, stands for another client.
        let forwarded = [("x-forwarded-for", "203.0.113.9")];
        assert!(!is_local(&[], "127.0.0.1", &forwarded) && !is_local(&["127.0.0.0/8"], "127.0.0.1", &forwarded));
        assert!(!is_local(&["127.0.0.0/8"], "127.0.0.1", &[]));
        assert!(!is_local(&["127.0.0.0/8"], "127.0.0.1", &[("x-forwarded-for", "unknown")]));
        // This is the machine of the proxy.
        assert!(!is_local(&["10.0.0.0/8"], "10.0.0.1", &[("x-forwarded-for", "127.0.0.1")]));
    }

    #[test]
    fn only_the_configured_header_is_read() {
        let lines = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=\"[2001:db8::7]:1\";proto=https")];
        let found = client(&["10.0.0.0/8"], ProxyHeader::Forwarded, "10.0.0.1", &lines);
        assert_eq!(found.address.to_string(), "2001:db8::7");
    }
}
