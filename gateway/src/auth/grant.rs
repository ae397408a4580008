//! What the bearer of a valid token or ticket gets.

use super::policy::Policy;
use crate::admission::limits::Rates;

/// A RabbitMQ user and a policy for one bearer.
pub(crate) struct Grant {
    /// The claim `sub`, for limits and logs.
    pub(crate) subject: String,
    /// The RabbitMQ user.
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    pub(crate) policy: Policy,
    pub(crate) rates: Rates,
    /// When the connection must end, in seconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// Leaves out the password.
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
