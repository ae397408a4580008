//! Permission checks of the user who is logged in.

use crate::engine::access::{Permission, Resource};
use crate::engine::keys::ExchangeKey;
use crate::engine::refusal::Refusal;
use crate::engine::routing::exchange::Kind;
use crate::engine::{At, Engine};

impl Engine {
    pub(in crate::engine) fn check(
        &self,
        at: At,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        let user = self.sessions.get(at.session).and_then(|session| session.user.as_ref());
        match (user, self.vhosts.get(at.vhost)) {
            (Some(user), Some(vhost)) => self.access.check(user, &vhost.name, permission, resource),
            _ => Ok(()),
        }
    }

    /// Checks that the user may use a routing key, if the exchange is a topic exchange.
    pub(in crate::engine) fn check_topic(
        &self,
        at: At,
        permission: Permission,
        exchange: ExchangeKey,
        key: &str,
    ) -> Result<(), Refusal> {
        let user = self.sessions.get(at.session).and_then(|session| session.user.as_ref());
        match (user, self.exchanges.get(exchange)) {
            (Some(user), Some(exchange)) if exchange.spec.routing() == Kind::Topic => {
                let vhost = self.vhost_name(at.vhost);
                self.access.check_topic(user, &vhost, permission, &exchange.name, key)
            }
            _ => Ok(()),
        }
    }
}
