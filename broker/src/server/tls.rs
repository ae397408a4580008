//! Listeners for clients over TLS.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures_rustls::TlsAcceptor;
use hopmq_socket::Socket;
use rustls::ServerConfig;

use super::{Broker, peer_address};

/// The time limit for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl Broker {
    /// Listens for clients over TLS, with a certificate and further settings in `config`. Returns the address: for port
    /// 0, with the port that the system chose.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub fn listen_tls(&self, address: impl ToSocketAddrs, config: Arc<ServerConfig>) -> io::Result<SocketAddr> {
        let acceptor = TlsAcceptor::from(config);
        self.listen_with(address, move |broker, stream| {
            let client = peer_address(&stream);
            broker.serve_tls(&acceptor, stream, client);
        })
    }

    /// Listens for clients over TLS behind a proxy that sends the PROXY protocol before the TLS handshake, as
    /// [`Broker::listen_proxied`] does without TLS.
    ///
    /// # Errors
    /// If the address can't be bound.
    pub fn listen_tls_proxied(&self, address: impl ToSocketAddrs, config: Arc<ServerConfig>) -> io::Result<SocketAddr> {
        let acceptor = TlsAcceptor::from(config);
        self.listen_with(address, move |broker, stream| {
            let acceptor = acceptor.clone();
            broker.serve_proxied(stream, move |broker, stream, client| broker.serve_tls(&acceptor, stream, client));
        })
    }

    fn serve_tls(&self, acceptor: &TlsAcceptor, stream: Async<TcpStream>, address: SocketAddr) {
        let Some(admission) = self.admit(address.ip()) else { return };
        // Otherwise answers would wait for the client's next packet.
        let _ = stream.get_ref().set_nodelay(true);
        let accepting = acceptor.accept(Socket::new(stream));
        let broker = Arc::downgrade(&self.0);
        let too_slow = async {
            Timer::after(HANDSHAKE_TIMEOUT).await;
            Err(io::Error::from(io::ErrorKind::TimedOut))
        };
        let handshake = futures_lite::future::or(accepting, too_slow);
        let serve = async move {
            match (handshake.await, broker.upgrade()) {
                (Ok(stream), Some(handle)) => Self(handle).serve_socket(stream, address, admission),
                (Ok(_), None) => {}
                (Err(error), _) => tracing::info!(peer = %address, %error, "TLS handshake failed"),
            }
        };
        self.spawn(serve).detach();
    }
}
