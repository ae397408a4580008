//! Decides which pages may connect, by the `Origin` header.
//!
//! Browsers do not apply the same-origin policy to WebSockets: any page may open one to any host, `localhost` included.
//! So the server must check the header.

use std::fmt;

use axum::http::{HeaderMap, header};

use crate::config;
use crate::config::origin::normalize;

/// The origins and host names of the settings.
#[derive(Debug)]
pub(crate) struct OriginPolicy {
    same: bool,
    any: bool,
    null: bool,
    listed: Vec<String>,
    require: bool,
    hosts: Vec<String>,
}

/// The reason that a page may not connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OriginError {
    /// The `Host` header is not in `origin.hosts`.
    UnknownHost(String),
    /// `origin.require` is set, and there is no `Origin` header.
    Missing,
    /// The origin is not in `origin.allow`.
    NotAllowed(String),
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost(host) => {
                write!(f, "host {host:?} is not a name of this gateway; add the name to origin.hosts")
            }
            Self::Missing => f.write_str("the Origin header is missing, and origin.require is set"),
            Self::NotAllowed(origin) => {
                write!(f, "pages of {origin:?} may not connect; add the origin to origin.allow")
            }
        }
    }
}

impl std::error::Error for OriginError {}

/// Returns the host and the port of an origin; the port defaults to that of the scheme.
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
    /// Takes settings that are checked already: entries that are not origins are dropped.
    pub(crate) fn new(config: &config::Origin) -> Self {
        let allows = |keyword: &str| config.allow.iter().any(|entry| entry == keyword);
        Self {
            same: allows("same-origin"),
            any: allows("*"),
            null: allows("null"),
            listed: config.allow.iter().filter_map(|entry| normalize(entry)).collect(),
            require: config.require,
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Decides whether the page that sent these headers may connect. `forwarded_host` is the host that a trusted proxy
    /// was requested for; it replaces the `Host` header.
    pub(crate) fn check(&self, headers: &HeaderMap, forwarded_host: Option<&str>) -> Result<(), OriginError> {
        let host_header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = forwarded_host.or(host_header).unwrap_or_default().to_ascii_lowercase();
        if !self.hosts.is_empty() && !self.hosts.iter().any(|name| is_host(name, &host)) {
            return Err(OriginError::UnknownHost(host));
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return if self.require { Err(OriginError::Missing) } else { Ok(()) };
        };
        let is_single = origins.next().is_none();
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let allowed = is_single
            && (self.any
                || self.null && origin == "null"
                || self.listed.contains(&origin)
                || self.same && is_same(&origin, &host));
        if allowed { Ok(()) } else { Err(OriginError::NotAllowed(origin)) }
    }
}

/// Whether `host` is `name`, with or without a port.
fn is_host(name: &str, host: &str) -> bool {
    host == name || host.rsplit_once(':').is_some_and(|(bare, port)| bare == name && port.parse::<u16>().is_ok())
}

/// Whether the page comes from the host that it connects to. The schemes are not compared, because TLS may end at a
/// proxy: a host without a port has the default port of the origin's scheme.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((name, port)) = authority(origin) else { return false };
    let Ok(host) = host.parse::<axum::http::uri::Authority>() else { return false };
    let default = if origin.starts_with("https:") { 443 } else { 80 };
    host.host() == name && host.port_u16().unwrap_or(default) == port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow: &[&str], origin: Option<&str>, host: &str) -> Result<(), OriginError> {
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
    fn the_same_origin_is_allowed() {
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
    fn other_origins_are_refused() {
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
    fn listed_origins_match_exactly() {
        let list = ["https://app.example", "null"];
        assert!(check(&list, Some("https://app.example"), "gateway").is_ok());
        assert!(check(&list, Some("null"), "gateway").is_ok());
        for origin in ["http://app.example", "https://app.example:8443", "https://x.app.example", "http://gateway"] {
            assert!(check(&list, Some(origin), "gateway").is_err(), "{origin}");
        }
        assert!(check(&["*"], Some("https://anywhere.example"), "gateway").is_ok());
    }

    #[test]
    fn a_missing_origin_is_allowed_unless_one_is_required() {
        assert!(check(&["same-origin"], None, "gateway").is_ok());
        let origins = OriginPolicy::new(&config::Origin { require: true, ..config::Origin::default() });
        assert_eq!(origins.check(&HeaderMap::new(), None), Err(OriginError::Missing));
    }

    #[test]
    fn unknown_host_names_are_refused() {
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
    fn two_origin_headers_are_refused() {
        let origins = OriginPolicy::new(&config::Origin { allow: vec!["*".into()], ..config::Origin::default() });
        let mut headers = HeaderMap::new();
        headers.append(header::ORIGIN, "http://a.example".parse().unwrap());
        headers.append(header::ORIGIN, "http://b.example".parse().unwrap());
        assert!(origins.check(&headers, None).is_err());
    }
}
