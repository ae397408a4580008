//! Explanations of TLS failures, with what to do about them.

use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::error::{Error, ErrorKind};

/// Explains why the handshake with the server failed.
pub(super) fn handshake(name: &str, error: io::Error) -> Error {
    let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    match later(name, &error) {
        Some(error) => error,
        None if gone.contains(&error.kind()) => Error::with_source(
            ErrorKind::Tls,
            format!(
                "{name} closed the connection during the TLS handshake: \
                 does it speak TLS on this port, and does it have a certificate?"
            ),
            error,
        ),
        None => {
            Error::with_source(ErrorKind::Io, format!("the connection to {name} broke in the TLS handshake"), error)
        }
    }
}

/// Explains an error that TLS itself caused. It may also occur after the handshake: in TLS 1.3, a server refuses a
/// client certificate only once the client's side of the handshake is complete.
pub(super) fn later(name: &str, error: &io::Error) -> Option<Error> {
    let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let why = match cause {
        rustls::Error::InvalidCertificate(why) => format!("the certificate of {name} {}", certificate(name, why)),
        rustls::Error::InvalidMessage(_) => {
            format!("{name} doesn't speak TLS on this port; is this the plain AMQP port?")
        }
        rustls::Error::AlertReceived(alert) => format!("{name} refused the TLS handshake: {}", refusal(*alert)),
        rustls::Error::PeerIncompatible(_) => {
            format!("{name} shares no TLS version or cipher with this program: TLS 1.2 or 1.3 is needed")
        }
        _ => format!("TLS with {name} failed"),
    };
    Some(Error::with_source(ErrorKind::Tls, why, cause.clone()))
}

fn certificate(name: &str, error: &CertificateError) -> String {
    let days = |from: u64, to: u64| to.saturating_sub(from) / 86_400;
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            let days = days(not_after.as_secs(), time.as_secs());
            format!("expired {days} days ago: renew it, if this machine's clock is right")
        }
        CertificateError::Expired => "has expired: renew it, if this machine's clock is right".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            let days = days(time.as_secs(), not_before.as_secs());
            format!("is not valid for another {days} days: is this machine's clock right?")
        }
        CertificateError::NotValidYet => "is not valid yet: is this machine's clock right?".to_owned(),
        CertificateError::UnknownIssuer => "comes from an issuer that is not among the trusted roots: \
             add its CA certificate to the system, or set it (root_file, or cacertfile in the URI)"
            .to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "contains no host name: issue one with a subjectAltName".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = presented.join(", ");
            format!("is for {presented}: connect by that name, or set the expected name (server_name)")
        }
        CertificateError::NotValidForName => format!("is not for the name {name}"),
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::BadSignature => "is not signed by the trusted root of its issuer's name: \
             another CA has the same name, perhaps because the root was recreated"
            .to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not allowed for servers (extended key usage)".to_owned()
        }
        CertificateError::Other(_) if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "is that of a CA: issue a separate certificate for the server".to_owned()
        }
        CertificateError::Other(_) if format!("{error:?}").contains("UnsupportedCertVersion") => {
            "is not X.509 version 3: reissue it, with a subjectAltName".to_owned()
        }
        _ => "is not acceptable".to_owned(),
    }
}

fn refusal(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired => "it requires a client certificate, and none was given",
        AlertDescription::UnknownCA => "it doesn't know the issuer of the client certificate",
        AlertDescription::CertificateExpired => "the client certificate has expired",
        AlertDescription::CertificateRevoked => "the client certificate was revoked",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it doesn't accept the client certificate, or requires one",
        AlertDescription::UnrecognisedName => "it has no certificate for that name",
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3",
        AlertDescription::HandshakeFailure => {
            "no cipher or key type in common, or it requires a client certificate (handshake failure)"
        }
        _ => "it sent an alert",
    }
}
