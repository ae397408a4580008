//! What this connection has declared and, as far as it knows, still exists: it is declared again on a new link.
//!
//! The input is the broker's answers with their requests; the output is exchanges, queues and bindings in the order of
//! declaration. Consumers are kept with their streams, in `consumers`. The ledger must never contain what other
//! connections declared.
//!
//! Entries are found by what they declare, and bindings also by both of their ends, so that no operation looks at
//! entries that it does not change: a program may declare 100,000 queues. Operations on all entries are those of an
//! outage.

mod key;
mod name;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use hopmq_proto::method::{Method, MethodId};
use hopmq_proto::{SortedMap, SortedSet};

use crate::policy::Entity;
pub(crate) use key::Key;
use key::{Binding, Rank};
pub(crate) use name::Name;

/// The ledger. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Whether declarations are kept: nothing is, if nothing will be declared again.
    keeps: bool,
    serial: u64,
    /// By their numbers, in the order of declaration.
    entries: SortedMap<u64, Entry>,
    exchanges: SortedMap<Arc<str>, Node>,
    queues: SortedMap<Arc<str>, Node>,
    bindings: SortedMap<Arc<Binding>, u64>,
    /// The entities that are not declared on the present link, or not yet, in the order of a replay.
    missing: SortedSet<(Rank, u64)>,
    /// The queues that the broker named, by all names that they ever had.
    names: SortedMap<Box<str>, Arc<Name>>,
}

/// One declaration that the broker has accepted.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// The method that declared it; empty for a binding.
    payload: Vec<u8>,
    auto_delete: bool,
    /// The name of a queue that the broker named.
    name: Option<Arc<Name>>,
    /// How often the declaration failed on the present link.
    pub(crate) tried: u32,
    unwanted: bool,
}

/// An exchange or a queue: the number of its declaration, if this connection declared it, and those of its bindings.
#[derive(Debug, Default)]
struct Node {
    declared: Option<u64>,
    /// Bindings whose source it is.
    outgoing: SortedSet<u64>,
    /// Bindings whose destination it is.
    incoming: SortedSet<u64>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.declared.is_none() && self.outgoing.is_empty() && self.incoming.is_empty()
    }
}

impl Entry {
    /// Returns the method that declares the entity.
    pub(crate) fn payload(&self) -> Cow<'_, [u8]> {
        match &self.key {
            Key::Binding(binding) => Cow::Owned(binding.encode()),
            Key::Exchange(_) | Key::Queue(_) => Cow::Borrowed(&self.payload),
        }
    }
}

impl Ledger {
    /// Returns a ledger that keeps declarations, or one that ignores them.
    pub(crate) fn new(keeps: bool) -> Self {
        Self {
            keeps,
            serial: 0,
            entries: SortedMap::new(),
            exchanges: SortedMap::new(),
            queues: SortedMap::new(),
            bindings: SortedMap::new(),
            missing: SortedSet::new(),
            names: SortedMap::new(),
        }
    }

    /// Records a request that the broker accepted. `last` is the queue that was declared last on the channel, which an
    /// empty name stands for.
    pub(crate) fn record(&mut self, payload: &[u8], reply: &[u8], last: &mut String) {
        if !self.keeps && !MethodId::peek(payload).is_ok_and(|id| id == MethodId::QUEUE_DECLARE) {
            return;
        }
        let Ok(method) = Method::decode(payload) else { return };
        let named = |name: &str| if name.is_empty() { self.current(last).to_owned() } else { name.to_owned() };
        match method {
            Method::ExchangeDeclare(declare) if !declare.passive => {
                self.insert(Key::Exchange(declare.exchange.into()), payload, declare.auto_delete, None);
            }
            Method::ExchangeDelete(delete) => self.forget(&Key::Exchange(delete.exchange.into())),
            Method::QueueDeclare(declare) => {
                let Ok(Method::QueueDeclareOk(ok)) = Method::decode(reply) else { return };
                ok.queue.clone_into(last);
                if self.keeps && !declare.passive {
                    let name = declare.queue.is_empty().then(|| Name::new(ok.queue));
                    self.insert(Key::Queue(ok.queue.into()), payload, declare.auto_delete, name);
                }
            }
            Method::QueueDelete(delete) => self.forget_queue(&named(delete.queue)),
            Method::QueueBind(bind) => {
                let binding = Binding::of_queue(&named(bind.queue), (bind.exchange, bind.routing_key, bind.arguments));
                self.insert(Key::Binding(Arc::new(binding)), &[], false, None);
            }
            Method::QueueUnbind(bind) => {
                let binding = Binding::of_queue(&named(bind.queue), (bind.exchange, bind.routing_key, bind.arguments));
                self.forget(&Key::Binding(Arc::new(binding)));
            }
            Method::ExchangeBind(bind) => {
                let binding = Binding::of_exchange(bind.destination, (bind.source, bind.routing_key, bind.arguments));
                self.insert(Key::Binding(Arc::new(binding)), &[], false, None);
            }
            Method::ExchangeUnbind(bind) => {
                let binding = Binding::of_exchange(bind.destination, (bind.source, bind.routing_key, bind.arguments));
                self.forget(&Key::Binding(Arc::new(binding)));
            }
            _ => {}
        }
    }

    fn insert(&mut self, key: Key, payload: &[u8], auto_delete: bool, name: Option<Arc<Name>>) {
        if let Some(serial) = self.serial_of(&key) {
            self.missing.remove(&(key.rank(), serial));
            let Some(entry) = self.entries.get_mut(&serial) else { return };
            // A queue that the broker named stays one when the program declares it again by its name.
            if entry.name.is_none() {
                entry.payload = payload.to_owned();
            }
            (entry.auto_delete, entry.tried, entry.unwanted) = (auto_delete, 0, false);
            return;
        }
        self.serial += 1;
        let serial = self.serial;
        match &key {
            Key::Exchange(name) | Key::Queue(name) => self.node(key.rank(), name).declared = Some(serial),
            Key::Binding(binding) => self.link(binding, serial),
        }
        if let Some(name) = &name {
            self.names.insert(name.text().into(), Arc::clone(name));
        }
        let entry = Entry { key, payload: payload.to_owned(), auto_delete, name, tried: 0, unwanted: false };
        self.entries.insert(serial, entry);
    }

    /// Removes an entry. Returns what it declared.
    fn remove(&mut self, serial: u64) -> Option<Key> {
        let Entry { key, name, .. } = self.entries.remove(&serial)?;
        self.missing.remove(&(key.rank(), serial));
        for alias in name.iter().flat_map(|name| name.all()) {
            self.names.remove(alias);
        }
        match &key {
            Key::Exchange(name) | Key::Queue(name) => self.change(key.rank(), name, |node| node.declared = None),
            Key::Binding(binding) => self.unlink(binding, serial),
        }
        Some(key)
    }

    /// Enters a binding at both of its ends.
    fn link(&mut self, binding: &Arc<Binding>, serial: u64) {
        self.bindings.insert(Arc::clone(binding), serial);
        self.node(Rank::Exchange, &binding.source).outgoing.insert(serial);
        self.node(binding.end(), &binding.destination).incoming.insert(serial);
    }

    fn unlink(&mut self, binding: &Binding, serial: u64) {
        self.bindings.remove(binding);
        self.change(Rank::Exchange, &binding.source, |node| node.outgoing.remove(&serial));
        self.change(binding.end(), &binding.destination, |node| node.incoming.remove(&serial));
    }

    fn nodes(&self, rank: Rank) -> &SortedMap<Arc<str>, Node> {
        if rank == Rank::Queue { &self.queues } else { &self.exchanges }
    }

    fn nodes_mut(&mut self, rank: Rank) -> &mut SortedMap<Arc<str>, Node> {
        if rank == Rank::Queue { &mut self.queues } else { &mut self.exchanges }
    }

    /// Returns the node of an exchange or a queue, which is about to have a declaration or a binding.
    fn node(&mut self, rank: Rank, name: &Arc<str>) -> &mut Node {
        self.nodes_mut(rank).or_default(Arc::clone(name))
    }

    /// Changes the node of an exchange or a queue, and removes the node if nothing is left of it.
    fn change(&mut self, rank: Rank, name: &str, change: impl FnOnce(&mut Node)) {
        let nodes = self.nodes_mut(rank);
        if let Some(node) = nodes.get_mut(name) {
            change(node);
            if node.is_empty() {
                nodes.remove(name);
            }
        }
    }

    fn declared(&self, rank: Rank, name: &str) -> Option<u64> {
        self.nodes(rank).get(name)?.declared
    }

    fn serial_of(&self, key: &Key) -> Option<u64> {
        match key {
            Key::Exchange(name) | Key::Queue(name) => self.declared(key.rank(), name),
            Key::Binding(binding) => self.bindings.get(binding).copied(),
        }
    }

    /// Removes an entity that does not exist and will not be declared again, and what the broker removes with it: the
    /// bindings of an exchange or a queue, and `auto_delete` exchanges with the last binding from them.
    pub(crate) fn forget(&mut self, key: &Key) {
        let mut gone = vec![key.clone()];
        while let Some(key) = gone.pop() {
            let bindings: Vec<u64> = match &key {
                Key::Exchange(name) | Key::Queue(name) => {
                    let node = self.nodes(key.rank()).get(name);
                    node.map_or_else(Vec::new, |node| {
                        node.outgoing.iter().chain(node.incoming.iter()).copied().collect()
                    })
                }
                Key::Binding(_) => self.serial_of(&key).into_iter().collect(),
            };
            if !matches!(key, Key::Binding(_))
                && let Some(serial) = self.serial_of(&key)
            {
                self.remove(serial);
            }
            for serial in bindings {
                if let Some(Key::Binding(binding)) = self.remove(serial)
                    && self.is_unused(&binding.source)
                {
                    gone.push(Key::Exchange(Arc::clone(&binding.source)));
                }
            }
        }
    }

    /// Whether an exchange is an `auto_delete` one of this connection without bindings from it.
    fn is_unused(&self, exchange: &str) -> bool {
        let node = self.exchanges.get(exchange).filter(|node| node.outgoing.is_empty());
        let entry = node.and_then(|node| self.entries.get(&node.declared?));
        entry.is_some_and(|entry| entry.auto_delete)
    }

    /// Removes a deleted queue and its bindings.
    pub(crate) fn forget_queue(&mut self, name: &str) {
        self.forget(&Key::Queue(name.into()));
    }

    /// Removes an `auto_delete` queue without consumers: the broker deletes it with its last consumer.
    pub(crate) fn consumers_gone(&mut self, queue: &str) {
        if self.queue(queue).is_some_and(|entry| entry.auto_delete) {
            self.forget_queue(queue);
        }
    }

    fn queue(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&self.declared(Rank::Queue, name)?)
    }

    /// Returns the name of a queue that the broker named, found by any name that the queue ever had.
    pub(crate) fn name(&self, name: &str) -> Option<Arc<Name>> {
        self.names.get(name).cloned()
    }

    /// Returns the present name of a queue, found by any name that the queue ever had.
    pub(crate) fn current<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, |known| known.text())
    }

    /// Returns a request with the present name of its queue, if that is another one.
    pub(crate) fn renamed(&self, payload: &[u8]) -> Option<Vec<u8>> {
        name::renamed(payload, |name| Some(self.names.get(name)?.text()))
    }

    pub(crate) fn entry(&mut self, serial: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&serial)
    }

    /// Marks every entity as missing, after the loss of the link.
    pub(crate) fn lose(&mut self) {
        self.missing = self.entries.iter().map(|(serial, entry)| (entry.key.rank(), *serial)).collect();
        self.entries.values_mut().for_each(|entry| entry.tried = 0);
    }

    /// Excludes the entities that `unwanted` is true for from the replay.
    pub(crate) fn leave_alone(&mut self, unwanted: impl Fn(&Entity<'_>) -> bool) {
        for (serial, entry) in self.entries.iter_mut() {
            entry.unwanted = unwanted(&entry.key.entity());
            if entry.unwanted {
                self.missing.remove(&(entry.key.rank(), *serial));
            }
        }
    }

    /// Notes that an entity was declared again. Returns what it is.
    pub(crate) fn restored(&mut self, serial: u64) -> Option<Key> {
        let key = self.entries.get(&serial)?.key.clone();
        self.missing.remove(&(key.rank(), serial));
        Some(key)
    }

    /// Returns whether this connection declares the queue.
    pub(crate) fn declares(&self, queue: &str) -> bool {
        self.queue(queue).is_some_and(|entry| !entry.unwanted)
    }

    /// Whether an entity is not declared on the present link; `None` if it was removed.
    pub(crate) fn is_missing(&self, serial: u64) -> Option<bool> {
        let entry = self.entries.get(&serial)?;
        Some(self.missing.contains(&(entry.key.rank(), serial)))
    }

    /// Whether an exchange or a queue is one that this connection declares, and is not declared on the present link.
    fn lacks(&self, rank: Rank, name: &str) -> bool {
        self.declared(rank, name).is_some_and(|serial| self.missing.contains(&(rank, serial)))
    }

    /// Whether this connection declares the queue, and has not done so on the present link.
    pub(crate) fn lacks_queue(&self, name: &str) -> bool {
        self.lacks(Rank::Queue, name)
    }

    /// Returns the missing exchanges, then the missing queues, in the order of declaration.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let ends = self.missing.iter().take_while(|(rank, _)| *rank != Rank::Binding);
        self.entries_of(ends)
    }

    /// Returns the missing bindings that can be made, in the order of declaration: both ends of each one exist, as far
    /// as this connection declares them.
    pub(crate) fn missing_bindings(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries_of(self.missing.range_from(&(Rank::Binding, 0))).filter(|(_, entry)| match &entry.key {
            Key::Binding(binding) => {
                !self.lacks(Rank::Exchange, &binding.source) && !self.lacks(binding.end(), &binding.destination)
            }
            Key::Exchange(_) | Key::Queue(_) => true,
        })
    }

    fn entries_of<'a>(
        &'a self,
        missing: impl Iterator<Item = &'a (Rank, u64)>,
    ) -> impl Iterator<Item = (u64, &'a Entry)> {
        missing.filter_map(|(_, serial)| Some((*serial, self.entries.get(serial)?)))
    }

    /// Renames a queue to which the broker gave another name. Returns the old name.
    pub(crate) fn rename(&mut self, serial: u64, name: &str) -> Option<Arc<str>> {
        let Some(Entry { key: Key::Queue(old), .. }) = self.entries.get(&serial) else { return None };
        if **old == *name {
            return None;
        }
        let old = Arc::clone(old);
        let new: Arc<str> = name.into();
        // The broker gives no name twice; if it did, the later queue would be the one that exists.
        if let Some(other) = self.declared(Rank::Queue, name) {
            self.remove(other);
        }
        let entry = self.entries.get_mut(&serial)?;
        entry.key = Key::Queue(Arc::clone(&new));
        if let Some(known) = &entry.name {
            known.follow(name);
            self.names.insert(name.into(), Arc::clone(known));
        }
        self.change(Rank::Queue, &old, |node| node.declared = None);
        self.node(Rank::Queue, &new).declared = Some(serial);
        let incoming = self.queues.get(&old).map(|node| node.incoming.clone()).unwrap_or_default();
        for serial in incoming.iter().copied() {
            let Some(Entry { key: Key::Binding(binding), .. }) = self.entries.get(&serial) else { continue };
            let (before, after) = (Arc::clone(binding), Arc::new(binding.with_destination(&new)));
            if self.bindings.contains_key(&after) {
                self.remove(serial);
                continue;
            }
            self.unlink(&before, serial);
            self.link(&after, serial);
            if let Some(entry) = self.entries.get_mut(&serial) {
                entry.key = Key::Binding(after);
            }
        }
        Some(old)
    }
}
