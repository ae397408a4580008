//! Logging in: SASL mechanisms, credentials, the client's part of the handshake, and the renewal of expiring secrets.

pub(crate) mod authenticator;
pub(crate) mod refresh;
pub mod sasl;
