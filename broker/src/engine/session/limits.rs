//! The limits of virtual hosts and users: connections, channels and queues.

use slotmap::Key;

use crate::engine::keys::{SessionKey, VhostKey};
use crate::engine::refusal::Refusal;
use crate::engine::{At, Engine};

impl Engine {
    /// Refuses a connection above the limit of its virtual host, or of its user.
    pub(super) fn check_connection_limits(&self, vhost: VhostKey, user: &str) -> Result<(), Refusal> {
        let settings = self.vhosts.get(vhost).map(|vhost| vhost.settings).unwrap_or_default();
        if let Some(limit) = settings.connections {
            let open = self.sessions.values().filter(|session| session.vhost == Some(vhost)).count();
            if open >= limit as usize {
                let vhost = self.vhost_name(vhost);
                return Err(Refusal::not_allowed(format_args!(
                    "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
                )));
            }
        }
        if let Some(limit) = self.access.limits(user).connections
            && self.open_of(user).count() >= limit as usize
        {
            return Err(Refusal::not_allowed(format_args!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            )));
        }
        Ok(())
    }

    /// Refuses a channel above the limit of its user, or above the share of its virtual host.
    pub(super) fn check_channel_limit(&self, id: SessionKey) -> Result<(), Refusal> {
        let session = self.sessions.get(id);
        if let Some(vhost) = session.and_then(|session| session.vhost)
            && self.has_declared_its_share(vhost)
        {
            return Err(Refusal::not_allowed(format_args!(
                "cannot open a channel: what is declared in vhost '{}' takes {} % of the memory limit, its share",
                self.vhost_name(vhost),
                self.config.limits.declared_percent
            )));
        }
        let user = session.and_then(|session| session.user.as_ref());
        let Some(user) = user.map(|user| &*user.name) else { return Ok(()) };
        let Some(limit) = self.access.limits(user).channels else { return Ok(()) };
        let open: usize = self.open_of(user).map(|session| session.channels.iter().flatten().count()).sum();
        if open >= limit as usize {
            return Err(Refusal::not_allowed(format_args!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            )));
        }
        Ok(())
    }

    /// Refuses a client's new queue above the limit of its virtual host.
    pub(in crate::engine) fn check_queue_limit(&self, at: At, name: &str) -> Result<(), Refusal> {
        let Some(vhost) = self.vhosts.get(at.vhost) else { return Ok(()) };
        let limit = vhost.settings.queues.map_or(self.config.limits.queues, u64::from);
        if !at.session.is_null() && vhost.queues.len() as u64 >= limit {
            return Err(Refusal::precondition(format_args!(
                "cannot declare queue '{name}': queue limit in vhost '{}' ({limit}) is reached",
                vhost.name
            )));
        }
        self.check_declared(at, "a queue")
    }

    /// Returns the open connections of a user.
    fn open_of(&self, user: &str) -> impl Iterator<Item = &super::Session> {
        self.sessions.values().filter(move |session| {
            session.vhost.is_some() && session.user.as_ref().is_some_and(|owner| *owner.name == *user)
        })
    }
}
