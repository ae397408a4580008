//! TLS 1.2 and 1.3, by [rustls](https://docs.rs/rustls) with the cryptography of ring.
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
//! Without custom roots, the operating system decides which certificates are trusted, through
//! [rustls-platform-verifier](https://docs.rs/rustls-platform-verifier): on macOS, Windows, iOS and Android its own
//! verifier, with revocations and the administrator's rules; on Linux and the BSDs the certificates that OpenSSL would
//! use, which `SSL_CERT_FILE` and `SSL_CERT_DIR` can replace. rustls-native-certs, which copies the system's roots on
//! every platform, has two fewer dependencies, but itself recommends rustls-platform-verifier for these reasons.
//!
//! Files are read again for each connection, so a renewed certificate is used from the next (re)connection on, and
//! errors about files are reported when connecting. The platform's roots are read once per process.

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

/// The TLS settings of a connection. Cheap to clone.
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
    /// Creates settings that trust the operating system's roots and present no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM text instead of the platform's. Further calls add certificates.
    pub fn root_pem(mut self, pem: &[u8]) -> Self {
        self.roots.push(Pem::Bytes(pem.into()));
        self
    }

    /// Trusts the certificates in this PEM file instead of the platform's. Further calls add certificates.
    pub fn root_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Pem::File(path.as_ref().to_owned()));
        self
    }

    /// Presents this client certificate, followed by those between it and the root, and proves it with `key`; both are
    /// PEM. The key must be PKCS#8, PKCS#1 or SEC1, and not encrypted.
    pub fn client_certificate_pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.client = Some((Pem::Bytes(certificate.into()), Pem::Bytes(key.into())));
        self
    }

    /// Presents a client certificate from files: see [`client_certificate_pem`](Self::client_certificate_pem).
    pub fn client_certificate_files(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.client = Some((Pem::File(certificate.as_ref().to_owned()), Pem::File(key.as_ref().to_owned())));
        self
    }

    /// Expects this name in the server's certificate, and requests it by SNI, instead of the host name of the
    /// connection.
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Sends no SNI, which would tell the server the expected name in clear text. The certificate is still checked.
    pub fn hide_server_name(mut self) -> Self {
        self.hide_server_name = true;
        self
    }

    /// Accepts any certificate, so that an attacker on the path can read and change everything, including passwords.
    /// For tests only.
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.accept_any = true;
        self
    }

    /// Uses this rustls 0.23 configuration unchanged. It may be combined only with [`server_name`](Self::server_name).
    pub fn with_rustls(mut self, config: Arc<ClientConfig>) -> Self {
        self.rustls = Some(config);
        self
    }

    /// Applies the TLS parameters of a URI on top of the earlier settings.
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
                return Err(config_error("with_rustls excludes other TLS settings: put them into its config"));
            }
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::with_source(ErrorKind::Tls, "rustls could not be configured", error))?;
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
                let chain = certificate.certificates("the client certificate")?;
                builder.with_client_auth_cert(chain, key.private_key()?).map_err(|error| {
                    let (certificate, key) = (certificate.place(), key.place());
                    let message = format!("the client certificate ({certificate}) and key ({key}) don't match");
                    Error::with_source(ErrorKind::Config, message, error)
                })?
            }
        };
        config.enable_sni = !self.hide_server_name;
        // A configuration serves one connection, so there is no session to resume.
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

/// Prints no keys.
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
    /// Returns the origin of the PEM text, for errors.
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
        let what = "the client key";
        let bytes = self.read(what)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if contains(&bytes, b"ENCRYPTED PRIVATE KEY") => config_error(format!(
                "{what} ({}) is encrypted: decrypt it, for example with `openssl pkey`",
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
        let hint = if bytes.first() == Some(&0x30) { ": it looks like DER; convert it to PEM" } else { "" };
        config_error(format!("{what} ({}) contains no {item}{hint}", self.place()))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn config_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// Returns the platform's verifier, which all connections of the process share because reading the roots takes
/// milliseconds. A failure is not cached.
fn platform_verifier(provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    static VERIFIER: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = VERIFIER.get() {
        return Ok(Arc::clone(verifier) as _);
    }
    let verifier = Verifier::new(provider).map_err(|error| {
        let message = "the system's root certificates can't be used: install the package ca-certificates, \
                       or set custom roots (root_file, or cacertfile in the URI)";
        Error::with_source(ErrorKind::Tls, message, error)
    })?;
    Ok(Arc::clone(VERIFIER.get_or_init(|| Arc::new(verifier))) as _)
}

/// Performs the TLS handshake over `io`. `host` is the name or address that `io` is connected to.
///
/// # Errors
/// [`ErrorKind::Config`] for files and names that can't be used, [`ErrorKind::Tls`] if the handshake fails, and
/// [`ErrorKind::Io`] for other failures. Dropping the future drops `io`.
pub(crate) async fn connect<S>(tls: &Tls, host: &str, io: S) -> Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let expected = tls.server_name.as_deref().unwrap_or(host);
    // Certificates contain no zone of a link-local address.
    let name = expected.split_once('%').map_or(expected, |(address, _zone)| address);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| {
        Error::with_source(ErrorKind::Config, format!("{expected:?} is not a valid server name"), error)
    })?;
    match TlsConnector::from(tls.config()?).connect(name, io).await {
        Ok(stream) => Ok(TlsStream::new(stream, expected)),
        Err(error) => Err(explain::handshake(expected, error)),
    }
}
