//! The two halves of a connection, plain or encrypted. Each is used by a thread of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

type Tls = Option<Arc<Mutex<ServerConnection>>>;

/// The receiving half.
pub struct Input {
    stream: TcpStream,
    tls: Tls,
    raw: Vec<u8>,
    plain: Vec<u8>,
    taken: usize,
}

/// The sending half. A writer holds the lock until all its bytes are written, so frames never mix.
pub struct Output {
    stream: Mutex<TcpStream>,
    raw: TcpStream,
    tls: Tls,
}

/// The TLS configuration with the certificate chain and the key in `folder`.
pub fn server_config(folder: &Path) -> io::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)
}

pub fn plain(stream: TcpStream) -> io::Result<(Input, Arc<Output>)> {
    split(stream, None)
}

/// Accepts TLS. Returns after the handshake.
pub fn encrypted(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<(Input, Arc<Output>)> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    split(stream, Some(Arc::new(Mutex::new(tls))))
}

fn split(stream: TcpStream, tls: Tls) -> io::Result<(Input, Arc<Output>)> {
    let output = Output { stream: Mutex::new(stream.try_clone()?), raw: stream.try_clone()?, tls: tls.clone() };
    let raw = if tls.is_some() { vec![0; 64 << 10] } else { Vec::new() };
    Ok((Input { stream, tls, raw, plain: Vec::new(), taken: 0 }, Arc::new(output)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.read(buffer) };
        while self.taken == self.plain.len() {
            self.plain.clear();
            self.taken = 0;
            drain(&mut lock(tls), &mut self.plain)?;
            if !self.plain.is_empty() {
                break;
            }
            let n = self.stream.read(&mut self.raw)?;
            if n == 0 {
                return Ok(0);
            }
            let mut tls = lock(tls);
            let mut raw = &self.raw[..n];
            while !raw.is_empty() {
                tls.read_tls(&mut raw)?;
                drain(&mut tls, &mut self.plain)?;
            }
        }
        let n = (&self.plain[self.taken..]).read(buffer)?;
        self.taken += n;
        Ok(n)
    }
}

fn drain(tls: &mut ServerConnection, plain: &mut Vec<u8>) -> io::Result<()> {
    let waiting = tls.process_new_packets().map_err(io::Error::other)?.plaintext_bytes_to_read();
    let start = plain.len();
    plain.resize(start + waiting, 0);
    if waiting > 0 {
        tls.reader().read_exact(&mut plain[start..])?;
    }
    Ok(())
}

impl Output {
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = lock(&self.stream);
        let Some(tls) = &self.tls else { return stream.write_all(bytes) };
        let mut sealed = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 64);
        let mut tls = lock(tls);
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut sealed)?;
        }
        drop(tls);
        stream.write_all(&sealed)
    }

    /// Shuts down both directions, even while a write blocks.
    pub fn close(&self) {
        let _already_closed = self.raw.shutdown(Shutdown::Both);
    }
}
