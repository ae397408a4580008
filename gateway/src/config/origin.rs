//! Web origins in the form that browsers send.

use axum::http::Uri;

/// Returns an origin in lower case, or `None` if the text is not an origin: a scheme, a host and perhaps a port.
pub(crate) fn normalize(origin: &str) -> Option<String> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| !scheme.is_empty())?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let bare = uri.path() == "/" && uri.query().is_none() && !origin.ends_with('/');
    bare.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}
