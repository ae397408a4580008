//! Rules that the types of the settings do not express.

use super::error::ConfigError;
use super::origin;
use super::settings::{Config, Limits, Log, Origin, Policy, WebSocket};
use super::units::{Size, Time};
use crate::admission::account::PAUSE_MAX;

const FRAME_MIN: Size = Size(4096);
/// Each connection may buffer this many bytes, so the sizes are bounded.
const SIZE_MAX: Size = Size(16 << 20);

/// Returns the first setting that cannot be used.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    log_level(&config.log)?;
    if config.upstream.hosts.is_empty() {
        return Err(ConfigError::missing("upstream.hosts", "name at least one RabbitMQ"));
    }
    allowed_origins(&config.origin)?;
    sizes(&config.limits, &config.websocket)?;
    byte_rates(&config.limits, &config.auth.policy)?;
    times(config)
}

fn log_level(log: &Log) -> Result<(), ConfigError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let mut directives = log.level.split(',').map(str::trim);
    match directives.find(|directive| !directive.contains('=') && !LEVELS.contains(directive)) {
        Some(unknown) => {
            let reason = format!("`{unknown}` is not a level; write one of {}, or TARGET=LEVEL", LEVELS.join(", "));
            Err(ConfigError::invalid("log.level", reason))
        }
        None => Ok(()),
    }
}

fn allowed_origins(origin: &Origin) -> Result<(), ConfigError> {
    for entry in &origin.allow {
        if !matches!(entry.as_str(), "same-origin" | "*" | "null") && origin::normalize(entry).is_none() {
            let reason =
                format!("`{entry}` is not an origin; write same-origin, *, null, or scheme://host:port without a path");
            return Err(ConfigError::invalid("origin.allow", reason));
        }
    }
    Ok(())
}

fn sizes(limits: &Limits, websocket: &WebSocket) -> Result<(), ConfigError> {
    let sizes = [
        ("limits.login_frame_max", limits.login_frame_max, FRAME_MIN),
        ("limits.frame_max", limits.frame_max, FRAME_MIN),
        ("websocket.message_max", websocket.message_max, limits.frame_max),
    ];
    for (setting, size, least) in sizes {
        if size < least {
            return Err(out_of_range(setting, size, format!("at least {least}")));
        }
    }
    let counts = [
        ("limits.channels", usize::from(limits.channels)),
        ("limits.upgrades_per_minute", limits.upgrades_per_minute as usize),
        ("limits.pending_logins", limits.pending_logins),
        ("limits.pending_logins_per_address", limits.pending_logins_per_address),
    ];
    for (setting, count) in counts {
        if count == 0 {
            return Err(out_of_range(setting, count, "at least 1"));
        }
    }
    for (setting, size, _) in sizes {
        if size > SIZE_MAX {
            let allowed = format!("at most {SIZE_MAX}, because each connection may need that much memory");
            return Err(out_of_range(setting, size, allowed));
        }
    }
    Ok(())
}

/// Checks that a frame does not pause a client for longer than is allowed.
fn byte_rates(limits: &Limits, policies: &[Policy]) -> Result<(), ConfigError> {
    let least = Size(limits.frame_max.0.div_ceil(PAUSE_MAX.as_secs()));
    let of_policies = policies.iter().enumerate().filter_map(|(index, policy)| {
        Some((format!("auth.policy[{index}].bytes_per_second"), policy.bytes_per_second?))
    });
    for (setting, rate) in
        std::iter::once(("limits.bytes_per_second".to_owned(), limits.bytes_per_second)).chain(of_policies)
    {
        if rate.0 > 0 && rate < least {
            let allowed = format!(
                "0 for no limit, or at least {least}: a frame may have {} (limits.frame_max), and must not pause its \
                 client for longer than {} s",
                limits.frame_max,
                PAUSE_MAX.as_secs(),
            );
            return Err(out_of_range(&setting, rate, allowed));
        }
    }
    Ok(())
}

fn times(config: &Config) -> Result<(), ConfigError> {
    let times = [
        ("upstream.connect_timeout", config.upstream.connect_timeout),
        ("upstream.check_interval", config.upstream.check_interval),
        ("websocket.ping_interval", config.websocket.ping_interval),
        ("websocket.stall_timeout", config.websocket.stall_timeout),
        ("websocket.close_timeout", config.websocket.close_timeout),
        ("limits.login_timeout", config.limits.login_timeout),
    ];
    for (setting, time) in times {
        if time == Time::seconds(0) {
            return Err(out_of_range(setting, time, "longer than 0s"));
        }
    }
    let ping_interval = config.websocket.ping_interval;
    let ping_timeout = config.websocket.ping_timeout;
    if ping_timeout <= ping_interval {
        let allowed = format!("longer than websocket.ping_interval, which is {ping_interval}");
        return Err(out_of_range("websocket.ping_timeout", ping_timeout, allowed));
    }
    Ok(())
}

fn out_of_range(setting: &str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
    ConfigError::OutOfRange { setting: setting.to_owned(), value: value.to_string(), allowed: allowed.into() }
}
