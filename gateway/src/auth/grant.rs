//! What a good token gives its bearer.

use super::policy::Policy;
use crate::admission::limits::Rates;

/// What somebody got for their token.
pub(crate) struct Grant {
    /// Who they are, for limits and logs.
    pub(crate) subject: String,
    /// RabbitMQ's user and its password.
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    pub(crate) policy: Policy,
    pub(crate) rates: Rates,
    /// When it ends, in seconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// Without the password.
impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("subject", &self.subject)
            .field("username", &self.username)
            .field("vhost", &self.vhost)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
