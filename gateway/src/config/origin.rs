//! Web origins as browsers write them.

use axum::http::Uri;

/// An origin as browsers write it, or `None` if it is none.
pub(crate) fn normalize(origin: &str) -> Option<String> {
    let uri: Uri = origin.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| !scheme.is_empty())?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let bare = uri.path() == "/" && uri.query().is_none() && !origin.ends_with('/');
    bare.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}
