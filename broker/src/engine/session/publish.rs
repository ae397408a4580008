//! Publishes: from a received message to the queues, and its confirm.

use std::collections::VecDeque;
use std::time::Duration;

use hopmq_proto::method::{MethodId, basic};
use hopmq_proto::{Arguments, Content, ContentKind, Properties, code};

use crate::engine::access::{Permission, Resource};
use crate::engine::invariant::Invariant;
use crate::engine::keys::{QueueKey, SessionKey};
use crate::engine::queue::arguments::LONGEST;
use crate::engine::queue::message::{Facts, Message, Payload, sort_headers};
use crate::engine::queue::ready::{Entry, Kept};
use crate::engine::queue::settings::Overflow;
use crate::engine::refusal::Refusal;
use crate::engine::routing::exchange::DependsOn;
use crate::engine::routing::route::{Progress, copies};
use crate::engine::session::channel::Channel;
use crate::engine::session::tx::Publish;
use crate::engine::work::Task;
use crate::engine::{At, Engine};
use crate::store::Lsn;

/// The publishes of a channel in confirm mode.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// The tag of the last publish.
    published: u64,
    /// The last tag whose outcome was sent to the client.
    confirmed: u64,
    /// Refused tags above `confirmed`.
    refused: VecDeque<u64>,
    /// The last tag of a stored message.
    stored: u64,
    /// Tags, with the end in the store that must be synced before they and all before them are confirmed.
    pub(in crate::engine) waiting: VecDeque<(u64, Lsn)>,
    /// Whether the channel is in the list of channels with publishes to confirm.
    noted: bool,
}

impl Confirms {
    /// Returns how many publishes are not confirmed.
    pub(crate) fn outstanding(&self) -> u64 {
        self.published - self.confirmed
    }
}

/// The route of the last publish of a channel, which the next one mostly shares.
#[derive(Debug, Default)]
pub(crate) struct KnownRoute {
    /// [`Engine::topology`] at that time; zero if no route is known.
    topology: u64,
    exchange: Vec<u8>,
    key: Vec<u8>,
    queues: Vec<QueueKey>,
}

impl KnownRoute {
    /// Returns what it takes, in bytes.
    fn size(&self) -> usize {
        self.exchange.capacity() + self.key.capacity() + self.queues.capacity() * size_of::<QueueKey>()
    }

    #[inline]
    fn is_of(&self, topology: u64, exchange: &[u8], key: &[u8]) -> bool {
        self.topology == topology && self.key == key && self.exchange == exchange
    }
}

/// A message with more queues than this is passed to them in several turns, if need be.
const MANY: usize = 256;

/// A message on its way to many queues.
#[derive(Debug)]
pub(in crate::engine) struct Spread {
    at: At,
    message: Message,
    queues: VecDeque<QueueKey>,
    taken: Taken,
    stored: bool,
}

/// A message whose route has not ended.
#[derive(Debug)]
pub(in crate::engine) struct Unrouted {
    at: At,
    content: Content,
    progress: Progress,
    /// What was found so far.
    queues: Vec<QueueKey>,
}

/// Whether a queue accepted a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Taken {
    Yes,
    Refused,
}

// Flags of the properties that are set.
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const EXPIRATION: u16 = 1 << 8;
const USER_ID: u16 = 1 << 4;
const REPLY_TO: u16 = 1 << 9;

impl Engine {
    pub(in crate::engine) fn publish(&mut self, at: At, content: Content) -> Result<(), Refusal> {
        let arguments = content.arguments();
        if arguments.immediate {
            return Err(Refusal::not_implemented("immediate=true"));
        }
        let properties = content.properties();
        if properties.flags() & (DELIVERY_MODE | EXPIRATION | USER_ID) != 0 {
            self.check_properties(at, &properties)?;
        }
        if self.shortage != 0 {
            self.note_publisher(at.session, content.body().len());
        }
        let topology = self.topology;
        let Some(session) = self.sessions.get_mut(at.session).invariant("connection") else { return Ok(()) };
        let Some(channel) = session.channel_mut(at.channel).invariant("channel") else { return Ok(()) };
        let mut route = std::mem::take(&mut channel.known_route);
        let is_known =
            route.is_of(topology, arguments.exchange, arguments.routing_key) && properties.flags() & HEADERS == 0;
        if !is_known && let Some(progress) = self.route(at, &arguments, &properties, &mut route)? {
            let queues = std::mem::take(&mut route.queues);
            self.work.leave(Task::Route(Box::new(Unrouted { at, content, progress, queues })));
            return Ok(());
        }
        let meter = self.meter_of(at.vhost);
        self.scratch.meter = meter;
        let last = self.sessions.get_mut(at.session).map(|session| &mut session.block);
        let body = Payload::received(&content, last.unwrap_or(&mut None), meter);
        let result = self.publish_to(at, &arguments, properties, body, &route.queues);
        if let Some(channel) = self.channel_mut(at) {
            if !is_known && let Some(charge) = &mut channel.charge {
                charge.set(Channel::SIZE + route.size());
            }
            channel.known_route = route;
        }
        result
    }

    fn publish_to(
        &mut self,
        at: At,
        arguments: &Arguments<'_>,
        properties: Properties<&[u8]>,
        body: Payload<'_>,
        queues: &[QueueKey],
    ) -> Result<(), Refusal> {
        let properties = match properties.flags() & (HEADERS | REPLY_TO) {
            0 => properties.into(),
            _ => self.name_reply(at, properties)?,
        };
        let sorted = (properties.flags() & HEADERS != 0 && self.config.profile.sorts_headers())
            .then(|| sort_headers(&properties.as_ref_properties()))
            .flatten();
        let properties = sorted.as_ref().map_or(properties.as_ref_properties(), Properties::as_ref_properties);
        if arguments.exchange.is_empty() && arguments.routing_key.starts_with(b"amq.rabbitmq.reply-to.") {
            let message = self.new_message(arguments, properties, body.clone());
            self.deliver_reply(&message);
        }
        let is_pending = self.channel_mut(at).is_some_and(|channel| channel.pending.is_some());
        if queues.is_empty() && !arguments.mandatory && !is_pending {
            self.note_publish(at, Taken::Yes, false);
            return Ok(());
        }
        let message = self.new_message(arguments, properties, body);
        if !is_pending {
            self.pass_to_queues(at, &message, arguments.mandatory, queues);
            return Ok(());
        }
        let queues = self.targets(queues);
        self.add_uncommitted(at, Publish::new(message, arguments.mandatory, queues, self.scratch.meter))
    }

    fn new_message(&mut self, arguments: &Arguments<'_>, properties: Properties<&[u8]>, body: Payload<'_>) -> Message {
        Message::new(&mut self.scratch, arguments.exchange, arguments.routing_key, properties, body)
    }

    /// Passes a message to its queues, or back to its publisher if there are none.
    pub(in crate::engine) fn pass_to_queues(
        &mut self,
        at: At,
        message: &Message,
        mandatory: bool,
        queues: &[QueueKey],
    ) {
        let mut taken = Taken::Yes;
        if mandatory && !self.is_routed(message, queues) {
            self.return_unroutable(at, message);
        }
        if queues.len() > MANY {
            let queues = queues.to_vec().into();
            let spread = Spread { at, message: message.clone(), queues, taken, stored: false };
            return self.work.leave(Task::Spread(spread));
        }
        let facts = if queues.is_empty() { Facts::default() } else { message.facts() };
        for queue in queues {
            if self.enqueue(*queue, message, facts) == Taken::Refused {
                taken = Taken::Refused;
            }
        }
        let stored = self.store_message(message, facts.priority);
        self.note_publish(at, taken, stored);
    }

    /// Passes a message to some more of its queues. It is stored once for those of each turn. Returns the rest.
    pub(in crate::engine) fn spread_some(&mut self, mut spread: Spread) -> Option<Task> {
        let facts = spread.message.facts();
        while let Some(queue) = spread.queues.pop_front() {
            if self.queues.contains_key(queue) && self.enqueue(queue, &spread.message, facts) == Taken::Refused {
                spread.taken = Taken::Refused;
            }
            if self.work.is_spent() {
                break;
            }
        }
        spread.stored |= self.store_message(&spread.message, facts.priority);
        if !spread.queues.is_empty() {
            return Some(Task::Spread(spread));
        }
        self.note_publish(spread.at, spread.taken, spread.stored);
        None
    }

    /// Whether a mandatory message counts as routed. One that is delayed does not: RabbitMQ's plugin can't know whether
    /// it will be.
    fn is_routed(&self, message: &Message, queues: &[QueueKey]) -> bool {
        let is_delayed = |id: &QueueKey| self.queues.get(*id).is_some_and(|queue| queue.delays.is_some());
        if !queues.is_empty() {
            return !queues.iter().all(is_delayed);
        }
        self.config.profile.drops_late_replies()
            && message.exchange().is_empty()
            && Self::may_have_taken_replies(message.routing_key())
    }

    /// Counts a publish that must be confirmed.
    fn note_publish(&mut self, at: At, taken: Taken, stored: bool) {
        let Some(session) = self.sessions.get_mut(at.session).invariant("connection") else { return };
        let Some(confirms) = session.channel_mut(at.channel).and_then(|channel| channel.confirms.as_mut()) else {
            return;
        };
        confirms.published += 1;
        if stored {
            confirms.stored = confirms.published;
        }
        if taken == Taken::Refused {
            confirms.refused.push_back(confirms.published);
        }
        if !std::mem::replace(&mut confirms.noted, true) {
            session.confirming.push(at.channel);
        }
    }

    /// Confirms the publishes since the last call, or notes which sync they wait for.
    pub(in crate::engine) fn confirm(&mut self, id: SessionKey, number: u16) {
        let end = self.unsynced_end();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(confirms) = session.channel_mut(number).and_then(|channel| channel.confirms.as_mut()) else { return };
        confirms.noted = false;
        let last = confirms.published;
        // Confirms keep the order of the publishes: unstored messages wait behind stored ones.
        match (confirms.waiting.back_mut(), end) {
            (Some((tag, known)), Some(end)) if *known == end || confirms.stored <= *tag => *tag = last,
            (_, Some(end)) if confirms.stored > confirms.confirmed => {
                confirms.waiting.push_back((last, end));
                self.note_waiting(id);
            }
            _ => self.confirm_up_to(id, number, last),
        }
    }

    /// Confirms or refuses all publishes up to a tag.
    pub(in crate::engine) fn confirm_up_to(&mut self, id: SessionKey, number: u16, last: u64) {
        if self.faults.withhold_confirms() {
            return;
        }
        let refuse_all = self.faults.refuse_confirms();
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let confirms = session.channel_mut(number).and_then(|channel| channel.confirms.as_mut());
        let Some(confirms) = confirms.invariant("channel in confirm mode") else { return };
        let mut first = std::mem::replace(&mut confirms.confirmed, last) + 1;
        let count = confirms.refused.iter().take_while(|tag| **tag <= last).count();
        let mut refused: Vec<u64> = confirms.refused.drain(..count).collect();
        if refuse_all {
            refused = (first..=last).collect();
        }
        for tag in refused {
            self.send_ack(id, number, first, tag - 1);
            self.send(id, number, &basic::Nack { delivery_tag: tag, multiple: false, requeue: false });
            first = tag + 1;
        }
        self.send_ack(id, number, first, last);
    }

    fn send_ack(&mut self, id: SessionKey, number: u16, first: u64, last: u64) {
        if first <= last {
            self.send(id, number, &basic::Ack { delivery_tag: last, multiple: last > first });
        }
    }

    /// Returns an unroutable message to its publisher.
    fn return_unroutable(&mut self, at: At, message: &Message) {
        let Some(session) = self.sessions.get_mut(at.session).invariant("connection") else { return };
        let arguments = Arguments {
            reply_code: code::NO_ROUTE,
            reply_text: b"NO_ROUTE",
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            ..Arguments::default()
        };
        let shown = message.shown();
        let body = message.body();
        let properties = shown.as_ref().map_or(message.properties(), Properties::as_ref_properties);
        let _ = session.proto.answer_message(at.channel, ContentKind::Return, &arguments, properties, body);
        Self::wake(&mut self.woken, at.session, session);
    }

    fn check_properties(&self, at: At, properties: &Properties<&[u8]>) -> Result<(), Refusal> {
        if let Some(mode @ (0 | 3..)) = properties.delivery_mode()
            && self.config.profile.checks_delivery_mode()
        {
            return Err(Refusal::precondition(format_args!("invalid message: {{delivery_mode_unknown,{mode}}}")));
        }
        if properties.flags() & (EXPIRATION | USER_ID) == 0 {
            return Ok(());
        }
        if let Some(expiration) = properties.expiration()
            && let Some(why) = expiration_error(expiration)
        {
            return Err(Refusal::precondition(format_args!("invalid expiration '{expiration}': {why}")));
        }
        let user = self.sessions.get(at.session).and_then(|session| session.user.as_ref());
        if let (Some(claimed), Some(user)) = (properties.user_id(), user)
            && *claimed != *user.name
            && !user.impersonator
        {
            return Err(Refusal::precondition(format_args!(
                "user_id property set to '{claimed}' but authenticated user was '{}'",
                user.name
            )));
        }
        Ok(())
    }

    /// Finds some more of the queues of a message, and passes it on once they are found. Returns the rest. Without its
    /// connection the message is dropped: the client can't know that it has arrived.
    pub(in crate::engine) fn route_some(&mut self, mut unrouted: Box<Unrouted>) -> Option<Task> {
        let Unrouted { at, content, progress, queues } = &mut *unrouted;
        let at = *at;
        self.channel_mut(at)?;
        let (arguments, properties) = (content.arguments(), content.properties());
        // They were checked when the route began.
        let copies = copies(&properties.headers().unwrap_or_default()).unwrap_or_default();
        let keys: Vec<&[u8]> = std::iter::once(arguments.routing_key).chain(copies).collect();
        if self.follow(at.vhost, progress, &keys, &properties, queues, self.routing_left()).is_none() {
            return Some(Task::Route(unrouted));
        }
        queues.retain(|queue| self.queues.contains_key(*queue));
        self.sort_by_name(queues);
        let meter = self.meter_of(at.vhost);
        self.scratch.meter = meter;
        let last = self.sessions.get_mut(at.session).map(|session| &mut session.block);
        let body = Payload::received(content, last.unwrap_or(&mut None), meter);
        let result = self.publish_to(at, &arguments, properties, body, queues);
        self.refused(at.session, at.channel, MethodId::BASIC_PUBLISH, result);
        None
    }

    /// Finds the queues of a message, or returns what is left of its route.
    fn route(
        &mut self,
        at: At,
        arguments: &Arguments<'_>,
        properties: &Properties<&[u8]>,
        route: &mut KnownRoute,
    ) -> Result<Option<Progress>, Refusal> {
        route.topology = 0;
        route.queues.clear();
        let name = String::from_utf8_lossy(arguments.exchange);
        self.check(at, Permission::Write, Resource::Exchange(&name))?;
        let headers = properties.headers().unwrap_or_default();
        let copies = copies(&headers)?;
        let keys: Vec<&[u8]> = std::iter::once(arguments.routing_key).chain(copies.iter().copied()).collect();
        let mut depends_on_more = !copies.is_empty();
        if name.is_empty() {
            let vhost = self.vhosts.get(at.vhost);
            let named = |key: &&[u8]| {
                let key = std::str::from_utf8(key).ok()?;
                vhost?.queues.get(key).copied()
            };
            route.queues.extend(keys.iter().filter_map(named));
        } else {
            let source = self.find_exchange(at.vhost, &name)?;
            if self.exchanges.get(source).is_some_and(|exchange| exchange.spec.internal) {
                return Err(Refusal::access(format_args!(
                    "cannot publish to internal exchange '{name}' in vhost '{}'",
                    self.vhost_name(at.vhost)
                )));
            }
            let key = String::from_utf8_lossy(arguments.routing_key);
            self.check_topic(at, Permission::Write, source, &key)?;
            let mut progress = Progress::new(source);
            let most = self.routing_left();
            match self.follow(at.vhost, &mut progress, &keys, properties, &mut route.queues, most) {
                Some(depends_on) => depends_on_more |= depends_on == DependsOn::More,
                None => return Ok(Some(progress)),
            }
        }
        self.sort_by_name(&mut route.queues);
        if !depends_on_more {
            route.topology = self.topology;
            route.exchange.clear();
            route.exchange.extend_from_slice(arguments.exchange);
            route.key.clear();
            route.key.extend_from_slice(arguments.routing_key);
        }
        Ok(None)
    }

    /// Passes a message to a queue.
    pub(in crate::engine) fn enqueue(&mut self, id: QueueKey, message: &Message, facts: Facts) -> Taken {
        let now = self.now;
        self.work.count(1);
        let Some(queue) = self.queues.get_mut(id).invariant("queue").filter(|queue| !queue.is_deleted) else {
            return Taken::Yes;
        };
        if queue.delays.is_some() {
            self.delay_message(id, message, facts);
            return Taken::Yes;
        }
        let settings = &queue.settings;
        if settings.overflow != Overflow::DropHead && queue.is_full_for(message.body_size()) {
            if settings.overflow == Overflow::RejectToDeadLetters {
                self.dead_letter_refused(id, message);
            }
            return Taken::Refused;
        }
        let expiration = facts.expiration.map(Duration::from_millis);
        let time_to_live = settings.ttl.into_iter().chain(expiration).min();
        let position = queue.next_position;
        let expires = time_to_live.map(|time| now + time);
        queue.next_position += 1;
        let keeper = queue.stored.filter(|_| facts.persistent);
        let stored = keeper.is_some() && self.note_target(keeper, position, expires);
        let Some(queue) = self.queues.get(id).invariant("queue") else { return Taken::Yes };
        // A message for an empty queue may be delivered at once.
        let content = match stored && !queue.ready.is_empty() && self.leaves_memory(queue) {
            true => Kept::Stored(message.to_stub()),
            false => Kept::Here(message.clone()),
        };
        let priority = facts.priority;
        let entry =
            Entry { position, content, expires, returned: 0, acquired: 0, priority, redelivered: false, stored };
        // A waiting consumer gets it even if its time to live is zero.
        if queue.ready.is_empty()
            && let Some(consumer) = self.next_consumer(id)
        {
            self.deliver(id, consumer, entry);
            return Taken::Yes;
        }
        let Some(queue) = self.queues.get_mut(id).invariant("queue") else { return Taken::Yes };
        queue.ready.push(entry);
        if stored {
            self.note_pageable(id);
        }
        self.drop_above_limit(id);
        if time_to_live.is_some() {
            self.set_queue_timer(id);
            self.expire_ready(id);
        }
        Taken::Yes
    }
}

/// Returns why a text is no time to live in milliseconds, in RabbitMQ's Erlang syntax.
fn expiration_error(expiration: &str) -> Option<String> {
    let digits = expiration.strip_prefix(['-', '+']).unwrap_or(expiration);
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return Some("no_integer".to_owned());
    }
    if !rest.is_empty() {
        return Some(format!("{{leftover_string,{rest:?}}}"));
    }
    let digits = digits.trim_start_matches('0');
    if expiration.starts_with('-') && !digits.is_empty() {
        return Some(format!("{{value_negative,-{digits}}}"));
    }
    (digits.len() > 12 || digits.parse::<i64>().is_ok_and(|time| time > LONGEST))
        .then(|| format!("{{value_too_large,{digits}}}"))
}
