//! The program `hopmq-broker`: doors, a folder and signals around [`Broker`].

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use clap::Parser;
use futures_lite::StreamExt;
use futures_lite::future::or;
use hopmq_broker::store::ErrorKind;
use hopmq_broker::{Broker, Period};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An AMQP 0-9-1 broker that behaves as RabbitMQ.
///
/// Without arguments it listens on 127.0.0.1:5672 and keeps everything in memory. Log in as guest with the password
/// guest, from this machine only.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    /// Where to listen for clients; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5672", value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Where to listen for clients over TLS; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, requires_all = ["tls_certificate", "tls_key"])]
    tls_listen: Vec<SocketAddr>,

    /// The certificate for TLS and those that it is signed by, in a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_certificate: Option<PathBuf>,

    /// The certificate's private key, in a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_key: Option<PathBuf>,

    /// The folder that keeps durable queues and persistent messages; made if there is none. Without it nothing
    /// survives the end of the program
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Definitions to take in before anybody is let in: a file of RabbitMQ's format, as
    /// `rabbitmqctl export_definitions` writes it
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,

    /// How long clients have to close their connections after SIGTERM or ctrl-c, such as 10s or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = period)]
    drain: Duration,
}

/// Tells whoever listens. A broker goes on when nobody does.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(io::stdout(), $($words)*);
    }};
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:5672".to_owned())
}

fn period(text: &str) -> Result<Duration, String> {
    text.parse().map(Period::duration)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hopmq-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let mut signals = signals().map_err(|error| format!("signals can't be listened to: {error}"))?;
    let broker = start(options)?;
    if let Some(file) = &options.definitions {
        import(&broker, file)?;
    }
    let mut doors = Vec::new();
    for address in &options.listen {
        let door = broker.listen(address).map_err(|error| refused_door(*address, &error))?;
        doors.push(format!("amqp://guest:guest@{door}"));
    }
    if let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_key) {
        let config = tls_config(certificate, key)?;
        for address in &options.tls_listen {
            let door = broker.listen_tls(address, Arc::clone(&config));
            let door = door.map_err(|error| refused_door(*address, &error))?;
            doors.push(format!("amqps://guest:guest@{door}"));
        }
    }
    say!("hopmq-broker {} is ready", env!("CARGO_PKG_VERSION"));
    for door in doors {
        say!("  clients: {door}");
    }
    match &options.data {
        Some(folder) => say!("  data:    {}", folder.display()),
        None => say!("  data:    in memory; nothing survives the end of this program without --data FOLDER"),
    }
    async_io::block_on(async {
        signals.next().await;
        say!("closing all connections, for at most {:?}; another signal ends at once", options.drain);
        let impatient = async {
            signals.next().await;
        };
        or(broker.shut_down(options.drain), impatient).await;
    });
    say!("ended");
    Ok(())
}

fn start(options: &Options) -> Result<Broker, String> {
    let builder = Broker::builder();
    #[cfg(feature = "testing")]
    let builder = builder.watched(false);
    let Some(folder) = &options.data else { return Ok(builder.start()) };
    let opened = hopmq_broker::store::DiskStorage::open(folder).and_then(|storage| builder.open(storage));
    opened.map_err(|error| match error.kind() {
        ErrorKind::Locked => format!("{error}, or name another one with --data"),
        _ => format!("the data in {} can't be used: {error}", folder.display()),
    })
}

fn import(broker: &Broker, file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let taken = text.and_then(|text| broker.import_definitions(&text).map_err(|error| error.to_string()));
    taken.map_err(|error| format!("the definitions in {} can't be taken: {error}", file.display()))
}

fn tls_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let unusable = |file: &Path, error: &dyn fmt::Display| format!("{} can't be used: {error}", file.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| unusable(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    config.map(Arc::new).map_err(|error| unusable(certificate, &error))
}

fn refused_door(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is taken: is another broker running there? Stop it, or name another port with --listen")
        }
        io::ErrorKind::PermissionDenied => format!("{address} may not be listened on: ports below 1024 are for root"),
        io::ErrorKind::AddrNotAvailable => format!("{address} is not an address of this machine"),
        _ => format!("{address} can't be listened on: {error}"),
    }
}

fn signals() -> io::Result<Signals> {
    if cfg!(unix) { Signals::new([Signal::Int, Signal::Term]) } else { Signals::new([Signal::Int]) }
}
