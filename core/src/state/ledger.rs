//! What this connection has declared and, as far as it knows, still exists: it is declared again on a new link.
//!
//! The input is the broker's answers with their requests; the output is exchanges, queues and bindings in the order of
//! declaration. Consumers are kept with their streams, in `consumers`. The ledger must never contain what other
//! connections declared.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use hopmq_proto::FieldTable;
use hopmq_proto::method::{Encode, Method, exchange, queue};

use crate::policy::Entity;

/// The ledger. See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    serial: u64,
    /// In the order of their numbers, which is that of declaration.
    entries: Vec<(u64, Box<Entry>)>,
    index: HashMap<Key, u64>,
}

/// One declaration that the broker has accepted.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// The method that declared it.
    pub(crate) payload: Vec<u8>,
    auto_delete: bool,
    /// The name of a queue that the broker named.
    name: Option<Arc<Name>>,
    /// Whether the entity is not declared on the present link, or not yet.
    pub(crate) missing: bool,
    /// How often the declaration failed on the present link.
    pub(crate) tried: u32,
    unwanted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Exchange(String),
    Queue(String),
    Binding(Box<Binding>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Binding {
    /// Whether the destination is a queue, and not an exchange.
    to_queue: bool,
    destination: String,
    source: String,
    routing_key: String,
    arguments: Vec<u8>,
}

impl Key {
    pub(crate) fn entity(&self) -> Entity<'_> {
        match self {
            Self::Exchange(name) => Entity::Exchange { name },
            Self::Queue(name) => Entity::Queue { name },
            Self::Binding(binding) => Entity::Binding {
                source: &binding.source,
                destination: &binding.destination,
                routing_key: &binding.routing_key,
            },
        }
    }

    pub(crate) fn is_binding(&self) -> bool {
        matches!(self, Self::Binding(_))
    }
}

impl Binding {
    fn of_queue(queue: &str, source: &str, routing_key: &str, arguments: FieldTable<&[u8]>) -> Box<Self> {
        Self::new(true, queue, source, routing_key, arguments)
    }

    fn new(
        to_queue: bool,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: FieldTable<&[u8]>,
    ) -> Box<Self> {
        Box::new(Self {
            to_queue,
            destination: destination.to_owned(),
            source: source.to_owned(),
            routing_key: routing_key.to_owned(),
            arguments: arguments.as_bytes().to_owned(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let Self { destination, source, routing_key, .. } = self;
        let arguments = FieldTable::parse(&self.arguments[..]).unwrap_or_default();
        let mut payload = Vec::new();
        let encoded = if self.to_queue {
            let queue = destination;
            queue::Bind { queue, exchange: source, routing_key, nowait: false, arguments }.encode(&mut payload)
        } else {
            exchange::Bind { destination, source, routing_key, nowait: false, arguments }.encode(&mut payload)
        };
        debug_assert!(encoded.is_ok(), "the same binding was encoded before");
        payload
    }
}

impl Ledger {
    /// Records a request that the broker accepted. `last` is the queue that was declared last on the channel, which an
    /// empty name stands for.
    pub(crate) fn record(&mut self, payload: &[u8], reply: &[u8], last: &mut String) {
        let Ok(method) = Method::decode(payload) else { return };
        let named = |name: &str, last: &str| if name.is_empty() { last.to_owned() } else { name.to_owned() };
        match method {
            Method::ExchangeDeclare(declare) if !declare.passive => {
                let key = Key::Exchange(declare.exchange.to_owned());
                self.insert(key, payload.to_owned(), declare.auto_delete, None);
            }
            Method::ExchangeDelete(delete) => self.forget_exchange(delete.exchange),
            Method::QueueDeclare(declare) => {
                let Ok(Method::QueueDeclareOk(ok)) = Method::decode(reply) else { return };
                ok.queue.clone_into(last);
                if !declare.passive {
                    let name = declare.queue.is_empty().then(|| Name::new(ok.queue));
                    self.insert(Key::Queue(ok.queue.to_owned()), payload.to_owned(), declare.auto_delete, name);
                }
            }
            Method::QueueDelete(delete) => self.forget_queue(&named(delete.queue, last)),
            Method::QueueBind(bind) => {
                let queue = named(bind.queue, last);
                let binding = Binding::of_queue(&queue, bind.exchange, bind.routing_key, bind.arguments);
                let payload = binding.encode();
                self.insert(Key::Binding(binding), payload, false, None);
            }
            Method::QueueUnbind(bind) => {
                let queue = named(bind.queue, last);
                let binding = Binding::of_queue(&queue, bind.exchange, bind.routing_key, bind.arguments);
                self.forget_binding(Key::Binding(binding), bind.exchange);
            }
            Method::ExchangeBind(bind) => {
                let binding = Binding::new(false, bind.destination, bind.source, bind.routing_key, bind.arguments);
                self.insert(Key::Binding(binding), payload.to_owned(), false, None);
            }
            Method::ExchangeUnbind(bind) => {
                let binding = Binding::new(false, bind.destination, bind.source, bind.routing_key, bind.arguments);
                self.forget_binding(Key::Binding(binding), bind.source);
            }
            _ => {}
        }
    }

    fn insert(&mut self, key: Key, payload: Vec<u8>, auto_delete: bool, name: Option<Arc<Name>>) {
        let serial = *self.index.entry(key.clone()).or_insert_with(|| {
            self.serial += 1;
            self.serial
        });
        let known = self.take(serial);
        // A queue that the broker named stays one when the program declares it again by its name.
        let (payload, name) = match known {
            Some(known) if known.name.is_some() => (known.payload, known.name),
            _ => (payload, name),
        };
        let entry = Entry { key, payload, auto_delete, name, missing: false, tried: 0, unwanted: false };
        let place = self.entries.partition_point(|(other, _)| *other < serial);
        self.entries.insert(place, (serial, Box::new(entry)));
    }

    fn remove(&mut self, key: &Key) -> Option<Box<Entry>> {
        let serial = self.index.remove(key)?;
        self.take(serial)
    }

    fn take(&mut self, serial: u64) -> Option<Box<Entry>> {
        self.place(serial).map(|place| self.entries.remove(place).1)
    }

    fn place(&self, serial: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&serial, |(serial, _)| *serial).ok()
    }

    fn get(&self, key: &Key) -> Option<&Entry> {
        let place = self.place(*self.index.get(key)?)?;
        Some(&self.entries[place].1)
    }

    /// Removes an entity that does not exist and will not be declared again.
    pub(crate) fn forget(&mut self, key: &Key) {
        match key {
            Key::Exchange(name) => self.forget_exchange(name),
            Key::Queue(name) => self.forget_queue(name),
            Key::Binding(_) => drop(self.remove(key)),
        }
    }

    fn forget_binding(&mut self, key: Key, source: &str) {
        self.remove(&key);
        self.forget_if_unused(source);
    }

    /// Removes a deleted queue and its bindings.
    pub(crate) fn forget_queue(&mut self, name: &str) {
        self.remove(&Key::Queue(name.to_owned()));
        self.forget_bindings(|binding| binding.to_queue && binding.destination == name);
    }

    fn forget_exchange(&mut self, name: &str) {
        self.remove(&Key::Exchange(name.to_owned()));
        self.forget_bindings(|binding| binding.source == name || !binding.to_queue && binding.destination == name);
    }

    fn forget_bindings(&mut self, gone: impl Fn(&Binding) -> bool) {
        let bindings: Vec<Binding> = self
            .entries
            .iter()
            .map(|(_, entry)| &**entry)
            .filter_map(|entry| match &entry.key {
                Key::Binding(binding) if gone(binding) => Some((**binding).clone()),
                _ => None,
            })
            .collect();
        for binding in bindings {
            let source = binding.source.clone();
            self.forget_binding(Key::Binding(Box::new(binding)), &source);
        }
    }

    /// Removes an `auto_delete` exchange without bindings: the broker deletes it with its last binding.
    fn forget_if_unused(&mut self, exchange: &str) {
        let key = Key::Exchange(exchange.to_owned());
        let auto_delete = self.get(&key).is_some_and(|entry| entry.auto_delete);
        let used = |entry: &Entry| matches!(&entry.key, Key::Binding(binding) if binding.source == exchange);
        if auto_delete && !self.entries.iter().map(|(_, entry)| &**entry).any(used) {
            self.forget_exchange(exchange);
        }
    }

    /// Removes an `auto_delete` queue without consumers: the broker deletes it with its last consumer.
    pub(crate) fn consumers_gone(&mut self, queue: &str) {
        if self.queue(queue).is_some_and(|entry| entry.auto_delete) {
            self.forget_queue(queue);
        }
    }

    pub(crate) fn queue(&self, name: &str) -> Option<&Entry> {
        self.get(&Key::Queue(name.to_owned()))
    }

    /// Returns the name of a queue that the broker named, found by any name that the queue ever had.
    pub(crate) fn name(&self, name: &str) -> Option<Arc<Name>> {
        self.entries
            .iter()
            .map(|(_, entry)| &**entry)
            .filter_map(|entry| entry.name.as_ref())
            .find(|known| known.was(name))
            .cloned()
    }

    pub(crate) fn entry(&mut self, serial: u64) -> Option<&mut Entry> {
        let place = self.place(serial)?;
        Some(&mut self.entries[place].1)
    }

    /// Marks every entity as missing, after the loss of the link.
    pub(crate) fn lose(&mut self) {
        for entry in self.entries.iter_mut().map(|(_, entry)| &mut **entry) {
            entry.missing = true;
            entry.tried = 0;
        }
    }

    /// Excludes the entities that `unwanted` is true for from the replay.
    pub(crate) fn leave_alone(&mut self, unwanted: impl Fn(&Entity<'_>) -> bool) {
        for entry in self.entries.iter_mut().map(|(_, entry)| &mut **entry) {
            entry.unwanted = unwanted(&entry.key.entity());
            entry.missing &= !entry.unwanted;
        }
    }

    /// Returns whether this connection declares the queue.
    pub(crate) fn declares(&self, queue: &str) -> bool {
        self.queue(queue).is_some_and(|entry| !entry.unwanted)
    }

    /// Returns the missing entities in the order of declaration.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.missing).map(|(serial, entry)| (*serial, &**entry))
    }

    /// Returns whether a binding can be made: both its ends exist, as far as this connection declares them.
    pub(crate) fn is_bindable(&self, entry: &Entry) -> bool {
        let Key::Binding(binding) = &entry.key else { return true };
        let there = |key: Key| self.get(&key).is_none_or(|entry| !entry.missing);
        let destination = binding.destination.clone();
        there(Key::Exchange(binding.source.clone()))
            && there(if binding.to_queue { Key::Queue(destination) } else { Key::Exchange(destination) })
    }

    /// Renames a queue to which the broker gave another name. Returns the old name.
    pub(crate) fn rename(&mut self, serial: u64, name: &str) -> Option<String> {
        let place = self.place(serial)?;
        let entry = &mut self.entries[place].1;
        let Key::Queue(old) = &entry.key else { return None };
        if old == name {
            return None;
        }
        let old = old.clone();
        if let Some(known) = &entry.name {
            known.follow(name);
        }
        self.index.remove(&entry.key);
        entry.key = Key::Queue(name.to_owned());
        self.index.insert(entry.key.clone(), serial);
        for (serial, entry) in &mut self.entries {
            if let Key::Binding(binding) = &mut entry.key
                && binding.to_queue
                && binding.destination == old
            {
                self.index.remove(&Key::Binding(binding.clone()));
                name.clone_into(&mut binding.destination);
                entry.payload = binding.encode();
                self.index.insert(entry.key.clone(), *serial);
            }
        }
        Some(old)
    }
}

/// Rewrites a request about the queue `old` to use the name `new`; `None` if the request is not about that queue.
pub(crate) fn renamed(payload: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let mut renamed = Vec::new();
    macro_rules! rename {
        ($($method:ident)*) => {
            match Method::decode(payload).ok()? {
                $(Method::$method(mut method) if method.queue == old => {
                    method.queue = new;
                    method.encode(&mut renamed).ok()?;
                })*
                _ => return None,
            }
        };
    }
    rename!(QueueDeclare QueueBind QueueUnbind QueuePurge QueueDelete BasicGet);
    Some(renamed)
}

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

    fn was(&self, text: &str) -> bool {
        let mut name = Some(self);
        while let Some(known) = name {
            if *known.text == *text {
                return true;
            }
            name = known.next.get().map(|next| &**next);
        }
        false
    }

    fn follow(&self, text: &str) {
        // Names are set under the connection's lock, one at a time.
        let _ = self.latest().next.set(Self::new(text));
    }
}
