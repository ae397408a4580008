//! The user's channels on a fresh link: opened by the numbers that they had, set up as they were, with their
//! unconfirmed publishes, their consumers, and the requests that waited.

use hopmq_proto::Time;
use hopmq_proto::method::basic;

use super::journal::Kept;
use super::outage::Recovering;
use crate::Result;
use crate::recovery::replay::{REPLAY, Stage};
use crate::state::{ConsumerState, Modes, RequestKind, State, transmit};

impl State {
    /// Opens the channels, and starts the consumers on them.
    pub(crate) fn start_all(&mut self, now: Time) -> Result<()> {
        let Some(replay) = &mut self.recovery.replay else { return Ok(()) };
        replay.stage = Stage::Starting;
        replay.channel = 0;
        if self.up {
            for number in 1..self.channels.len() as u16 {
                self.start_consumers(number, None);
            }
            return self.tick_replay(now);
        }
        for number in 1..self.channels.len() as u16 {
            self.restore_channel(number, None);
        }
        self.up = true;
        self.nudge = true;
        self.resend();
        self.tick_replay(now)
    }

    /// Opens one channel as it was. `except` is a consumer to be left out.
    pub(crate) fn restore_channel(&mut self, number: u16, except: Option<u64>) {
        if !matches!(self.channels.get(usize::from(number)), Some(Some(_))) {
            return;
        }
        let is_it = |kind: RequestKind| kind == RequestKind::OpenChannel;
        let mut asked = self.requests.iter_mut().filter(|(_, request)| request.channel == number && !request.answered);
        let request = asked.find(|(_, request)| is_it(request.kind)).map(|(key, request)| {
            request.sent = true;
            key
        });
        drop(asked);
        if let Err(error) = self.proto.open_channel(number, request.unwrap_or(REPLAY)) {
            self.end_channel(number, &error.into());
            return;
        }
        if let (None, Some(replay)) = (request, &mut self.recovery.replay) {
            replay.opening.push(number);
            replay.done.channels += 1;
        }
        self.send_modes(number);
        self.publish_again(number);
        self.start_consumers(number, except);
    }

    /// Sets up a channel that was just opened as its handles know it.
    pub(crate) fn send_modes(&mut self, number: u16) {
        let Some(Some(channel)) = self.channels.get(usize::from(number)) else { return };
        let Modes { prefetch, confirming, transactional } = channel.modes();
        // The channel is open, and what is sent here was sent before.
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

    /// Publishes again what is not confirmed.
    fn publish_again(&mut self, number: u16) {
        let State { channels, proto, recovery, .. } = self;
        let Some(Some(channel)) = channels.get_mut(usize::from(number)) else { return };
        let Recovering { policy, replay, ledger, .. } = recovery;
        let published = channel.confirms.publish_again(|Kept { mut route, properties, body }| {
            // The default exchange goes by the queue's name, which may be another one now.
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
        match published {
            Ok(count) => replay.iter_mut().for_each(|replay| replay.done.publishes += count),
            Err(error) => self.end_channel(number, &error),
        }
    }

    /// Starts the consumers of a channel that are missing, and whose queues are there.
    fn start_consumers(&mut self, number: u16, except: Option<u64>) {
        let asked = self.requests.iter_mut().filter_map(|(key, request)| match request.kind {
            RequestKind::Consume(consumer) if !request.answered && !request.sent => Some((consumer, key)),
            _ => None,
        });
        let mut asked: Vec<(u64, u64)> = asked.collect();
        asked.sort_unstable();
        let Recovering { ledger, replay, .. } = &self.recovery;
        let is_there = |queue: &str| match ledger.queue(queue) {
            Some(entry) if ledger.declares(queue) => !entry.missing,
            _ => replay.as_ref().is_none_or(|replay| replay.found(queue)),
        };
        let ready = |(key, consumer): (u64, &mut ConsumerState)| {
            let start = &consumer.start;
            let waits = consumer.channel == number && start.missing && consumer.end.is_none() && Some(key) != except;
            (waits && (!start.granted || is_there(&start.queue))).then_some((start.order, key))
        };
        let mut ready: Vec<(u64, u64)> = self.consumers.iter_mut().filter_map(ready).collect();
        ready.sort_unstable();
        for (_, key) in ready {
            let request = asked.binary_search_by_key(&key, |(consumer, _)| *consumer).ok().map(|place| asked[place].1);
            if let Err(error) = self.send_consume(key, request.unwrap_or(REPLAY)) {
                self.end_lost_consumer(key, &error);
                continue;
            }
            if let Some(consumer) = self.consumers.get_mut(key) {
                consumer.start.missing = false;
            }
            match request.and_then(|request| self.requests.get_mut(request)) {
                Some(request) => request.sent = true,
                None => self.recovery.replay.iter_mut().for_each(|replay| replay.starting.push((number, key))),
            }
        }
    }

    /// Makes the requests that waited for a link, in their order.
    pub(crate) fn resend(&mut self) {
        let waiting = self.requests.iter_mut().filter(|(_, request)| !request.sent && !request.answered);
        let mut waiting: Vec<(u64, u64)> = waiting.map(|(key, request)| (request.order, key)).collect();
        waiting.sort_unstable();
        for (_, key) in waiting {
            let Some(request) = self.requests.get_mut(key) else { continue };
            let (channel, kind) = (request.channel, request.kind);
            if matches!(kind, RequestKind::Room | RequestKind::Confirm) || request.payload.is_empty() {
                continue;
            }
            request.sent = true;
            let payload = request.payload.clone();
            if let Err(error) = transmit(&mut self.proto, channel, kind, &payload, key) {
                self.settle_request(key, Err(error));
            }
        }
    }
}
