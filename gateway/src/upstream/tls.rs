//! TLS for connections that the gateway opens.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;

use crate::config::ConfigError;

/// Returns a connector that trusts the authorities in `upstream.ca_file`, or those of the system.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls { reason: error.to_string() })?;
    let config = match ca_file {
        Some(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
        None => builder
            .with_platform_verifier()
            .map_err(|error| ConfigError::Tls {
                reason: format!("cannot load the system's authorities: {error}; set upstream.ca_file"),
            })?
            .with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read_roots(path: &Path) -> Result<RootCertStore, ConfigError> {
    let setting = || "upstream.ca_file".to_owned();
    let wrong = |reason: String| ConfigError::File { setting: setting(), path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| ConfigError::Unreadable {
        setting: setting(),
        path: path.to_owned(),
        error,
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no PEM certificate".to_owned()));
    }
    Ok(roots)
}
