//! The temporary queues of one connection: exclusive ones, those that RabbitMQ deletes after their last consumer, and
//! those that it names.
//!
//! Comes to know each operation that is passed on, and each reply, and counts a queue from its declaration until it is
//! certain that it is gone. Replies come in the order of the operations of a channel, so a reply also confirms all
//! operations before it that have none (`nowait`); those that a channel's close leaves unconfirmed free nothing. A
//! queue that expires, or that is declared by `nowait` without a name, counts until the connection ends. Decides
//! nothing but the limit, and knows nothing of the policy.

use std::collections::{HashMap, HashSet, VecDeque};

use hopmq_proto::method::queue;

use crate::auth::denied::Denied;

/// The number of replies that RabbitMQ may owe before no more frames of the browser are taken.
const PENDING_MAX: usize = 1024;
/// The number of consumers from which those of a queue are not told apart any more: its cancels free nothing then.
const CONSUMERS_MAX: usize = 1024;

/// The temporary queues of one connection; see the [module](self).
#[derive(Debug)]
pub(crate) struct TemporaryQueues {
    max: usize,
    queues: HashMap<String, Queue>,
    /// The queues that RabbitMQ named for this connection.
    named: HashSet<String>,
    /// Queues that RabbitMQ must name and has not named yet.
    unnamed: usize,
    /// Queues whose names are never told.
    anonymous: usize,
    channels: HashMap<u16, Channel>,
    /// Replies that RabbitMQ owes.
    pending: usize,
    consumers: usize,
    /// Consumers under way to queues that are not counted, and may come to be.
    unknown_consumers: usize,
    /// The number of declarations of queues with names.
    declarations: u64,
}

#[derive(Debug)]
struct Queue {
    /// Whether RabbitMQ deletes it after its last consumer, and all consumers are known.
    ends_with_consumers: bool,
    /// Known consumers, and those under way.
    consumers: usize,
    /// Whether a consumer was ever passed on.
    is_consumed: bool,
    is_deleting: bool,
    /// The latest declaration. What was passed on before it does not free the queue.
    declaration: u64,
    /// The channel of the latest declaration.
    channel: u16,
    /// Whether all declarations are executed or refused.
    is_settled: bool,
    /// Whether declarations were under way on several channels, so that it is unknown which came last.
    is_mixed: bool,
}

#[derive(Debug, Default)]
struct Channel {
    /// The queue that was declared last; empty until RabbitMQ has named it.
    last: Option<String>,
    /// The number of declarations that changed `last`.
    declarations: u64,
    pending: VecDeque<Pending>,
    /// The queues of the known consumers, by their tags.
    consumers: HashMap<String, Consumer>,
}

#[derive(Debug)]
struct Consumer {
    queue: String,
    is_cancelling: bool,
}

/// An operation that is not confirmed.
#[derive(Debug)]
struct Pending {
    operation: Operation,
    has_reply: bool,
}

#[derive(Debug)]
enum Operation {
    /// RabbitMQ names the queue.
    DeclareUnnamed {
        declaration: u64,
        ends_with_consumers: bool,
    },
    /// The name, if the queue is temporary; whether it was not known before.
    DeclareNamed {
        temporary: Option<(String, Queue)>,
        is_new: bool,
    },
    /// The name and its latest declaration, if the queue is known.
    Delete {
        queue: Option<(String, u64)>,
    },
    /// The queue, if it ends with its consumers. Without a reply, the tag is that of the client.
    Consume {
        queue: Option<String>,
        tag: String,
    },
    Cancel {
        tag: String,
    },
}

/// A reply of RabbitMQ.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply<'a> {
    Declared { queue: &'a str },
    Deleted,
    Consumed { tag: &'a str },
    Cancelled,
}

impl TemporaryQueues {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            queues: HashMap::new(),
            named: HashSet::new(),
            unnamed: 0,
            anonymous: 0,
            channels: HashMap::new(),
            pending: 0,
            consumers: 0,
            unknown_consumers: 0,
            declarations: 0,
        }
    }

    /// Returns the queues that RabbitMQ named for this connection.
    pub(crate) fn named(&self) -> &HashSet<String> {
        &self.named
    }

    /// Returns the queue that was declared last on the channel; the name is empty until RabbitMQ has given one.
    pub(crate) fn last(&self, channel: u16) -> Option<&str> {
        self.channels.get(&channel)?.last.as_deref()
    }

    /// Returns the number of queues.
    pub(crate) fn count(&self) -> usize {
        self.queues.len() + self.unnamed + self.anonymous
    }

    /// Whether RabbitMQ owes so many replies that no more operations must be passed on.
    pub(crate) fn is_saturated(&self) -> bool {
        self.pending >= PENDING_MAX
    }

    /// Notes a `queue.declare` that is passed on.
    ///
    /// # Errors
    /// [`Denied::TooManyTemporaryQueues`] if it must not be: it would be one queue too many.
    pub(crate) fn declare(&mut self, channel: u16, declare: &queue::Declare<'_>) -> Result<(), Denied> {
        let is_unnamed = declare.queue.is_empty() && !declare.passive;
        let is_temporary = is_unnamed || !declare.passive && (declare.exclusive || declare.auto_delete);
        let is_new = is_temporary && !self.queues.contains_key(declare.queue);
        if is_new && self.count() >= self.max {
            return Err(Denied::TooManyTemporaryQueues { limit: self.max });
        }
        let has_reply = !declare.nowait;
        let entry = self.channels.entry(channel).or_default();
        if is_unnamed || !declare.queue.is_empty() {
            entry.last = Some(declare.queue.to_owned());
            entry.declarations += 1;
        }
        let declaration = entry.declarations;
        let operation = if is_unnamed {
            if !has_reply {
                self.anonymous += 1;
                return Ok(());
            }
            self.unnamed += 1;
            Operation::DeclareUnnamed { declaration, ends_with_consumers: declare.auto_delete }
        } else {
            let ends_with_consumers = declare.auto_delete && self.unknown_consumers == 0;
            if is_temporary {
                self.declare_named(channel, declare.queue, ends_with_consumers);
            }
            if !has_reply {
                return Ok(());
            }
            let queue = || Queue::new(ends_with_consumers, channel, self.declarations);
            Operation::DeclareNamed { temporary: is_temporary.then(|| (declare.queue.to_owned(), queue())), is_new }
        };
        self.expect(channel, operation, has_reply);
        Ok(())
    }

    fn declare_named(&mut self, channel: u16, name: &str, ends_with_consumers: bool) {
        self.declarations += 1;
        let declaration = self.declarations;
        match self.queues.get_mut(name) {
            None => {
                self.queues.insert(name.to_owned(), Queue::new(ends_with_consumers, channel, declaration));
            }
            Some(queue) => {
                queue.declaration = declaration;
                queue.is_mixed |= !queue.is_ordered_with(channel);
                (queue.channel, queue.is_settled) = (channel, false);
                queue.is_deleting = false;
                // RabbitMQ may see the declaration before or after the end of the last consumer.
                queue.ends_with_consumers &= ends_with_consumers && !queue.is_consumed;
            }
        }
    }

    /// Notes a `queue.delete` that is passed on.
    pub(crate) fn delete(&mut self, channel: u16, queue: &str, nowait: bool) {
        let name = self.name(channel, queue).map(str::to_owned);
        let queue = name.and_then(|name| {
            self.named.remove(&name);
            let queue = self.queues.get_mut(&name).filter(|queue| queue.is_ordered_with(channel))?;
            let is_first = !std::mem::replace(&mut queue.is_deleting, true);
            is_first.then_some((name, queue.declaration))
        });
        if !nowait || queue.is_some() {
            self.expect(channel, Operation::Delete { queue }, !nowait);
        }
    }

    /// Notes a `basic.consume` that is passed on.
    pub(crate) fn consume(&mut self, channel: u16, queue: &str, tag: &str, nowait: bool) {
        let name = self.name(channel, queue).map(str::to_owned);
        if name.is_none()
            && let Some(channel) = self.channels.get_mut(&channel)
        {
            // One of the queues without a name yet gets a consumer that is not known.
            for pending in &mut channel.pending {
                if let Operation::DeclareUnnamed { ends_with_consumers, .. } = &mut pending.operation {
                    *ends_with_consumers = false;
                }
            }
        }
        let is_known = self.consumers < CONSUMERS_MAX;
        let name = name.filter(|name| match self.queues.get_mut(name) {
            Some(queue) => {
                queue.ends_with_consumers &= is_known && queue.is_ordered_with(channel);
                queue.is_consumed = true;
                queue.consumers += usize::from(queue.ends_with_consumers);
                queue.ends_with_consumers
            }
            None => false,
        });
        if name.is_some() {
            self.consumers += 1;
        }
        let pending = self.channels.entry(channel).or_default().pending.back();
        let is_repeated = pending.is_some_and(|pending| {
            !pending.has_reply && matches!(&pending.operation, Operation::Consume { queue: None, .. })
        });
        if !nowait || name.is_some() || !is_repeated {
            self.unknown_consumers += usize::from(name.is_none());
            self.expect(channel, Operation::Consume { queue: name, tag: tag.to_owned() }, !nowait);
        }
    }

    /// Notes a `basic.cancel` that is passed on.
    pub(crate) fn cancel(&mut self, channel: u16, tag: &str, nowait: bool) {
        let consumers = self.channels.get_mut(&channel).map(|channel| &mut channel.consumers);
        let consumer = consumers.and_then(|consumers| consumers.get_mut(tag));
        let is_first = consumer.is_some_and(|consumer| !std::mem::replace(&mut consumer.is_cancelling, true));
        if !nowait || is_first {
            self.expect(channel, Operation::Cancel { tag: tag.to_owned() }, !nowait);
        }
    }

    /// Takes a reply, which confirms all operations before it.
    pub(crate) fn reply(&mut self, channel: u16, reply: Reply<'_>) {
        while let Some(pending) = self.next(channel) {
            if pending.has_reply {
                self.confirm(channel, pending.operation, Some(reply));
                return;
            }
            self.confirm(channel, pending.operation, None);
        }
    }

    /// Takes a `basic.cancel` of RabbitMQ: the consumer is gone.
    pub(crate) fn cancelled(&mut self, channel: u16, tag: &str) {
        let Some(state) = self.channels.get_mut(&channel) else { return };
        if let Some(consumer) = state.consumers.remove(tag) {
            self.consumer_ended(&consumer.queue);
        }
    }

    /// Takes a `channel.close` of RabbitMQ: what it did not reply to was refused, or may have been.
    pub(crate) fn refused(&mut self, channel: u16) {
        while let Some(pending) = self.next(channel) {
            match pending.operation {
                Operation::DeclareUnnamed { .. } => self.unnamed -= 1,
                Operation::DeclareNamed { temporary: Some((name, queue)), is_new: true } => {
                    self.remove_declared(&name, queue.declaration);
                }
                Operation::DeclareNamed { .. } | Operation::Cancel { .. } => {}
                Operation::Delete { queue } => {
                    if let Some(queue) = queue.and_then(|(name, _)| self.queues.get_mut(&name)) {
                        queue.is_deleting = false;
                    }
                }
                Operation::Consume { queue, .. } => {
                    if let Some(name) = queue {
                        self.consumers -= 1;
                        // It may have had the consumer and be gone with it, or not.
                        if let Some(queue) = self.queues.get_mut(&name) {
                            queue.ends_with_consumers = false;
                        }
                    }
                }
            }
        }
        self.end(channel);
    }

    /// Takes a `channel.close-ok` of RabbitMQ, which confirms all operations of the channel.
    pub(crate) fn closed(&mut self, channel: u16) {
        while let Some(pending) = self.next(channel) {
            self.confirm(channel, pending.operation, None);
        }
        self.end(channel);
    }

    /// Returns the name that an operation means, if it is known.
    fn name<'a>(&'a self, channel: u16, queue: &'a str) -> Option<&'a str> {
        if queue.is_empty() { self.last(channel) } else { Some(queue) }.filter(|name| !name.is_empty())
    }

    fn expect(&mut self, channel: u16, operation: Operation, has_reply: bool) {
        self.pending += usize::from(has_reply);
        self.channels.entry(channel).or_default().pending.push_back(Pending { operation, has_reply });
    }

    fn next(&mut self, channel: u16) -> Option<Pending> {
        let pending = self.channels.get_mut(&channel)?.pending.pop_front()?;
        self.pending -= usize::from(pending.has_reply);
        self.unknown_consumers -= usize::from(matches!(&pending.operation, Operation::Consume { queue: None, .. }));
        Some(pending)
    }

    fn confirm(&mut self, channel: u16, operation: Operation, reply: Option<Reply<'_>>) {
        match (operation, reply) {
            (Operation::DeclareUnnamed { declaration, ends_with_consumers }, Some(Reply::Declared { queue })) => {
                self.unnamed -= 1;
                let new = Queue::new(ends_with_consumers, channel, self.declarations);
                self.queues.insert(queue.to_owned(), Queue { is_settled: true, ..new });
                self.named.insert(queue.to_owned());
                if let Some(channel) = self.channels.get_mut(&channel)
                    && channel.declarations == declaration
                {
                    channel.last = Some(queue.to_owned());
                }
            }
            (Operation::DeclareNamed { temporary: Some((name, queue)), .. }, _) => {
                let declaration = queue.declaration;
                let queue = self.queues.entry(name).or_insert(queue);
                queue.is_settled |= queue.declaration == declaration;
            }
            (Operation::Delete { queue: Some((name, declaration)) }, _) => self.remove_declared(&name, declaration),
            (Operation::Consume { queue: Some(queue), tag }, reply) => {
                let tag = if let Some(Reply::Consumed { tag }) = reply { tag.to_owned() } else { tag };
                let consumer = Consumer { queue, is_cancelling: false };
                if self.channels.entry(channel).or_default().consumers.insert(tag, consumer).is_some() {
                    self.consumers -= 1;
                }
            }
            (Operation::Cancel { tag }, _) => {
                let consumer = self.channels.get_mut(&channel).and_then(|channel| channel.consumers.remove(&tag));
                if let Some(consumer) = consumer {
                    self.consumer_ended(&consumer.queue);
                }
            }
            _ => {}
        }
    }

    /// The channel and its consumers are gone.
    fn end(&mut self, channel: u16) {
        for queue in self.queues.values_mut().filter(|queue| queue.channel == channel) {
            queue.is_settled = true;
        }
        for consumer in self.channels.remove(&channel).into_iter().flat_map(|channel| channel.consumers.into_values()) {
            self.consumer_ended(&consumer.queue);
        }
    }

    fn consumer_ended(&mut self, name: &str) {
        self.consumers -= 1;
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.consumers = queue.consumers.saturating_sub(1);
        if queue.ends_with_consumers && queue.consumers == 0 {
            self.remove(name);
        }
    }

    /// Removes the queue unless it was declared again.
    fn remove_declared(&mut self, name: &str, declaration: u64) {
        if self.queues.get(name).is_some_and(|queue| queue.declaration == declaration) {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.queues.remove(name);
        self.named.remove(name);
    }
}

impl Queue {
    fn new(ends_with_consumers: bool, channel: u16, declaration: u64) -> Self {
        Self {
            ends_with_consumers,
            consumers: 0,
            is_consumed: false,
            is_deleting: false,
            declaration,
            channel,
            is_settled: false,
            is_mixed: false,
        }
    }

    /// Whether RabbitMQ executes what is passed on now on this channel after all declarations of the queue.
    fn is_ordered_with(&self, channel: u16) -> bool {
        !self.is_mixed && (self.is_settled || self.channel == channel)
    }
}

#[cfg(test)]
mod tests;
