//! Certificates for the test broker: an authority, a server for `localhost`, and a client.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::shell::{self, Result};

/// Writes `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`. The client certificate's common name is
/// `client`; EXTERNAL logs in the user of that name.
pub(crate) fn write(folder: &Path, client: &str) -> Result {
    let mut params = named("HopMQ test authority", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    shell::write(&folder.join("ca.pem"), &params.self_signed(&key)?.pem())?;
    let authority = Issuer::new(params, key);

    let mut server = named("localhost", &["localhost", "127.0.0.1", "::1"])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(folder, "server", server, &authority)?;

    let mut user = named(client, &[client])?;
    user.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(folder, "client", user, &authority)
}

fn named(common_name: &str, subjects: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subjects.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}

fn sign(folder: &Path, name: &str, mut params: CertificateParams, authority: &Issuer<'_, KeyPair>) -> Result {
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    shell::write(&folder.join(format!("{name}.pem")), &certificate.pem())?;
    shell::write(&folder.join(format!("{name}.key")), &key.serialize_pem())
}
