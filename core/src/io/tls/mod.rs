//! TLS, by [rustls](https://docs.rs/rustls) with the cryptography of ring: TLS 1.2 and 1.3.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hopmq::tls::Tls;
//!
//! let public = Tls::new();
//! let private = Tls::new().root_file("/etc/mq/ca.pem").client_certificate_files("/etc/mq/me.pem", "/etc/mq/me.key");
//! # Ok(()) }
//! ```
//!
//! Without roots of your own, the operating system decides what is trusted, through
//! [rustls-platform-verifier](https://docs.rs/rustls-platform-verifier): on macOS, Windows, iOS and Android its own
//! verifier, with revocations and the administrator's rules; on Linux and the BSDs the certificates that OpenSSL
//! would use, where `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. rustls-native-certs, which copies the system's
//! roots on every platform, has two crates less and points to it for these reasons.
//!
//! Files are read anew for each connection, so a renewed certificate is used from the next (re)connection on, and
//! every error about them comes from connecting. The platform's roots are read once in the life of the process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::TlsConnector;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::error::{Error, ErrorKind, Result};

mod explain;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use stream::TlsStream;

/// How to secure the connection. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tls {
    roots: Vec<Pem>,
    client: Option<(Pem, Pem)>,
    server_name: Option<String>,
    hide_server_name: bool,
    accept_any: bool,
    rustls: Option<Arc<ClientConfig>>,
}

#[derive(Clone)]
enum Pem {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

impl Tls {
    /// Trusts what the operating system trusts, and presents no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM text, and no longer the platform's. Several calls add up.
    pub fn root_pem(mut self, pem: &[u8]) -> Self {
        self.roots.push(Pem::Bytes(pem.into()));
        self
    }

    /// Trusts the certificates in this PEM file, and no longer the platform's. Several calls add up.
    pub fn root_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Pem::File(path.as_ref().to_owned()));
        self
    }

    /// Presents this certificate, followed by those between it and the root, and proves it by the key: all PEM.
    /// The key is PKCS#8, PKCS#1 or SEC1, and not encrypted.
    pub fn client_certificate_pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.client = Some((Pem::Bytes(certificate.into()), Pem::Bytes(key.into())));
        self
    }

    /// As [`client_certificate_pem`](Self::client_certificate_pem), from files.
    pub fn client_certificate_files(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.client = Some((Pem::File(certificate.as_ref().to_owned()), Pem::File(key.as_ref().to_owned())));
        self
    }

    /// Expects this name in the server's certificate, and asks for it (SNI), instead of the host connected to.
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Does not tell the server in clear text which name is expected (no SNI). The certificate is checked all the same.
    pub fn hide_server_name(mut self) -> Self {
        self.hide_server_name = true;
        self
    }

    /// Believes any certificate, so that anyone between may read and change everything, passwords too. For tests.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.accept_any = true;
        self
    }

    /// Uses this configuration of rustls 0.23 as it is. Of the others, only [`server_name`](Self::server_name) may
    /// be given with it.
    pub fn with_rustls(mut self, config: Arc<ClientConfig>) -> Self {
        self.rustls = Some(config);
        self
    }

    /// What the URI says goes over what was set before.
    pub(crate) fn with_query(mut self, query: &crate::uri::TlsQuery) -> Self {
        if let Some(path) = &query.cacertfile {
            self.roots = vec![Pem::File(path.clone())];
        }
        if let (Some(certificate), Some(key)) = (&query.certfile, &query.keyfile) {
            self = self.client_certificate_files(certificate, key);
        }
        if let Some(verify) = query.verify {
            self.accept_any = !verify;
        }
        match &query.server_name {
            Some(crate::uri::ServerName::Name(name)) => self.server_name(name),
            Some(crate::uri::ServerName::Disabled) => self.hide_server_name(),
            None => self,
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = &self.rustls {
            if !self.roots.is_empty() || self.client.is_some() || self.accept_any || self.hide_server_name {
                return Err(config_error("with_rustls brings its own roots and certificates: set them there"));
            }
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::with_source(ErrorKind::Tls, "rustls can't be set up", error))?;
        let builder = if self.accept_any {
            let verifier = Arc::new(verify::AcceptAny(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else if self.roots.is_empty() {
            builder.dangerous().with_custom_certificate_verifier(platform_verifier(provider)?)
        } else {
            builder.with_root_certificates(self.root_store()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificate.certificates("the client's certificate")?;
                builder.with_client_auth_cert(chain, key.private_key()?).map_err(|error| {
                    let (certificate, key) = (certificate.place(), key.place());
                    let message = format!("the client's certificate ({certificate}) and key ({key}) don't fit");
                    Error::with_source(ErrorKind::Config, message, error)
                })?
            }
        };
        config.enable_sni = !self.hide_server_name;
        // A configuration lives for one connection, so there is nothing to resume.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn root_store(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for pem in &self.roots {
            for certificate in pem.certificates("the root certificates")? {
                store.add(certificate).map_err(|error| {
                    let message = format!("a root certificate ({}) can't be used", pem.place());
                    Error::with_source(ErrorKind::Config, message, error)
                })?;
            }
        }
        Ok(store)
    }
}

/// Keys stay out of it.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots.iter().map(Pem::place).collect::<Vec<_>>())
            .field("client_certificate", &self.client.as_ref().map(|(certificate, _)| certificate.place()))
            .field("server_name", &self.server_name)
            .field("accept_any", &self.accept_any)
            .finish_non_exhaustive()
    }
}

impl Pem {
    /// Where it comes from, for errors.
    fn place(&self) -> String {
        match self {
            Self::Bytes(bytes) => format!("{} bytes of PEM", bytes.len()),
            Self::File(path) => format!("file {}", path.display()),
        }
    }

    fn read(&self, what: &str) -> Result<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => std::fs::read(path).map(Arc::from).map_err(|error| {
                Error::with_source(ErrorKind::Config, format!("can't read {what} ({})", self.place()), error)
            }),
        }
    }

    fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>> {
        let bytes = self.read(what)?;
        let certificates = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.broken(what, error))?;
        match certificates.is_empty() {
            false => Ok(certificates),
            true => Err(self.lacks(what, "certificate", &bytes)),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        let what = "the client's key";
        let bytes = self.read(what)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if contains(&bytes, b"ENCRYPTED PRIVATE KEY") => config_error(format!(
                "{what} ({}) is encrypted: decrypt it first, for example with `openssl pkey`",
                self.place()
            )),
            pem::Error::NoItemsFound => self.lacks(what, "private key", &bytes),
            error => self.broken(what, error),
        })
    }

    fn broken(&self, what: &str, error: pem::Error) -> Error {
        Error::with_source(ErrorKind::Config, format!("{what} ({}) can't be read as PEM", self.place()), error)
    }

    fn lacks(&self, what: &str, item: &str, bytes: &[u8]) -> Error {
        // DER begins with a SEQUENCE.
        let hint = if bytes.first() == Some(&0x30) { ": it looks like DER, and PEM is needed" } else { "" };
        config_error(format!("{what} ({}) holds no {item}{hint}", self.place()))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn config_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// Shared by all connections of the process, because reading the roots takes milliseconds. A failure is tried again.
fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    static VERIFIER: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(Arc::clone(verifier) as _);
    }
    let verifier = Verifier::new(provider).map_err(|error| {
        let message = "the system's root certificates can't be used: install the package ca-certificates, \
                       or name roots of your own (root_file, or cacertfile in the URI)";
        Error::with_source(ErrorKind::Tls, message, error)
    })?;
    Ok(Arc::clone(VERIFIER.get_or_init(|| Arc::new(verifier))) as _)
}

/// Does the handshake over `io`. `host` is what was connected to: a name or an address.
///
/// # Errors
/// [`ErrorKind::Config`] for files and names that can't be used, [`ErrorKind::Tls`] for a handshake that fails, and
/// [`ErrorKind::Io`] for the rest. Dropping the future drops `io`.
pub(crate) async fn connect<S>(tls: &Tls, host: &str, io: S) -> Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let expected = tls.server_name.as_deref().unwrap_or(host);
    // The zone of a link-local address is no part of what a certificate says.
    let name = expected.split_once('%').map_or(expected, |(address, _zone)| address);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| {
        Error::with_source(ErrorKind::Config, format!("{expected:?} can't be a server's name"), error)
    })?;
    match TlsConnector::from(tls.config()?).connect(name, io).await {
        Ok(stream) => Ok(TlsStream::new(stream, expected)),
        Err(error) => Err(explain::handshake(expected, error)),
    }
}
