//! Restores the channels, consumers and requests of a lost link on a new one.
//!
//! Channels keep their numbers and settings; their unconfirmed publishes are published again, and their consumers
//! started.

use hopmq_proto::method::basic;

use super::State;
use super::channels::Modes;
use super::consumers::{ConsumerEnd, ConsumerState};
use super::journal::Kept;
use super::keys::{self, ConsumerKey};
use super::lifecycle::LinkState;
use super::requests::{REPLAY, Request, RequestKind, transmit};
use crate::error::{Error, ErrorKind};
use crate::policy::{Entity, Recovery};
use hopmq_proto::SortedSet;

/// What was sent to restore a channel.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The channel is being opened, and no request waits for it.
    pub(crate) opening: bool,
    /// Consumers that are being started and that no request waits for.
    pub(crate) starting: Vec<ConsumerKey>,
    /// The number of publishes that were published again.
    pub(crate) publishes: usize,
}

impl State {
    /// Notes that everything is restored on the link: requests are sent at once.
    pub(crate) fn link_up(&mut self) {
        self.lifecycle.set_link(LinkState::Up);
        self.driver.request();
    }

    /// Opens a channel with its settings and consumers, except for the consumer `except`. `found` says whether a queue
    /// that another program declares exists.
    pub(crate) fn restore_channel(
        &mut self,
        number: u16,
        except: Option<ConsumerKey>,
        policy: &Recovery,
        found: &dyn Fn(&str) -> bool,
    ) -> Restored {
        let mut restored = Restored::default();
        if !self.channels.is_open(number) {
            return restored;
        }
        let request = self.channels.get(number).map(|channel| channel.request);
        let request = request.filter(|key| match self.requests.get_mut(*key).filter(|request| !request.answered) {
            Some(request) => {
                request.sent = true;
                true
            }
            None => false,
        });
        if let Err(error) = self.proto.open_channel(number, request.map_or(REPLAY, keys::number)) {
            self.end_channel(number, &error.into());
            return restored;
        }
        restored.opening = request.is_none();
        self.send_modes(number);
        restored.publishes = self.republish(number, policy);
        restored.starting = self.start_missing_consumers(number, except, found);
        restored
    }

    /// Sets up a channel that was just opened as its handles know it.
    pub(super) fn send_modes(&mut self, number: u16) {
        let Some(channel) = self.channels.get(number) else { return };
        let Modes { prefetch, confirming, transactional } = channel.modes();
        // None of these calls can fail: the channel is open, and the same methods were sent before.
        if transactional {
            let _ = self.proto.tx_select(number, None);
        } else if confirming {
            let _ = self.proto.confirm_select(number);
        }
        for (prefetch_count, global) in [(prefetch.each, false), (prefetch.shared, true)] {
            if let Some(prefetch_count) = prefetch_count {
                let _ = self.proto.request(number, &basic::Qos { prefetch_count, global }, None);
            }
        }
    }

    /// Publishes the unconfirmed publishes of a channel again. Returns their number.
    fn republish(&mut self, number: u16, policy: &Recovery) -> usize {
        let Self { channels, proto, ledger, .. } = self;
        let Some(channel) = channels.get_mut(number) else { return 0 };
        let published = channel.confirms.republish(|Kept { mut route, properties, body }| {
            // The default exchange routes by the queue's name, which may have changed.
            let name = if route.exchange.is_empty() { ledger.name(route.routing_key) } else { None };
            if let Some(name) = &name {
                route.routing_key = name.text();
            }
            match &policy.mark {
                Some(header) => {
                    let properties = properties.to_owned_properties().with_header(header, true);
                    proto.publish(number, route, properties.as_ref_properties(), body)?;
                }
                None => drop(proto.publish(number, route, properties, body)?),
            }
            Ok(())
        });
        published.unwrap_or_else(|error| {
            self.end_channel(number, &error);
            0
        })
    }

    /// Starts the missing consumers of a channel whose queues exist. Returns the consumers that no request waits for.
    pub(crate) fn start_missing_consumers(
        &mut self,
        number: u16,
        except: Option<ConsumerKey>,
        found: &dyn Fn(&str) -> bool,
    ) -> Vec<ConsumerKey> {
        let ledger = &self.ledger;
        let is_there = |queue: &str| if ledger.declares(queue) { !ledger.lacks_queue(queue) } else { found(queue) };
        let is_ready = |key: ConsumerKey, consumer: &ConsumerState| {
            let start = &consumer.start;
            let waits = consumer.channel == number && start.missing && !consumer.has_ended() && Some(key) != except;
            let may_be_there = !start.granted && self.awaited.reason(&start.queue).is_none();
            waits && (may_be_there || is_there(&start.queue))
        };
        let all = self.consumers.of_channel(number).into_iter();
        let ready = all.filter_map(|key| Some((key, self.consumers.get(key)?)));
        let ready = ready.filter(|(key, consumer)| is_ready(*key, consumer));
        let ready: SortedSet<_> = ready.map(|(key, consumer)| (consumer.start.order, keys::number(key))).collect();
        let mut starting = Vec::new();
        for &(_, number) in ready.iter() {
            let key = keys::of_number(number);
            let request = self.consumers.get(key).and_then(|consumer| consumer.request);
            let waits = |request: &Request| !request.answered && !request.sent;
            let request = request.filter(|request| self.requests.get(*request).is_some_and(waits));
            if let Err(error) = self.send_consume(key, request.map_or(REPLAY, keys::number)) {
                self.end_lost_consumer(key, &error);
                continue;
            }
            if let Some(consumer) = self.consumers.get_mut(key) {
                consumer.start.missing = false;
            }
            match request.and_then(|request| self.requests.get_mut(request)) {
                Some(request) => request.sent = true,
                None => starting.push(key),
            }
        }
        starting
    }

    /// Sends the requests that waited for a link, in their order.
    pub(crate) fn resend_requests(&mut self) {
        let waiting = self.requests.iter().filter(|(_, request)| !request.sent && !request.answered);
        let waiting: SortedSet<_> = waiting.map(|(key, request)| (request.order, keys::number(key))).collect();
        for &(_, number) in waiting.iter() {
            let key = keys::of_number(number);
            let Some(request) = self.requests.get_mut(key) else { continue };
            if matches!(request.kind, RequestKind::Room | RequestKind::Alarm) || request.payload.is_empty() {
                continue;
            }
            let (channel, payload) = (request.channel, std::mem::take(&mut request.payload));
            let waits = self.awaits(channel, &payload).is_some();
            let Some(request) = self.requests.get_mut(key) else { continue };
            request.payload = payload;
            if waits {
                continue;
            }
            request.sent = true;
            if let Some(payload) = self.ledger.renamed(&request.payload) {
                request.payload = payload;
            }
            if let Err(error) = transmit(&mut self.proto, request.channel, request.kind, &request.payload, number) {
                self.settle_request(key, Err(error));
            }
        }
    }

    /// Ends the consumers that the filter of `policy` excludes.
    pub(crate) fn end_unwanted_consumers(&mut self, policy: &Recovery) {
        let unwanted = self.consumers.keys(|consumer| {
            let entity = Entity::Consumer { tag: &consumer.tag, queue: &consumer.start.queue };
            consumer.start.missing && consumer.start.granted && !policy.wants(&entity)
        });
        for key in unwanted {
            let text = "the link was lost, and the filter of `Recovery` leaves the consumer alone";
            self.end_consumer(key, ConsumerEnd::Failed(Error::new(ErrorKind::ConsumerCancelled, text)));
        }
    }

    /// Returns the consumers that are not on the present link, with their descriptions and queues.
    pub(crate) fn missing_consumers(&self) -> Vec<(ConsumerKey, String, String)> {
        let missing = self.consumers.iter().filter(|(_, consumer)| consumer.waits_for_restart());
        let described = missing.map(|(key, consumer)| {
            let entity = Entity::Consumer { tag: &consumer.tag, queue: &consumer.start.queue };
            (key, entity.to_string(), consumer.start.queue.clone())
        });
        described.collect()
    }

    /// Whether a consumer is not on the present link; `None` if it has ended.
    pub(crate) fn is_consumer_missing(&self, consumer: ConsumerKey) -> Option<bool> {
        let consumer = self.consumers.get(consumer).filter(|consumer| !consumer.has_ended())?;
        Some(consumer.start.missing)
    }

    /// Returns the queues that missing consumers need, without duplicates.
    pub(crate) fn queues_of_missing_consumers(&self) -> SortedSet<String> {
        let needs = |consumer: &ConsumerState| consumer.waits_for_restart().then(|| consumer.start.queue.clone());
        self.consumers.iter().filter_map(|(_, consumer)| needs(consumer)).collect()
    }

    /// Ends the missing consumers of a queue that can't be restored.
    pub(crate) fn end_consumers_of(&mut self, queue: &str, error: &Error) {
        for key in self.consumers.of_queue(queue) {
            if self.consumers.get(key).is_some_and(|consumer| consumer.start.missing) {
                self.end_lost_consumer(key, error);
            }
        }
    }

    /// Whether a consumer has this tag, if it is still known.
    pub(crate) fn may_have_tag(&self, consumer: ConsumerKey, tag: &str) -> bool {
        self.consumers.get(consumer).is_none_or(|consumer| *consumer.tag == *tag)
    }

    /// Counts an attempt to start a consumer that failed. Returns the number of attempts on this link, and a
    /// description of the consumer.
    pub(crate) fn consumer_not_started(&mut self, consumer: ConsumerKey) -> Option<(u32, String)> {
        let consumer = self.consumers.get_mut(consumer)?;
        consumer.start.tried += 1;
        let entity = Entity::Consumer { tag: &consumer.tag, queue: &consumer.start.queue };
        Some((consumer.start.tried, entity.to_string()))
    }
}
