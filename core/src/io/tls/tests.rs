use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_lite::future::{block_on, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsAcceptor;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::io::duplex::{End, wire};

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::named(&format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn tls(&self) -> Tls {
        Tls::new().root_pem(self.pem.as_bytes())
    }
}

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn server(
    identity: &Identity,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(chain(&authority.pem).remove(0)).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(chain(&identity.certificate), key).unwrap()).into()
}

async fn echo(acceptor: &TlsAcceptor, io: End) -> io::Result<()> {
    let mut stream = acceptor.accept(io).await?;
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await?;
    stream.write_all(&bytes).await?;
    stream.close().await
}

async fn talk(tls: &Tls, host: &str, io: End) -> Result<()> {
    let mut stream = connect(tls, host, io).await?;
    let broken = |error: io::Error| {
        let explained = error.get_ref().and_then(|error| error.downcast_ref::<Error>()).cloned();
        explained.unwrap_or_else(|| Error::with_source(ErrorKind::Io, "", error))
    };
    stream.write_all(b"hello").await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.map_err(broken)?;
    assert_eq!(bytes, b"hello");
    Ok(())
}

/// Returns the client's result of connecting to `host`, with the server at the other end of a wire.
fn meet(tls: &Tls, host: &str, acceptor: &TlsAcceptor) -> Result<()> {
    let (near, far) = wire(16 << 10, usize::MAX);
    block_on(zip(talk(tls, host, near), echo(acceptor, far))).0
}

fn fails(result: Result<()>, kind: ErrorKind, mentions: &[&str]) {
    let error = result.expect_err("it must fail");
    assert_eq!(error.kind(), kind, "{error}");
    for mention in mentions {
        assert!(error.to_string().contains(mention), "lacks {mention:?}: {error}");
    }
}

#[test]
fn a_trusted_server_is_accepted() {
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        meet(&authority.tls(), "localhost", &server(&identity, None, versions)).unwrap();
    }
}

#[test]
fn records_split_anywhere_are_read() {
    let authority = Authority::new();
    let acceptor = server(&authority.issue("localhost"), None, rustls::ALL_VERSIONS);
    for slice in [1, 7, 100] {
        let (near, far) = wire(16 << 10, slice);
        let (client, server) = block_on(zip(talk(&authority.tls(), "localhost", near), echo(&acceptor, far)));
        client.unwrap();
        server.unwrap();
    }
}

#[test]
fn certificates_may_name_ip_addresses() {
    let authority = Authority::new();
    for (issued, host) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("fe80::1", "fe80::1%eth0")] {
        meet(&authority.tls(), host, &server(&authority.issue(issued), None, rustls::ALL_VERSIONS)).unwrap();
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let acceptor = server(&Authority::new().issue("localhost"), None, rustls::ALL_VERSIONS);
    let result = meet(&Authority::new().tls(), "localhost", &acceptor);
    fails(result, ErrorKind::Tls, &["localhost", "issuer", "cacertfile"]);
}

#[test]
fn the_platform_refuses_an_unknown_authority() {
    let acceptor = server(&Authority::new().issue("localhost"), None, rustls::ALL_VERSIONS);
    let error = match Tls::new().config() {
        Ok(_) => meet(&Tls::new(), "localhost", &acceptor).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Tls);
    let text = error.to_string();
    assert!(text.contains("not among the trusted roots") || text.contains("ca-certificates"), "{text}");
}

#[test]
fn another_authority_of_the_same_name_is_refused() {
    let acceptor = server(&Authority::named("CA").issue("localhost"), None, rustls::ALL_VERSIONS);
    let result = meet(&Authority::named("CA").tls(), "localhost", &acceptor);
    fails(result, ErrorKind::Tls, &["localhost", "same name"]);
}

#[test]
fn a_certificate_for_another_name_is_refused_unless_expected() {
    let authority = Authority::new();
    let acceptor = server(&authority.issue("mq.example"), None, rustls::ALL_VERSIONS);
    fails(meet(&authority.tls(), "localhost", &acceptor), ErrorKind::Tls, &["localhost", "mq.example", "server_name"]);
    meet(&authority.tls().server_name("mq.example"), "localhost", &acceptor).unwrap();
    meet(&authority.tls().server_name("mq.example").hide_server_name(), "localhost", &acceptor).unwrap();
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let acceptor = server(&authority.issue_with("localhost", past), None, rustls::ALL_VERSIONS);
    fails(meet(&authority.tls(), "localhost", &acceptor), ErrorKind::Tls, &["expired", "days ago", "clock"]);
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused() {
    let authority = Authority::new();
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let acceptor = server(&authority.issue_with("localhost", future), None, rustls::ALL_VERSIONS);
    fails(meet(&authority.tls(), "localhost", &acceptor), ErrorKind::Tls, &["not valid for another", "clock"]);
}

#[test]
fn a_ca_certificate_used_by_the_server_is_explained() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let identity = Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    let tls = Tls::new().root_pem(identity.certificate.as_bytes());
    let result = meet(&tls, "localhost", &server(&identity, None, rustls::ALL_VERSIONS));
    fails(result, ErrorKind::Tls, &["that of a CA"]);
}

#[test]
fn any_certificate_is_accepted_if_set() {
    let stranger = Authority::new();
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let identity = stranger.issue_with("elsewhere", past);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let tls = Tls::new().danger_accept_any_certificate();
        meet(&tls, "localhost", &server(&identity, None, versions)).unwrap();
    }
}

#[test]
fn a_client_certificate_is_presented() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.issue("localhost");
    let me = clients.issue("me");
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let acceptor = server(&identity, Some(&clients), versions);
        let tls = authority.tls();
        let known = tls.clone().client_certificate_pem(me.certificate.as_bytes(), me.key.as_bytes());
        meet(&known, "localhost", &acceptor).unwrap();

        fails(meet(&tls, "localhost", &acceptor), ErrorKind::Tls, &["client certificate"]);

        let stranger = Authority::new().issue("me");
        let unknown = tls.client_certificate_pem(stranger.certificate.as_bytes(), stranger.key.as_bytes());
        fails(meet(&unknown, "localhost", &acceptor), ErrorKind::Tls, &["refused"]);
    }
}

#[test]
fn a_plain_amqp_port_is_recognised() {
    for answer in [&b"AMQP\0\0\x09\x01"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (near, mut far) = wire(16 << 10, usize::MAX);
        let plain = async {
            far.read_exact(&mut [0; 8]).await.unwrap();
            far.write_all(answer).await.unwrap();
        };
        let (result, ()) = block_on(zip(talk(&Authority::new().tls(), "localhost", near), plain));
        fails(result, ErrorKind::Tls, &["doesn't speak TLS on this port; is this the plain AMQP port?"]);
    }
}

#[test]
fn a_close_during_the_handshake_is_explained() {
    let (near, mut far) = wire(16 << 10, usize::MAX);
    let plain = async move { far.read_exact(&mut [0; 8]).await.unwrap() };
    let (result, ()) = block_on(zip(talk(&Authority::new().tls(), "localhost", near), plain));
    fails(result, ErrorKind::Tls, &["closed the connection during the TLS handshake"]);
}

#[test]
fn a_rustls_configuration_excludes_other_settings() {
    let authority = Authority::new();
    let acceptor = server(&authority.issue("mq.example"), None, rustls::ALL_VERSIONS);
    let tls = Tls::new().with_rustls(authority.tls().config().unwrap());
    meet(&tls.clone().server_name("mq.example"), "localhost", &acceptor).unwrap();
    let result = meet(&tls.root_pem(authority.pem.as_bytes()), "mq.example", &acceptor);
    fails(result, ErrorKind::Config, &["with_rustls"]);
}

#[test]
fn errors_name_the_bad_file_or_text() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.issue("me");
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let other = authority.issue("other");
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let table: [(Tls, &[&str]); 10] = [
        (Tls::new().root_file("/no/such/ca.pem"), &["/no/such/ca.pem", "root certificates", "can't read"]),
        (Tls::new().root_pem(b""), &["root certificates", "contains no certificate"]),
        (Tls::new().root_pem(b"\x30\x82\x01\x0a"), &["looks like DER"]),
        (Tls::new().root_pem(broken), &["can't be read as PEM"]),
        (Tls::new().root_pem(nonsense), &["can't be used"]),
        (authority.tls().client_certificate_files("/no/me.pem", "/no/me.key"), &["/no/me.pem", "client certificate"]),
        (authority.tls().client_certificate_pem(certificate, b""), &["client key", "contains no private key"]),
        (authority.tls().client_certificate_pem(certificate, encrypted), &["encrypted", "openssl"]),
        (authority.tls().client_certificate_pem(key, key), &["client certificate", "contains no certificate"]),
        (authority.tls().client_certificate_pem(certificate, other.key.as_bytes()), &["don't match"]),
    ];
    for (tls, mentions) in table {
        fails(tls.config().map(drop), ErrorKind::Config, mentions);
    }
}

#[test]
fn an_invalid_server_name_is_refused() {
    let (near, _far) = wire(1, 1);
    fails(block_on(talk(&Tls::new(), "no name", near)), ErrorKind::Config, &["no name"]);
}

#[test]
fn files_are_read_again_for_each_connection() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let path = std::env::temp_dir().join(format!("hopmq-roots-{}-{now}.pem", std::process::id()));
    let (old, new) = (Authority::new(), Authority::new());
    let acceptor = server(&new.issue("localhost"), None, rustls::ALL_VERSIONS);
    let tls = Tls::new().root_file(&path);
    std::fs::write(&path, &old.pem).unwrap();
    let before = meet(&tls, "localhost", &acceptor);
    std::fs::write(&path, &new.pem).unwrap();
    let after = meet(&tls, "localhost", &acceptor);
    std::fs::remove_file(&path).unwrap();
    fails(before, ErrorKind::Tls, &["issuer"]);
    after.unwrap();
}

#[test]
fn debug_prints_file_names_and_no_key() {
    let me = Authority::new().issue("me");
    let tls = Tls::new().root_file("/etc/ca.pem").client_certificate_pem(me.certificate.as_bytes(), me.key.as_bytes());
    let text = format!("{tls:?}");
    assert!(text.contains("/etc/ca.pem") && !text.contains("PRIVATE"), "{text}");
}

#[cfg(feature = "net")]
#[test]
fn a_uri_sets_the_tls_options() {
    use crate::uri::Uri;

    let text = "amqps://h?cacertfile=/a&certfile=/b&keyfile=/c&verify=verify_none&server_name_indication=n";
    let tls = Tls::new().root_pem(b"replaced").with_query(&text.parse::<Uri>().unwrap().tls);
    assert!(matches!(&tls.roots[..], [Pem::File(path)] if path == Path::new("/a")));
    assert!(matches!(&tls.client, Some((Pem::File(b), Pem::File(c))) if b == Path::new("/b") && c == Path::new("/c")));
    assert!(tls.accept_any && !tls.hide_server_name);
    assert_eq!(tls.server_name.as_deref(), Some("n"));

    let text = "amqps://h?verify=verify_peer&server_name_indication=disable";
    let tls = tls.with_query(&text.parse::<Uri>().unwrap().tls);
    assert!(!tls.accept_any && tls.hide_server_name);
}
