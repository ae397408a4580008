//! What happens to everything that waits when the link is lost.
//!
//! Requests that may be repeated wait for the next link. Deliveries that no consumer took are dropped, because the
//! broker delivers them again. Publishes without a copy in the journal end, because it is unknown whether the broker
//! has stored them.

use hopmq_proto::method::MethodId;
use hopmq_proto::{SortedSet, Time};

use super::State;
use super::channel_setup::transaction_lost;
use super::channels::Transaction;
use super::consumers::ConsumerEnd;
use super::events::Event;
use super::keys::{self, ConsumerKey, RequestKey};
use super::lifecycle::LinkState;
use super::requests::{Reply, RequestKind};
use crate::error::{Error, ErrorKind};

/// The method that the broker closed the connection for. It is not sent again.
#[derive(Debug)]
pub(crate) struct Offence {
    pub(crate) method: MethodId,
    pub(crate) error: Error,
}

impl Offence {
    /// Returns the broker's reason, if the connection was closed for such a request.
    fn by(&self, kind: RequestKind, method: MethodId) -> Option<Error> {
        let method = if let RequestKind::Consume(_) = kind { MethodId::BASIC_CONSUME } else { method };
        (self.method == method || !self.method.is_known()).then(|| self.error.clone())
    }
}

impl State {
    /// Handles the loss of the link with `error`: whatever can wait for the next link waits, the rest ends.
    pub(crate) fn lose_link(&mut self, error: &Error, offence: Option<&Offence>, now: Time) {
        self.lifecycle.set_link(LinkState::Connecting);
        self.consumers.set_paused(false);
        self.driver.set_stalled(true);
        self.backlog.set_gather(0);
        if let Some(blocked) = self.blocking.end(now) {
            self.stats.blocked += blocked;
            self.emit(&Event::Unblocked);
        }
        self.ledger.lose();
        self.lose_channels(error, offence);
        self.suspend_requests(None, error, offence);
        for (_, consumer) in self.consumers.iter_mut() {
            consumer.start.tried = 0;
        }
    }

    fn lose_channels(&mut self, error: &Error, offence: Option<&Offence>) {
        for number in self.channels.numbers() {
            let confirming = self.proto.is_confirming(number);
            let transactional = self.proto.is_transactional(number);
            let Some(channel) = self.channels.get_mut(number) else { continue };
            channel.confirming |= confirming;
            if transactional {
                channel.transaction = Transaction::Lost;
            }
            self.lose_channel(number, error, offence);
        }
    }

    /// Handles the loss of a channel, which will be opened again on a later link.
    pub(crate) fn lose_channel(&mut self, number: u16, error: &Error, offence: Option<&Offence>) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        channel.end.next_epoch();
        // A publish for which the broker closed the connection is not repeated.
        let is_publish = offence.is_some_and(|offence| offence.method == MethodId::BASIC_PUBLISH);
        if is_publish || !channel.confirms.republishes() {
            let unknown = unknown("the broker had not confirmed the message", error);
            self.outstanding.release(channel.confirms.kept());
            self.outstanding.remove(channel.confirms.lose(&unknown, &mut self.wakers));
        }
        for key in self.consumers.of_channel(number) {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            if consumer.dropped {
                self.end_consumer(key, ConsumerEnd::Cancelled);
                continue;
            }
            consumer.start.missing |= !consumer.has_ended();
            if !consumer.no_ack {
                // The broker redelivers these messages. A consumer that has ended must not yield them either: their
                // tags are those of other deliveries on the next link.
                consumer.stock.set(0);
                self.consumers.drain(key);
            }
        }
    }

    /// Lets the requests of one channel, or all requests, wait for the next link; ends those that must not be repeated.
    pub(crate) fn suspend_requests(&mut self, only: Option<u16>, error: &Error, offence: Option<&Offence>) {
        let concerns = |channel: u16| only.is_none_or(|only| only == channel);
        let waiting = self.requests.iter().filter(|(_, request)| !request.answered && concerns(request.channel));
        let waiting: SortedSet<_> = waiting.map(|(key, request)| (request.order, keys::number(key))).collect();
        for &(_, number) in waiting.iter() {
            self.suspend_request(keys::of_number(number), error, offence);
        }
    }

    fn suspend_request(&mut self, key: RequestKey, error: &Error, offence: Option<&Offence>) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let channel = request.channel;
        let kind = request.kind;
        let abandoned = request.abandoned;
        let method = MethodId::peek(&request.payload).unwrap_or_default();
        if matches!(kind, RequestKind::Room | RequestKind::Alarm) {
            return;
        }
        if request.outcome.is_some() {
            request.answered = true;
            return;
        }
        let sent = request.sent;
        match kind {
            RequestKind::OpenChannel if abandoned => {
                self.remove_request(key);
                self.end_channel(channel, error);
            }
            RequestKind::Consume(consumer) if abandoned => {
                self.remove_request(key);
                self.consumers.remove(consumer);
            }
            RequestKind::Get { .. } if abandoned => self.remove_request(key),
            RequestKind::Cancel(consumer) => {
                self.end_consumer(consumer, ConsumerEnd::Cancelled);
                self.settle_request(key, Ok(Reply::Done));
            }
            _ if sent => match offence.and_then(|offence| offence.by(kind, method)) {
                Some(reason) => self.refuse_request(key, reason, error),
                None => self.suspend_sent_request(key, method, error),
            },
            _ => {}
        }
    }

    /// Ends a request that the broker closed the connection for.
    fn refuse_request(&mut self, key: RequestKey, reason: Error, error: &Error) {
        let Some(request) = self.requests.get(key) else { return };
        let channel = request.channel;
        let kind = request.kind;
        self.settle_request(key, Err(reason));
        match kind {
            RequestKind::Consume(consumer) => self.consumers.remove(consumer),
            RequestKind::OpenChannel => self.end_channel(channel, error),
            _ => {}
        }
    }

    /// Has a request that was sent wait for another link, or ends it if it may not be made twice.
    fn suspend_sent_request(&mut self, key: RequestKey, method: MethodId, error: &Error) {
        let Some(request) = self.requests.get_mut(key) else { return };
        let channel = request.channel;
        match request.kind {
            RequestKind::Get { no_ack: true } => {
                self.settle_request(key, Err(unknown("a basic.get without acknowledgement was pending", error)));
            }
            RequestKind::Plain if method == MethodId::TX_COMMIT => {
                self.settle_request(key, Err(transaction_lost()));
                self.begin_transaction(channel);
            }
            RequestKind::Plain if method == MethodId::TX_ROLLBACK => {
                self.settle_request(key, Ok(Reply::Done));
                self.begin_transaction(channel);
            }
            // The close of a channel, which the link took with it.
            RequestKind::Plain if method == MethodId::default() => self.settle_request(key, Ok(Reply::Done)),
            RequestKind::Plain if channel == 0 => {
                self.settle_request(key, Err(unknown("the broker had not answered", error)));
            }
            _ => request.sent = false,
        }
    }

    /// Begins the next transaction, after the program got the error that its last one is lost.
    fn begin_transaction(&mut self, channel: u16) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.transaction = Transaction::Going;
        }
    }

    /// Ends a consumer that can't be started on the new link.
    pub(crate) fn end_lost_consumer(&mut self, key: ConsumerKey, error: &Error) {
        let text = format!("the link was lost, and the consumer could not be started again: {error}");
        let ended = error.wrapped(ErrorKind::ConsumerCancelled, text);
        self.end_consumer(key, ConsumerEnd::Failed(ended));
    }
}

/// Returns the error of something that was under way when the link was lost.
fn unknown(what: &str, error: &Error) -> Error {
    let text = format!("{what} when the link was lost: it may or may not have been done");
    Error::with_source(ErrorKind::OutcomeUnknown, text, error.clone())
}
