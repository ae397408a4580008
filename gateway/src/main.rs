//! The program: command line, settings, logs and signals around [`Gateway`].

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use hopmq_gateway::config::LogFormat;
use hopmq_gateway::{Config, ConfigError, Gateway};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

const HELP: &str = "\
AMQP over WebSocket: lets web pages reach RabbitMQ.

Usage: hopmq-gateway [--config FILE] [--check-config]

  --config FILE    read the settings from a TOML file; or set HOPMQ_GATEWAY_CONFIG
  --check-config   check the settings and exit
  --version        print the version
  --help           print this help

Without settings, it listens on 127.0.0.1:15670 and connects to amqp://localhost:5672.
Environment variables override the file: HOPMQ_GATEWAY_LISTEN, HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT, …

It ends with 0 after SIGTERM or SIGINT, once all WebSockets are closed; with 1 if it cannot start, an option is wrong
or a setting cannot be used. SIGHUP is ignored: restart it to read the settings again.
";

/// The options of the command line.
#[derive(Debug, Default)]
struct Options {
    config: Option<PathBuf>,
    check_config: bool,
}

/// The reason that the program ends with a failure.
#[derive(Debug)]
enum Error {
    UnknownOption(String),
    ConfigWithoutFile,
    Config(ConfigError),
    LogLevel { level: String, error: ParseError },
    Listen { address: SocketAddr, error: io::Error },
    Runtime(io::Error),
    Signals(io::Error),
    Serve(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption(option) => write!(f, "unknown option `{option}`; see --help"),
            Self::ConfigWithoutFile => f.write_str("--config needs a file"),
            Self::Config(error) => write!(f, "{error}"),
            Self::LogLevel { level, error } => {
                write!(f, "log.level: `{level}`: {error}; write error, warn, info, debug or trace")
            }
            Self::Listen { address, error } => write!(f, "listen: cannot listen on {address}: {error}"),
            Self::Runtime(error) => write!(f, "cannot start the runtime: {error}"),
            Self::Signals(error) => write!(f, "cannot install signal handlers: {error}"),
            Self::Serve(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hopmq-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let Some(options) = parse(std::env::args().skip(1))? else { return Ok(()) };
    let file = options.config.or_else(|| std::env::var_os("HOPMQ_GATEWAY_CONFIG").map(PathBuf::from));
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let config = Config::load(file.as_deref(), variables).map_err(Error::Config)?;
    start_log(&config)?;
    let gateway = Gateway::new(config).map_err(Error::Config)?;
    if options.check_config {
        println!("the settings can be used");
        return Ok(());
    }
    Runtime::new().map_err(Error::Runtime)?.block_on(serve(gateway))
}

/// Parses the arguments. Returns `None` if nothing is left to do.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, Error> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--config" => options.config = Some(arguments.next().ok_or(Error::ConfigWithoutFile)?.into()),
            "--check-config" => options.check_config = true,
            "--version" => {
                println!("hopmq-gateway {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            "--help" => {
                print!("{HELP}");
                return Ok(None);
            }
            _ => return Err(Error::UnknownOption(argument)),
        }
    }
    Ok(Some(options))
}

fn start_log(config: &Config) -> Result<(), Error> {
    let level = &config.log.level;
    let filter = EnvFilter::builder().parse(level).map_err(|error| Error::LogLevel { level: level.clone(), error })?;
    // Colours only for terminals, unless they are switched off (https://no-color.org).
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(io::stderr);
    match config.log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

async fn serve(gateway: Gateway) -> Result<(), Error> {
    let address = gateway.config().listen;
    let listener = TcpListener::bind(address).await.map_err(|error| Error::Listen { address, error })?;
    let stop = stop_signal().map_err(Error::Signals)?;
    gateway.serve(listener, stop).await.map_err(Error::Serve)
}

/// Returns a future that completes on SIGTERM or SIGINT. SIGHUP, which comes when a terminal closes, ends nothing.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        let ignore_hangups = async {
            while hangup.recv().await.is_some() {
                tracing::info!("received SIGHUP, which is ignored; restart to read the settings again");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = ignore_hangups => {}
        }
    })
}

/// Returns a future that completes on Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
