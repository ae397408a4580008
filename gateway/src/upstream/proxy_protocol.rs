//! The header of the PROXY protocol, version 2, which tells RabbitMQ the address of the page (HAProxy's
//! `proxy-protocol.txt`, section 2.2).

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Returns the header of a connection for `client` to a broker at `to`. A connection of the gateway itself has its own
/// address: RabbitMQ fails with a long error in its log on the command for such connections (LOCAL).
pub(super) fn header(client: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (port, to_port) = (client.port().to_be_bytes(), to.port().to_be_bytes());
    let (family, addresses) = match client.ip().to_canonical() {
        IpAddr::V4(from) => {
            let to_ip = if let IpAddr::V4(to) = to.ip().to_canonical() { to.octets() } else { [0; 4] };
            (TCP4, [&from.octets()[..], &to_ip, &port, &to_port].concat())
        }
        IpAddr::V6(from) => {
            let to_ip = match to.ip() {
                IpAddr::V6(to) => to.octets(),
                IpAddr::V4(to) => to.to_ipv6_mapped().octets(),
            };
            (TCP6, [&from.octets()[..], &to_ip, &port, &to_port].concat())
        }
    };
    [SIGNATURE, &[PROXY, family][..], &(addresses.len() as u16).to_be_bytes(), &addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_the_addresses_of_one_family() {
        let header = |client: &str, to: &str| header(client.parse().unwrap(), to.parse().unwrap());
        let v4 = header("203.0.113.9:4711", "127.0.0.1:5672");
        assert_eq!(v4[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(v4[16..], [203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0x16, 0x28]);
        assert_eq!(header("[::ffff:203.0.113.9]:4711", "127.0.0.1:5672"), v4);
        let v6 = header("[2001:db8::7]:4711", "127.0.0.1:5672");
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(v6.len(), 16 + 36);
    }
}
