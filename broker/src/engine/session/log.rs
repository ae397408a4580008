//! The log records of connections: opened, closed, refused. They hold no secrets.
//!
//! Texts of a peer are escaped and cut, and logged as strings, which the subscriber quotes.

use std::time::Duration;

use hopmq_proto::method::MethodId;
use hopmq_proto::{Time, code, printable};

use crate::engine::Engine;
use crate::engine::access::RefusedLogin;
use crate::engine::keys::SessionKey;
use crate::engine::refusal::Refusal;
use crate::engine::session::Session;

/// Refused logins that are logged at once, and the time after which one more is: clients that are not logged in must
/// not fill the disk.
const LOGGED: u32 = 100;
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How many refused logins were logged.
#[derive(Debug, Default)]
pub(in crate::engine) struct RefusedLogins {
    /// Until when those that were logged count.
    until: Time,
    /// Those that were not logged since the last one that was.
    unlogged: u64,
}

impl RefusedLogins {
    /// Counts a refused login. Returns `None` if it must not be logged, else how many before it were not logged.
    fn count(&mut self, now: Time) -> Option<u64> {
        if self.until - now > LOG_INTERVAL * (LOGGED - 1) {
            self.unlogged += 1;
            return None;
        }
        self.until = self.until.max(now) + LOG_INTERVAL;
        Some(std::mem::take(&mut self.unlogged))
    }
}

impl Session {
    fn user_name(&self) -> &str {
        self.user.as_ref().map_or("", |user| &user.name)
    }

    fn client_name(&self) -> &str {
        self.client_properties.get("connection_name").and_then(|name| name.as_str()).unwrap_or_default()
    }
}

impl Engine {
    pub(super) fn log_opened(&self, id: SessionKey, vhost: &str) {
        let Some(session) = self.sessions.get(id) else { return };
        let peer = &*session.peer;
        let user = &*printable(session.user_name());
        let (vhost, name) = (&*printable(vhost), &*printable(session.client_name()));
        tracing::info!(connection = id.number(), peer, user, vhost, name, "connection opened");
    }

    pub(super) fn log_closed(&self, id: SessionKey) {
        let Some(session) = self.sessions.get(id) else { return };
        let peer = &*session.peer;
        let user = &*printable(session.user_name());
        let vhost = session.vhost.map_or_else(|| "".into(), |vhost| self.vhost_name(vhost));
        let reason = session.end_reason.as_deref().unwrap_or("the client closed the transport");
        let (vhost, reason) = (&*printable(&vhost), &*printable(reason));
        tracing::info!(connection = id.number(), peer, user, vhost, reason, "connection closed");
    }

    pub(super) fn log_refused_login(&mut self, id: SessionKey, login: &RefusedLogin) {
        let Some(unlogged) = self.refused_logins.count(self.now) else { return };
        if unlogged > 0 {
            tracing::warn!(count = unlogged, "refused logins were not logged");
        }
        let peer = self.sessions.get(id).map_or("", |session| &*session.peer);
        let RefusedLogin { user, mechanism, why, .. } = login;
        let (user, mechanism) = (&*printable(user), &*printable(mechanism));
        tracing::warn!(connection = id.number(), peer, user, mechanism, reason = why, "login refused");
    }

    /// Logs a refused operation, which ends the channel or the connection.
    pub(super) fn log_refusal(&self, id: SessionKey, channel: u16, method: MethodId, refusal: &Refusal) {
        let Some(session) = self.sessions.get(id) else { return };
        let connection = id.number();
        let peer = &*session.peer;
        let user = &*printable(session.user_name());
        let method = method.name();
        let reason = &*printable(&refusal.text);
        match refusal.code {
            code::ACCESS_REFUSED => {
                tracing::warn!(connection, channel, peer, user, method, reason, "access refused");
            }
            _ => tracing::info!(connection, channel, peer, user, method, reason, "operation refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refused_logins_is_counted_and_not_logged() {
        let mut logins = RefusedLogins::default();
        let mut now = Time::ZERO;
        let logged = (0..10_000).filter(|_| logins.count(now).is_some()).count();
        assert_eq!(logged, 100);
        now = now + LOG_INTERVAL;
        assert_eq!((logins.count(now), logins.count(now)), (Some(9_900), None));
        now = now + LOG_INTERVAL * 200;
        assert_eq!((logins.count(now), logins.count(now)), (Some(1), Some(0)));
    }
}
