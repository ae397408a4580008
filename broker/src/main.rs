//! The program `hopmq-broker`: options, logs, listeners and signals around [`Broker`].

mod memory_limit;
mod size;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use clap::{Parser, ValueEnum};
use futures_lite::StreamExt;
use futures_lite::future::or;
use hopmq_broker::store::{DiskStorage, ErrorKind, Settings};
use hopmq_broker::{Broker, Limits, Period, Profile};
use memory_limit::{Available, MemoryLimit};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Gives memory back to the system within seconds after it is freed, by threads of its own. The C library keeps three
/// quarters of a peak of messages: in its heaps, one block in use keeps all that lies before it.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An AMQP 0-9-1 broker that behaves as RabbitMQ.
///
/// Without arguments it listens on 127.0.0.1:5672 and keeps everything in memory. Log in as guest with the password
/// guest, from this machine only; with definitions that bring users, there is no guest unless they name it.
///
/// The program ends with 0 after SIGTERM or ctrl-c, with 1 if it cannot start, and with 2 if its options are wrong.
/// SIGHUP is ignored.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    /// Address to listen on for clients; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5672", value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Address to listen on for clients over TLS; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address, requires_all = ["tls_certificate", "tls_key"])]
    tls_listen: Vec<SocketAddr>,

    /// Certificate chain for TLS, the server's own certificate first, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_certificate: Option<PathBuf>,

    /// Private key of the certificate, as a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    tls_key: Option<PathBuf>,

    /// Take clients from a proxy that sends the PROXY protocol, version 2, on all of these addresses, such as
    /// hopmq-gateway with upstream.proxy_protocol: the address in its header counts as the client's. Connections
    /// without the header are refused. Let only the proxy reach the addresses
    #[arg(long)]
    proxy_protocol: bool,

    /// Address that many clients share, such as that of a gateway or proxy that does not send the PROXY protocol; may
    /// be given several times. Wrong passwords of some of its clients do not keep the others out: logins from there
    /// wait for 2 seconds at most, and the proxy must limit its clients' wrong passwords itself
    #[arg(long, value_name = "ADDRESS")]
    shared_address: Vec<IpAddr>,

    /// Folder for durable queues and persistent messages; created if it does not exist. Without it, nothing survives
    /// the end of the program
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Start with a damaged folder: what is damaged is dropped, and logged. Copy the folder first, for the dropped part
    /// can't be restored
    #[arg(long, requires = "data")]
    salvage: bool,

    /// Free space on the disk of the folder below which publishers are blocked (connection.blocked, "low on disk")
    /// until there is more, such as 50MB, 64MiB or 2GB
    #[arg(long, value_name = "SIZE", default_value = "50MB", value_parser = size::parse)]
    disk_free_limit: u64,

    /// Memory above which publishers are blocked (connection.blocked, "low on memory") until less than nine tenths of
    /// it are used: a share of the machine's memory, or of the container's if that is less, such as 40%; or a size,
    /// such as 500MB or 4GiB. The broker counts what it holds
    #[arg(long, value_name = "SHARE|SIZE", default_value_t = MemoryLimit::DEFAULT)]
    memory_limit: MemoryLimit,

    /// Limit of what clients may hold; may be given several times: queues, exchanges or bindings of a virtual host,
    /// consumers of a channel, declared-percent (what all of these and channels take of the memory limit in a virtual
    /// host) or unfinished-percent (what parts of messages and transactions take of it in a connection)
    #[arg(long, value_name = "NAME=NUMBER", value_parser = limit)]
    limit: Vec<String>,

    /// Definitions to import before the first client is accepted: a file in RabbitMQ's format, as
    /// `rabbitmqctl export_definitions` writes it
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,

    /// Start without those definitions that this broker does not support, such as policies, and log each of them as a
    /// warning; without this option, the program names them and does not start
    #[arg(long, requires = "definitions")]
    skip_unsupported: bool,

    /// Release of RabbitMQ to follow where the releases differ: 3.13, 4.0 or 4.3
    #[arg(long, value_name = "RELEASE", default_value_t = Profile::default(), value_parser = profile)]
    profile: Profile,

    /// Time for clients to close their connections after SIGTERM or ctrl-c, such as 10s or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = period)]
    drain: Duration,

    /// What to log to stderr: off, error, warn, info, debug or trace; or a filter by target, such as
    /// info,hopmq_broker::wire=trace for each method on the wire
    #[arg(long, value_name = "LEVEL|FILTER", default_value = "info", value_parser = log_filter)]
    log: String,

    /// Format of the logs: text, or one JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Prints a line to stdout. An error is ignored: the broker continues when no process reads its output.
macro_rules! say {
    ($($line:tt)*) => {{
        let _ = writeln!(io::stdout(), $($line)*);
    }};
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:5672".to_owned())
}

fn profile(text: &str) -> Result<Profile, String> {
    text.parse()
}

fn limit(text: &str) -> Result<String, String> {
    Limits::default().set(text).map(|()| text.to_owned())
}

fn period(text: &str) -> Result<Duration, String> {
    text.parse().map(Period::duration)
}

/// Checks a filter. A single word that is no level would be taken for a target, and hide all logs.
fn log_filter(text: &str) -> Result<String, String> {
    let is_level = text.parse::<LevelFilter>().is_ok();
    let is_filter = text.contains('=') && EnvFilter::builder().parse(text).is_ok();
    match is_level || is_filter {
        true => Ok(text.to_owned()),
        false => Err("write off, error, warn, info, debug or trace, or a filter such as hopmq_broker=debug".to_owned()),
    }
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
    start_log(options)?;
    let mut signals = signals().map_err(|error| format!("cannot install signal handlers: {error}"))?;
    let broker = start(options)?;
    if let Some(file) = &options.definitions {
        import(&broker, file, options.skip_unsupported)?;
    }
    let listeners = listen(&broker, options)?;
    say!("hopmq-broker {} is ready", env!("CARGO_PKG_VERSION"));
    for (scheme, address) in listeners {
        // Where guest can't log in, its password is not shown.
        let guest = if guest_reaches(&broker, address) { "guest:guest@" } else { "" };
        say!("  clients: {scheme}://{guest}{address}");
    }
    if !broker.has_default_user() {
        say!("  users:   those of the definitions or the data folder; guest with the password guest is not among them");
    }
    match &options.data {
        Some(folder) => say!("  data:    {}", folder.display()),
        None => say!("  data:    in memory; nothing survives the end of this program without --data FOLDER"),
    }
    async_io::block_on(async {
        end_signal(&mut signals).await;
        tracing::info!(drain = ?options.drain, "stopping: closing all connections");
        say!("closing all connections, for at most {:?}; another signal ends at once", options.drain);
        or(broker.shut_down(options.drain), end_signal(&mut signals)).await;
    });
    tracing::info!("stopped");
    say!("ended");
    Ok(())
}

fn start_log(options: &Options) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(&options.log).map_err(|error| format!("--log {}: {error}", options.log))?;
    // Colours are for a terminal, unless the user has switched them off (https://no-color.org).
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr);
    match options.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

fn start(options: &Options) -> Result<Broker, String> {
    let folder = options.data.as_deref().map_or_else(|| "none".into(), Path::to_string_lossy);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), profile = %options.profile, data = &*folder, "starting");
    let settings = Settings { min_free: options.disk_free_limit, salvage: options.salvage, ..Settings::default() };
    let mut limits = Limits::default();
    options.limit.iter().try_for_each(|limit| limits.set(limit)).map_err(|error| format!("--limit: {error}"))?;
    let memory_limit = memory_limit(options.memory_limit);
    let builder = Broker::builder().profile(options.profile).store(settings).memory_limit(memory_limit).limits(limits);
    let builder = options.shared_address.iter().fold(builder, |builder, address| builder.shared_address(*address));
    #[cfg(feature = "testing")]
    let builder = builder.watched(false);
    let Some(folder) = &options.data else { return Ok(builder.start()) };
    let opened = DiskStorage::open(folder).and_then(|storage| builder.open(storage));
    opened.map_err(|error| match error.kind() {
        ErrorKind::Locked => format!("--data {}: {error:#}, or name another folder", folder.display()),
        _ => format!("--data {}: the store cannot be opened: {error:#}", folder.display()),
    })
}

/// Returns the memory limit in bytes, and logs it.
fn memory_limit(limit: MemoryLimit) -> u64 {
    let available = Available::of_system();
    let limit_bytes = limit.bytes(available);
    let available_bytes = available.bytes;
    match (available.is_known, limit) {
        (false, MemoryLimit::Percent(_)) => tracing::warn!(
            limit_bytes,
            "the memory of this machine is not known, and 1 GiB is assumed: set --memory-limit to a size"
        ),
        _ => tracing::info!(%limit, limit_bytes, available_bytes, "memory limit"),
    }
    limit_bytes
}

fn import(broker: &Broker, file: &Path, skip_unsupported: bool) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("--definitions {}: {error}", file.display()))?;
    let imported = match skip_unsupported {
        true => broker.import_supported_definitions(&text).map(drop),
        false => broker.import_definitions(&text),
    };
    imported.map_err(|error| {
        let advice = if skip_unsupported { "" } else { "; --skip-unsupported starts without what is not supported" };
        format!("--definitions {}: {error}{advice}", file.display())
    })
}

/// Whether `guest` can log in over a listener's address: it must exist, and connect from this machine.
fn guest_reaches(broker: &Broker, address: SocketAddr) -> bool {
    broker.has_default_user() && (address.ip().is_loopback() || address.ip().is_unspecified())
}

/// Starts all listeners. Returns the scheme and the address of each.
fn listen(broker: &Broker, options: &Options) -> Result<Vec<(&'static str, SocketAddr)>, String> {
    let mut listeners = Vec::new();
    for address in &options.listen {
        let local = match options.proxy_protocol {
            true => broker.listen_proxied(address),
            false => broker.listen(address),
        };
        let local = local.map_err(|error| cannot_listen("--listen", *address, &error))?;
        tracing::info!(address = %local, tls = false, "listening");
        listeners.push(("amqp", local));
    }
    if let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_key) {
        let config = tls_config(certificate, key)?;
        for address in &options.tls_listen {
            let local = match options.proxy_protocol {
                true => broker.listen_tls_proxied(address, Arc::clone(&config)),
                false => broker.listen_tls(address, Arc::clone(&config)),
            };
            let local = local.map_err(|error| cannot_listen("--tls-listen", *address, &error))?;
            tracing::info!(address = %local, tls = true, "listening");
            listeners.push(("amqps", local));
        }
    }
    Ok(listeners)
}

fn tls_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let unusable =
        |option: &str, file: &Path, error: &dyn fmt::Display| format!("{option} {}: {error}", file.display());
    let of_certificate = |error: &dyn fmt::Display| unusable("--tls-certificate", certificate, error);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| of_certificate(&error))?;
    if chain.is_empty() {
        return Err(of_certificate(&"the file holds no PEM certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("--tls-key", key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    config.map(Arc::new).map_err(|error| of_certificate(&format_args!("with --tls-key {}: {error}", key.display())))
}

fn cannot_listen(option: &str, address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "{option} {address}: the port is in use; stop the program that listens there, or choose another port"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{option} {address}: {error}; ports below 1024 need root's rights, so choose a higher one")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{option} {address}: this machine has no such address; 0.0.0.0 listens on all of its addresses")
        }
        _ => format!("{option} {address}: cannot listen: {error}"),
    }
}

fn signals() -> io::Result<Signals> {
    if cfg!(unix) { Signals::new([Signal::Int, Signal::Term, Signal::Hup]) } else { Signals::new([Signal::Int]) }
}

/// Awaits a signal that ends the program. SIGHUP, which comes when a terminal closes, ends nothing.
async fn end_signal(signals: &mut Signals) {
    while let Some(Ok(Signal::Hup)) = signals.next().await {
        tracing::info!("received SIGHUP, which is ignored; there is nothing to read again");
    }
}
