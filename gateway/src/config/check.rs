//! What settings can't be, although their types allow it.

use super::error::ConfigError;
use super::origin;
use super::settings::Config;

/// Finds the first setting that can't be used.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let at_least = |key: &str, value: u64, least: u64| {
        if value >= least { Ok(()) } else { Err(ConfigError(format!("{key}: at least {least} is needed"))) }
    };
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let directives = config.log.level.split(',').map(str::trim);
    if let Some(wrong) = directives.into_iter().find(|word| !word.contains('=') && !LEVELS.contains(word)) {
        return Err(ConfigError(format!("log.level: `{wrong}` is none of {} or TARGET=LEVEL", LEVELS.join(", "))));
    }
    if config.upstream.hosts.is_empty() {
        return Err(ConfigError("upstream.hosts: name one RabbitMQ at least".to_owned()));
    }
    for entry in &config.origin.allow {
        if !matches!(entry.as_str(), "same-origin" | "*" | "null") && origin::normalize(entry).is_none() {
            return Err(ConfigError(format!(
                "origin.allow: `{entry}` is no origin; write same-origin, *, null, or scheme://host:port with no path"
            )));
        }
    }
    let limits = &config.limits;
    at_least("limits.login_frame_max", limits.login_frame_max.0, 4096)?;
    at_least("limits.frame_max", limits.frame_max.0, 4096)?;
    at_least("websocket.message_max", config.websocket.message_max.0, limits.frame_max.0)?;
    at_least("limits.channels", u64::from(limits.channels), 1)?;
    at_least("limits.upgrades_per_minute", u64::from(limits.upgrades_per_minute), 1)?;
    for (key, size) in [
        ("limits.login_frame_max", limits.login_frame_max.0),
        ("limits.frame_max", limits.frame_max.0),
        ("websocket.message_max", config.websocket.message_max.0),
    ] {
        if size > 16 << 20 {
            return Err(ConfigError(format!("{key}: at most 16MiB, for each connection may need it")));
        }
    }
    let times = [
        ("upstream.connect_timeout", config.upstream.connect_timeout),
        ("upstream.check_interval", config.upstream.check_interval),
        ("websocket.ping_interval", config.websocket.ping_interval),
        ("websocket.stall_timeout", config.websocket.stall_timeout),
        ("websocket.close_timeout", config.websocket.close_timeout),
        ("limits.login_timeout", limits.login_timeout),
    ];
    for (key, time) in times {
        if time.0.is_zero() {
            return Err(ConfigError(format!("{key}: must be longer than 0s")));
        }
    }
    if config.websocket.ping_timeout <= config.websocket.ping_interval {
        return Err(ConfigError("websocket.ping_timeout: must be longer than websocket.ping_interval".to_owned()));
    }
    Ok(())
}
