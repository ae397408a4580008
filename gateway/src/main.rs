//! The program: settings, logs and signals around [`Gateway`].

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use hopmq_gateway::config::LogFormat;
use hopmq_gateway::{Config, Gateway};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

const HELP: &str = "\
AMQP over WebSocket: lets web pages reach RabbitMQ.

Usage: hopmq-gateway [--config FILE] [--check-config]

  --config FILE    settings in TOML; HOPMQ_GATEWAY_CONFIG names the file too
  --check-config   read the settings, say whether they can be used, and end
  --version        print the version
  --help           print this

Without settings it listens on 127.0.0.1:15670 and connects to amqp://localhost:5672.
Each setting can be given in the environment: HOPMQ_GATEWAY_LISTEN, HOPMQ_GATEWAY_LIMITS_LOGIN_TIMEOUT, …
";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    config: Option<PathBuf>,
    check: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hopmq-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Some(options) = options(std::env::args().skip(1))? else { return Ok(()) };
    let file = options.config.or_else(|| std::env::var_os("HOPMQ_GATEWAY_CONFIG").map(PathBuf::from));
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let config = Config::load(file.as_deref(), variables)?;
    start_log(&config)?;
    let gateway = Gateway::new(config)?;
    if options.check {
        println!("the settings can be used");
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(gateway))
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--config" => options.config = Some(words.next().ok_or("--config wants a file")?.into()),
            "--check-config" => options.check = true,
            "--version" => {
                println!("hopmq-gateway {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            "--help" => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(format!("`{other}` is no option; see --help")),
        }
    }
    Ok(Some(options))
}

fn start_log(config: &Config) -> Result<(), String> {
    let level = &config.log.level;
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("log.level: `{level}`: {error}; write error, warn, info, debug or trace"))?;
    // Colours are for people who look, and who did not ask for none (https://no-color.org).
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

async fn serve(gateway: Gateway) -> Result<(), Box<dyn std::error::Error>> {
    let address = gateway.config().listen;
    let listener =
        TcpListener::bind(address).await.map_err(|error| format!("listen: cannot listen on {address}: {error}"))?;
    Ok(gateway.serve(listener, stopped()?).await?)
}

/// Done when the program is asked to end.
#[cfg(unix)]
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Done when the program is asked to end.
#[cfg(not(unix))]
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
