//! The log records of connections: opened, closed, refused. They hold no secrets.
//!
//! Texts of a peer are escaped and cut, and logged as strings, which the subscriber quotes.

use hopmq_proto::code;
use hopmq_proto::method::MethodId;

use crate::engine::Engine;
use crate::engine::access::RefusedLogin;
use crate::engine::keys::SessionKey;
use crate::engine::refusal::Refusal;
use crate::engine::session::Session;
use crate::printable::printable;

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

    pub(super) fn log_refused_login(&self, id: SessionKey, login: &RefusedLogin) {
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
