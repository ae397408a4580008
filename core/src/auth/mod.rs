//! Logging in: SASL mechanisms and credentials, the client's part of the handshake, and the renewal of secrets that expire.

pub(crate) mod authenticator;
pub(crate) mod refresh;
pub mod sasl;
