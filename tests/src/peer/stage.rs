//! The stage of a scenario: unique names, users, and cleaning up.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hopmq_proto::method::{connection, exchange, queue};

use super::Peer;
use crate::broker;
use crate::embedded::{Embedded, embedded};

/// The part of the broker that belongs to one scenario: names with a unique suffix, which lines do not show. Dropping
/// it deletes the scenario's users, and the queues and exchanges named in [`Stage::delete_at_end`].
#[derive(Debug)]
pub struct Stage {
    suffix: String,
    delete: RefCell<Vec<String>>,
    users: RefCell<Vec<String>>,
}

impl Stage {
    /// Creates a stage with a new suffix.
    #[expect(clippy::new_without_default, reason = "each stage is a different one")]
    pub fn new() -> Self {
        static RUN: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let run = RUN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
        let suffix = format!("~{run:08x}.{}~", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::of(&suffix)
    }

    /// Creates a stage with this suffix and nothing to delete.
    pub(super) fn of(suffix: &str) -> Self {
        Self { suffix: suffix.to_owned(), delete: RefCell::default(), users: RefCell::default() }
    }

    /// Returns the suffix of all names of this scenario.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Returns a name with the scenario's suffix, as the broker knows it.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}{}", self.suffix)
    }

    /// Opens a connection.
    #[track_caller]
    pub fn connect(&self) -> Peer {
        Peer::open(self)
    }

    /// Creates a user with these patterns for configure, write and read. The password is the name. Returns the name.
    #[track_caller]
    pub fn user(&self, stem: &str, permissions: [&str; 3]) -> String {
        let name = self.user_without_permissions(stem);
        self.set_permissions(&name, permissions);
        name
    }

    /// Creates a user as [`Stage::user`] does, who may also publish with the user ids of others.
    #[track_caller]
    pub fn impersonator(&self, stem: &str, permissions: [&str; 3]) -> String {
        let name = self.add(stem, "impersonator");
        self.set_permissions(&name, permissions);
        name
    }

    /// Creates a user without permissions. The password is the name. Returns the name.
    #[track_caller]
    pub fn user_without_permissions(&self, stem: &str) -> String {
        self.add(stem, "")
    }

    /// Restricts a user to routing keys of an exchange that match these patterns, for writing and for reading.
    #[track_caller]
    pub fn set_topic_permissions(&self, user: &str, exchange: &str, [write, read]: [&str; 2]) {
        let exchange = self.name(exchange);
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            let set = embedded.set_topic_permissions(user, "/", &exchange, write, read);
            return set.expect("the permissions are valid");
        }
        let permissions = format!(r#"{{"exchange":"{exchange}","write":"{write}","read":"{read}"}}"#);
        let path = format!("/api/topic-permissions/%2f/{user}");
        broker().http_with("PUT", &path, &permissions).expect("the permissions are valid");
    }

    #[track_caller]
    fn set_permissions(&self, user: &str, [configure, write, read]: [&str; 3]) {
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            let set = embedded.set_permissions(user, "/", hopmq_broker::Permissions { configure, write, read });
            return set.expect("the permissions are valid");
        }
        let permissions = format!(r#"{{"configure":"{configure}","write":"{write}","read":"{read}"}}"#);
        let path = format!("/api/permissions/%2f/{user}");
        broker().http_with("PUT", &path, &permissions).expect("the permissions are valid");
    }

    #[track_caller]
    fn add(&self, stem: &str, tags: &str) -> String {
        let name = self.name(stem);
        self.users.borrow_mut().push(name.clone());
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            embedded.add_user(&name, &name).expect("the user can be created");
            embedded.set_impersonator(&name, tags == "impersonator").expect("the user exists");
        } else {
            let user = format!(r#"{{"password":"{name}","tags":"{tags}"}}"#);
            broker().http_with("PUT", &format!("/api/users/{name}"), &user).expect("the user can be created");
        }
        name
    }

    /// Names queues and exchanges that outlive the scenario's connections and must be deleted at the end.
    pub fn delete_at_end(&self, stems: &[&str]) {
        self.delete.borrow_mut().extend(stems.iter().map(|stem| self.name(stem)));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Another panic would hide that of the scenario.
        if std::thread::panicking() {
            return;
        }
        for user in self.users.take() {
            // The scenario may have deleted the user already.
            if let Some(Embedded { broker: embedded, .. }) = embedded() {
                let _ = embedded.delete_user(&user);
            } else {
                let _ = broker().http("DELETE", &format!("/api/users/{user}"));
            }
        }
        let names = self.delete.take();
        if names.is_empty() {
            return;
        }
        let peer = Peer::open(self);
        let channel = peer.channel(1);
        for name in &names {
            channel.send(&queue::Delete { queue: name, ..Default::default() });
            channel.send(&exchange::Delete { exchange: name, ..Default::default() });
            channel.next();
            channel.next();
        }
        peer.send(&connection::Close { reply_code: 200, reply_text: "closed by the test", ..Default::default() });
        peer.next();
    }
}
