//! The names of queues that the broker named.

use std::sync::{Arc, OnceLock};

use hopmq_proto::method::{Encode, Method};

/// The name of a queue, and the names that the broker gave it afterwards.
#[derive(Debug)]
pub(crate) struct Name {
    text: Box<str>,
    next: OnceLock<Arc<Name>>,
}

impl Name {
    pub(crate) fn new(text: &str) -> Arc<Self> {
        Arc::new(Self { text: text.into(), next: OnceLock::new() })
    }

    fn latest(&self) -> &Self {
        let mut name = self;
        while let Some(next) = name.next.get() {
            name = next;
        }
        name
    }

    /// Returns the present name.
    pub(crate) fn text(&self) -> &str {
        &self.latest().text
    }

    /// Returns all names that the queue ever had, the first one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self), |name| name.next.get().map(|next| &**next)).map(|name| &*name.text)
    }

    pub(super) fn follow(&self, text: &str) {
        // Names are set under the connection's lock, one at a time.
        let _ = self.latest().next.set(Self::new(text));
    }
}

/// Returns a request about a queue with the present name of the queue, which `current` returns for any name; `None`
/// if the request need not change.
pub(super) fn renamed<'a>(payload: &[u8], current: impl FnOnce(&str) -> Option<&'a str>) -> Option<Vec<u8>> {
    let mut renamed = Vec::new();
    macro_rules! rename {
        ($($method:ident)*) => {
            match Method::decode(payload).ok()? {
                $(Method::$method(mut method) => {
                    let name = current(method.queue).filter(|name| *name != method.queue)?;
                    method.queue = name;
                    method.encode(&mut renamed).ok()?;
                })*
                _ => return None,
            }
        };
    }
    rename!(QueueDeclare QueueBind QueueUnbind QueuePurge QueueDelete BasicGet);
    Some(renamed)
}
