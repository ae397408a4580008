//! Which pages may connect.
//!
//! A WebSocket is outside of the browser's same-origin rule: any page may open one to any host, `localhost` included.
//! So the server must look at the `Origin` header, and this does. It knows headers and no sockets.

use axum::http::{HeaderMap, header};

use crate::config;
use crate::config::origin::normalize;

/// The pages that are let in.
#[derive(Debug)]
pub(crate) struct OriginPolicy {
    same: bool,
    any: bool,
    null: bool,
    listed: Vec<String>,
    require: bool,
    hosts: Vec<String>,
}

/// An origin's address: host and port, the port of the scheme if none is written.
fn authority(origin: &str) -> Option<(String, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority: axum::http::uri::Authority = rest.parse().ok()?;
    Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default)))
}

impl OriginPolicy {
    /// The settings must have been checked.
    pub(crate) fn new(config: &config::Origin) -> Self {
        let has = |word: &str| config.allow.iter().any(|entry| entry == word);
        Self {
            same: has("same-origin"),
            any: has("*"),
            null: has("null"),
            listed: config.allow.iter().filter_map(|entry| normalize(entry)).collect(),
            require: config.require,
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether the page that sent these headers may connect; the error says why not. `forwarded_host` is what a
    /// trusted proxy was asked for.
    pub(crate) fn check(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> Result<(), String> {
        let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = forwarded_host.or(asked).unwrap_or_default().to_ascii_lowercase();
        if !self.hosts.is_empty() && !self.hosts.iter().any(|name| is_host(name, &host)) {
            return Err(format!("this gateway is not known as {host:?}; origin.hosts says by which names it is"));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let (origin, more) = (origins.next(), origins.next());
        let Some(origin) = origin else {
            return if self.require { Err("an Origin header is required".to_owned()) } else { Ok(()) };
        };
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let allowed = more.is_none()
            && (self.any
                || self.null && origin == "null"
                || self.listed.contains(&origin)
                || self.same && is_same(&origin, &host));
        if allowed {
            return Ok(());
        }
        Err(format!("pages of {origin:?} may not connect here; origin.allow says which may"))
    }
}

/// Whether `host`, which may have a port, is the one called `name`, which may have one too.
fn is_host(name: &str, host: &str) -> bool {
    host == name || host.rsplit_once(':').is_some_and(|(bare, port)| bare == name && port.parse::<u16>().is_ok())
}

/// Whether the page comes from the host that it connects to. The scheme can't be compared: TLS may end at a proxy. So
/// a host without a port counts as the origin's default port.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((name, port)) = authority(origin) else { return false };
    let Ok(host) = host.parse::<axum::http::uri::Authority>() else { return false };
    let default = if origin.starts_with("https:") { 443 } else { 80 };
    host.host() == name && host.port_u16().unwrap_or(default) == port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], origin: Option<&str>, host: &str) -> Result<(), String> {
        let allow = allow.iter().map(|&entry| entry.to_owned()).collect();
        let origins = OriginPolicy::new(&config::Origin { allow, ..config::Origin::default() });
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        origins.check(&headers, None)
    }

    #[test]
    fn the_same_origin_is_let_in() {
        for (origin, host) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://localhost:15670", "localhost:15670"),
            ("http://[::1]:15670", "[::1]:15670"),
            ("HTTP://Example.com", "EXAMPLE.com"),
        ] {
            assert_eq!(check(&["same-origin"], Some(origin), host), Ok(()), "{origin} at {host}");
        }
    }

    #[test]
    fn other_origins_are_not() {
        for (origin, host) in [
            ("http://evil.example", "example.com"),
            ("http://example.com.evil.example", "example.com"),
            ("http://example.com:81", "example.com"),
            ("http://localhost:3000", "localhost:15670"),
            ("null", "example.com"),
            ("", ""),
            ("file://", "example.com"),
            ("chrome-extension://example.com", "example.com"),
        ] {
            assert!(check(&["same-origin"], Some(origin), host).is_err(), "{origin} at {host}");
        }
    }

    #[test]
    fn the_list_is_exact() {
        let list = ["https://app.example", "null"];
        assert!(check(&list, Some("https://app.example"), "gateway").is_ok());
        assert!(check(&list, Some("null"), "gateway").is_ok());
        for origin in ["http://app.example", "https://app.example:8443", "https://x.app.example", "http://gateway"] {
            assert!(check(&list, Some(origin), "gateway").is_err(), "{origin}");
        }
        assert!(check(&["*"], Some("https://anywhere.example"), "gateway").is_ok());
    }

    #[test]
    fn no_origin_passes_unless_one_is_required() {
        assert!(check(&["same-origin"], None, "gateway").is_ok());
        let origins = OriginPolicy::new(&config::Origin { require: true, ..config::Origin::default() });
        assert!(origins.check(&HeaderMap::new(), None).unwrap_err().contains("required"));
    }

    #[test]
    fn names_that_nobody_gave_are_refused() {
        let config = config::Origin { hosts: vec!["gateway.example".into()], ..config::Origin::default() };
        let origins = OriginPolicy::new(&config);
        let mut headers = HeaderMap::new();
        for (host, known) in [("gateway.example:80", true), ("Gateway.example", true), ("rebound.evil.example", false)]
        {
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(origins.check(&headers, None).is_ok(), known, "{host}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        let origins = OriginPolicy::new(&config::Origin { allow: vec!["*".into()], ..config::Origin::default() });
        let mut headers = HeaderMap::new();
        headers.append(header::ORIGIN, "http://a.example".parse().unwrap());
        headers.append(header::ORIGIN, "http://b.example".parse().unwrap());
        assert!(origins.check(&headers, None).is_err());
    }
}
