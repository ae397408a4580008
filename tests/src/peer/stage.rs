//! What a scenario has to itself: names, and somebody who cleans up.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hopmq_proto::method::{connection, exchange, queue};

use super::Peer;
use crate::broker;
use crate::embedded::{Embedded, embedded};

/// The place of one scenario on the broker: names that end in a suffix of its own, which no line shows.
#[derive(Debug)]
pub struct Stage {
    suffix: String,
    left: RefCell<Vec<String>>,
    users: RefCell<Vec<String>>,
}

impl Stage {
    /// A place with nothing on it.
    #[expect(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        static RUN: OnceLock<u32> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let run = RUN.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32);
        let suffix = format!("~{run:08x}.{}~", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::of(&suffix)
    }

    /// The same place for somebody else, who leaves nothing behind.
    pub(super) fn of(suffix: &str) -> Self {
        Self { suffix: suffix.to_owned(), left: RefCell::default(), users: RefCell::default() }
    }

    /// What every name of this scenario ends in.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// A name of this scenario's, as the broker knows it.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}{}", self.suffix)
    }

    /// An open connection.
    #[track_caller]
    pub fn connect(&self) -> Peer {
        Peer::open(self)
    }

    /// Makes a user of that name, whose password is the name, who may configure, write and read what these patterns
    /// match. It is deleted in the end.
    #[track_caller]
    pub fn user(&self, stem: &str, permissions: [&str; 3]) -> String {
        let name = self.stranger(stem);
        self.permit(&name, permissions);
        name
    }

    /// Makes a user who may publish in the name of others.
    #[track_caller]
    pub fn impersonator(&self, stem: &str, permissions: [&str; 3]) -> String {
        let name = self.add(stem, "impersonator");
        self.permit(&name, permissions);
        name
    }

    /// Makes a user of that name, whose password is the name, who may do nothing.
    #[track_caller]
    pub fn stranger(&self, stem: &str) -> String {
        self.add(stem, "")
    }

    /// Lets a user write and read messages of an exchange whose keys these patterns match, and no others.
    #[track_caller]
    pub fn topics(&self, user: &str, exchange: &str, [write, read]: [&str; 2]) {
        let exchange = self.name(exchange);
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            let set = embedded.set_topic_permissions(user, "/", &exchange, write, read);
            return set.expect("the permissions are taken");
        }
        let permissions = format!(r#"{{"exchange":"{exchange}","write":"{write}","read":"{read}"}}"#);
        let path = format!("/api/topic-permissions/%2f/{user}");
        broker().http_with("PUT", &path, &permissions).expect("the permissions are taken");
    }

    #[track_caller]
    fn permit(&self, user: &str, [configure, write, read]: [&str; 3]) {
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            let set = embedded.set_permissions(user, "/", hopmq_broker::Permissions { configure, write, read });
            return set.expect("the permissions are taken");
        }
        let permissions = format!(r#"{{"configure":"{configure}","write":"{write}","read":"{read}"}}"#);
        let path = format!("/api/permissions/%2f/{user}");
        broker().http_with("PUT", &path, &permissions).expect("the permissions are taken");
    }

    #[track_caller]
    fn add(&self, stem: &str, tags: &str) -> String {
        let name = self.name(stem);
        self.users.borrow_mut().push(name.clone());
        if let Some(Embedded { broker: embedded, .. }) = embedded() {
            embedded.add_user(&name, &name).expect("the user is taken");
            embedded.set_impersonator(&name, tags == "impersonator").expect("the user is there");
        } else {
            let user = format!(r#"{{"password":"{name}","tags":"{tags}"}}"#);
            broker().http_with("PUT", &format!("/api/users/{name}"), &user).expect("the user is taken");
        }
        name
    }

    /// Names what stays when the connections of the scenario have gone. It is deleted in the end.
    pub fn leaves(&self, stems: &[&str]) {
        self.left.borrow_mut().extend(stems.iter().map(|stem| self.name(stem)));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The scenario's own panic is the one to be seen.
        if std::thread::panicking() {
            return;
        }
        for user in self.users.take() {
            // Who is gone already is no fault of the scenario.
            if let Some(Embedded { broker: embedded, .. }) = embedded() {
                let _ = embedded.delete_user(&user);
            } else {
                let _ = broker().http("DELETE", &format!("/api/users/{user}"));
            }
        }
        let left = self.left.take();
        if left.is_empty() {
            return;
        }
        let peer = Peer::open(self);
        let channel = peer.channel(1);
        for name in &left {
            channel.sends(&queue::Delete { queue: name, ..Default::default() });
            channel.sends(&exchange::Delete { exchange: name, ..Default::default() });
            channel.next();
            channel.next();
        }
        peer.send(&connection::Close { reply_code: 200, reply_text: "goodbye", ..Default::default() });
        peer.next();
    }
}
