//! Definitions: imported and exported as a whole, without a login.
//!
//! A definition is declared as a client's would be, so that the same rules refuse it.

use hopmq_proto::method::{exchange, queue};
use slotmap::Key;

use crate::engine::access::{Access, Password, UserLimits};
use crate::engine::keys::SessionKey;
use crate::engine::topology::vhost::VhostSettings;
use crate::engine::{At, Engine, GUEST};

/// A definition.
#[derive(Debug)]
pub(crate) enum Definition<'a> {
    Exchange(exchange::Declare<'a>),
    Queue(queue::Declare<'a>),
    QueueBinding(queue::Bind<'a>),
    ExchangeBinding(exchange::Bind<'a>),
}

/// A user with its permissions, as texts.
#[derive(Debug)]
pub(crate) struct UserDefinition {
    pub(crate) name: String,
    /// `None` is the predeclared password of `guest`.
    pub(crate) hash: Option<String>,
    pub(crate) impersonator: bool,
    pub(crate) limits: UserLimits,
    /// Virtual host, configure, write and read.
    pub(crate) permissions: Vec<[String; 4]>,
    /// Virtual host, exchange, write and read.
    pub(crate) topics: Vec<[String; 4]>,
}

impl Engine {
    /// Declares something in a virtual host. Returns the refusal's text on failure.
    pub(crate) fn define(&mut self, vhost: &str, definition: &Definition<'_>) -> Result<(), String> {
        // No connection has this key.
        let session = SessionKey::null();
        let vhost = self.vhost_named(vhost).ok_or_else(|| format!("vhost {vhost} not found"))?;
        let at = At { session, channel: 0, vhost };
        self.begin(session);
        let result = match definition {
            Definition::Exchange(declare) => self.declare_exchange(at, declare),
            Definition::Queue(declare) => self.declare_queue(at, declare),
            Definition::QueueBinding(bind) => self.queue_bind(at, bind),
            Definition::ExchangeBinding(bind) => self.exchange_bind(at, bind),
        };
        self.end();
        result.map_err(|refusal| refusal.text)
    }

    /// Adds a virtual host in which `guest` has no permissions, unless it exists.
    pub(crate) fn define_vhost(&mut self, name: &str) {
        if self.vhost_named(name).is_none() {
            self.declare_vhost(name);
            self.change_access(GUEST, |access| access.remove_permissions(GUEST, name));
        }
    }

    /// Returns the settings of a virtual host.
    pub(crate) fn vhost_settings(&self, name: &str) -> VhostSettings {
        let vhost = self.vhost_named(name).and_then(|id| self.vhosts.get(id));
        vhost.map(|vhost| vhost.settings).unwrap_or_default()
    }

    /// Changes the settings of an existing virtual host.
    pub(crate) fn set_vhost(&mut self, name: &str, settings: VhostSettings) {
        if let Some(vhost) = self.vhost_named(name).and_then(|id| self.vhosts.get_mut(id)) {
            vhost.settings = settings;
            self.store_vhost(name);
        }
    }

    /// Restores the predeclared password of `guest`.
    pub(crate) fn restore_guest(&mut self) {
        self.change_access(GUEST, |access| access.set_password(GUEST, Password::GUEST, true));
    }

    /// Removes `guest`, unless it got a password of its own. Returns whether it was removed.
    pub(crate) fn remove_default_user(&mut self) -> bool {
        self.access.has_default_user() && self.change_access(GUEST, |access| access.remove(GUEST))
    }

    /// Returns the names of all virtual hosts.
    pub(crate) fn vhost_names(&self) -> Vec<String> {
        self.vhosts.iter().map(|(_, vhost)| vhost.name.to_string()).collect()
    }

    /// Returns all users.
    pub(crate) fn define_users(&self) -> Vec<UserDefinition> {
        self.access.definitions()
    }
}

impl Access {
    fn definitions(&self) -> Vec<UserDefinition> {
        let definition =
            |(name, account): (&crate::engine::name::Name, &crate::engine::access::Account)| UserDefinition {
                name: name.to_string(),
                hash: match &account.password {
                    Password::WellKnown(_) => None,
                    Password::Hash(hash) => Some(hash.to_string()),
                    Password::None => Some(String::new()),
                },
                impersonator: account.impersonator,
                limits: account.limits,
                permissions: account
                    .permissions
                    .iter()
                    .map(|(vhost, [configure, write, read])| [&**vhost, configure.text(), write.text(), read.text()])
                    .map(|texts| texts.map(str::to_owned))
                    .collect(),
                topics: account
                    .topics
                    .iter()
                    .map(|((vhost, exchange), [write, read])| [&**vhost, &**exchange, write.text(), read.text()])
                    .map(|texts| texts.map(str::to_owned))
                    .collect(),
            };
        self.accounts().map(definition).collect()
    }
}
