//! What happens to everybody who waits when the link is lost.
//!
//! Requests that may be made twice wait for the next link, deliveries that were not taken are dropped because the
//! broker sends them again, and publishes without a confirm end, for nobody knows whether the broker has them.

use std::time::Duration;

use hopmq_proto::method::MethodId;
use hopmq_proto::{HandshakeStage, Time};
use tracing::warn;

use super::ledger::Ledger;
use super::message_ids::MessageIds;
use crate::handles::channel::transaction_lost;
use crate::policy::{OnFailure, Recovery, WhileLost};
use crate::recovery::replay::Replay;
use crate::state::events::Event;
use crate::state::{ConsumerEnd, Queued, Reply, RequestKind, State, Transaction};
use crate::{Error, ErrorKind, Result};

/// What a connection keeps to come back.
#[derive(Debug)]
pub(crate) struct Recovering {
    pub(crate) policy: Recovery,
    pub(crate) ledger: Ledger,
    /// Names for messages that have none, if they are to have one.
    pub(crate) ids: Option<MessageIds>,
    pub(crate) replay: Option<Replay>,
    /// The host of the present link, or of the latest attempt.
    pub(crate) host: String,
    /// There was a link.
    pub(crate) established: bool,
    /// By when the handshake must be done, and how long it may take.
    pub(crate) handshake: Option<(Time, Duration)>,
    /// Since when the present link works: it is open, and all is on it that was on the one before.
    pub(crate) works: Option<Time>,
    /// Since when the link is lost.
    pub(crate) lost: Option<Time>,
    /// The connection ends with the present error.
    pub(crate) is_final: bool,
    /// What the broker closed the connection for, if that was something that we sent.
    pub(crate) culprit: Option<(MethodId, Error)>,
    /// The highest number of channels, as it was agreed last.
    pub(crate) channel_max: u16,
    /// Counts requests.
    pub(crate) order: u64,
}

impl Recovering {
    pub(crate) fn new(policy: Recovery) -> Self {
        Self {
            ids: policy.ids.map(MessageIds::new),
            policy,
            ledger: Ledger::default(),
            replay: None,
            host: String::new(),
            established: false,
            handshake: None,
            works: None,
            lost: None,
            is_final: false,
            culprit: None,
            channel_max: 0,
            order: 0,
        }
    }

    /// How often something that is refused is tried again.
    pub(crate) fn attempts_of_each(&self) -> u32 {
        if let OnFailure::Retry { attempts, .. } = self.policy.on_failure { attempts } else { 0 }
    }

    /// When something is due on the link.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let handshake = self.handshake.map(|(deadline, _)| deadline);
        handshake.into_iter().chain(self.replay.as_ref().and_then(Replay::deadline)).min()
    }

    /// The broker's reason, if the connection was closed for such a request.
    fn accuse(&self, kind: RequestKind, method: MethodId) -> Option<Error> {
        let (culprit, error) = self.culprit.as_ref()?;
        let method = if let RequestKind::Consume(_) = kind { MethodId::BASIC_CONSUME } else { method };
        (*culprit == method || !culprit.is_known()).then(|| error.clone())
    }

    /// Whether a publish may wait for room.
    #[cold]
    pub(crate) fn may_wait(&self, up: bool) -> Result<()> {
        if up || self.policy.publishing == WhileLost::Wait {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Recovering, "there is no link to the broker at the moment: the message was not sent"))
    }
}

impl State {
    /// The link is gone, and another one will be made: everybody who can waits for it.
    pub(crate) fn suspend(&mut self, error: &Error, now: Time) {
        self.up = false;
        self.opened = false;
        self.full = false;
        self.stalled = true;
        self.gather = 0;
        self.condemn();
        self.recovery.replay = None;
        self.recovery.handshake = None;
        self.recovery.works = None;
        if self.recovery.lost.is_none() {
            warn!(%error, "the link to the broker is lost");
            self.recovery.lost = Some(now);
            self.tell(&Event::Lost { error: error.clone() });
        }
        if let Some(blocked) = self.blocked.take() {
            self.stats.blocked += now - blocked.since;
            self.unblocked = now;
            self.tell(&Event::Unblocked);
        }
        self.recovery.ledger.lose();
        self.suspend_channels(error);
        self.suspend_requests(None, error);
        self.recovery.culprit = None;
        for (_, consumer) in self.consumers.iter_mut() {
            consumer.start.tried = 0;
        }
    }

    fn suspend_channels(&mut self, error: &Error) {
        for number in 0..self.channels.len() as u16 {
            let (confirming, transactional) = (self.proto.is_confirming(number), self.proto.is_transactional(number));
            let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else { continue };
            channel.confirming |= confirming;
            if transactional {
                channel.transaction = Transaction::Lost;
            }
            self.lose_channel(number, error);
        }
    }

    /// A channel is gone from the link, and will be opened again.
    pub(crate) fn lose_channel(&mut self, number: u16, error: &Error) {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else { return };
        channel.end.next_epoch();
        // What the broker closed the connection for is not sent to it again.
        let culprit = self.recovery.culprit.as_ref().filter(|(method, _)| *method == MethodId::BASIC_PUBLISH);
        if culprit.is_some() || channel.confirms.journal.is_none() {
            let unknown = unknown("the broker had not confirmed the message", error);
            self.kept -= channel.confirms.kept();
            self.unconfirmed -= channel.confirms.lose(&unknown, &mut self.wakes);
        }
        let mut gone = Vec::new();
        for (key, consumer) in self.consumers.iter_mut().filter(|(_, consumer)| consumer.channel == number) {
            if consumer.dropped {
                gone.push(key);
            } else if consumer.end.is_none() {
                consumer.start.missing = true;
                if !consumer.no_ack {
                    // The broker sends them again.
                    consumer.stock.set(0);
                    let queue = std::mem::take(&mut consumer.queue);
                    self.buffered = self.buffered.saturating_sub(queue.iter().map(Queued::cost).sum());
                }
            }
        }
        for key in gone {
            self.end_consumer(key, ConsumerEnd::Cancelled);
        }
    }

    /// Requests of one channel, or all, wait for another link, or end where they may not be made twice.
    pub(crate) fn suspend_requests(&mut self, only: Option<u16>, error: &Error) {
        let concerns = |channel: u16| only.is_none_or(|only| only == channel);
        let waiting = self.requests.iter_mut().filter(|(_, request)| !request.answered && concerns(request.channel));
        let mut waiting: Vec<_> = waiting.map(|(key, request)| (request.order, key)).collect();
        waiting.sort_unstable();
        for (_, key) in waiting {
            let Some(request) = self.requests.get_mut(key) else { continue };
            let (channel, kind, sent) = (request.channel, request.kind, request.sent);
            let (late, abandoned) = (request.outcome.is_some(), request.abandoned);
            let method = MethodId::peek(&request.payload).unwrap_or_default();
            match kind {
                RequestKind::Room | RequestKind::Confirm => continue,
                _ if late => request.answered = true,
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
                    self.settle_request(key, Ok(Reply::Room));
                }
                _ if !sent => {}
                _ if self.recovery.accuse(kind, method).is_some() => {
                    let reason = self.recovery.accuse(kind, method).unwrap_or_else(|| error.clone());
                    self.settle_request(key, Err(reason));
                    match kind {
                        RequestKind::Consume(consumer) => drop(self.consumers.remove(consumer)),
                        RequestKind::OpenChannel => self.end_channel(channel, error),
                        _ => {}
                    }
                }
                RequestKind::Get { no_ack: true } => {
                    self.settle_request(key, Err(unknown("a message without acknowledgement was asked for", error)));
                }
                RequestKind::Plain if method == MethodId::TX_COMMIT => {
                    self.settle_request(key, Err(transaction_lost()));
                    self.begin_transaction(channel);
                }
                RequestKind::Plain if method == MethodId::TX_ROLLBACK => {
                    self.settle_request(key, Ok(Reply::Room));
                    self.begin_transaction(channel);
                }
                // It was to close a channel, which the link took with it.
                RequestKind::Plain if method == MethodId::default() => self.settle_request(key, Ok(Reply::Room)),
                RequestKind::Plain if channel == 0 => {
                    self.settle_request(key, Err(unknown("the broker had not answered", error)));
                }
                _ => request.sent = false,
            }
        }
    }

    /// The loss of a transaction has been told.
    fn begin_transaction(&mut self, channel: u16) {
        if let Some(Some(channel)) = self.channels.get_mut(usize::from(channel)) {
            channel.transaction = Transaction::Going;
        }
    }

    /// Ends a handshake that takes too long.
    pub(crate) fn check_handshake(&self, now: Time) -> Result<()> {
        let Some((_, time)) = self.recovery.handshake.filter(|(deadline, _)| *deadline <= now) else { return Ok(()) };
        let host = &self.recovery.host;
        let text = match self.proto.handshake_stage() {
            Some(HandshakeStage::Start) => {
                format!(
                    "{host} accepted the connection and sent no connection.start within {time:?}: is it an AMQP broker?"
                )
            }
            Some(stage) => format!("the handshake with {host} took longer than {time:?}: {stage} did not come"),
            None => format!("the handshake with {host} took longer than {time:?}"),
        };
        Err(Error::new(ErrorKind::Timeout, text))
    }

    /// A number for a channel that is not open.
    pub(crate) fn free_channel(&self) -> Option<u16> {
        if self.up {
            return self.proto.free_channel();
        }
        let taken = |number: &u16| self.channels.get(usize::from(*number)).is_some_and(Option::is_some);
        (1..=self.recovery.channel_max).find(|number| !taken(number))
    }

    /// The name of a queue, where an empty one stands for the queue that was declared last on the channel.
    pub(crate) fn queue_name(&self, channel: u16, name: &str) -> String {
        match self.channels.get(usize::from(channel)) {
            Some(Some(channel)) if name.is_empty() => channel.last_queue.clone(),
            _ => name.to_owned(),
        }
    }
}

/// What was under way when the link was lost.
fn unknown(what: &str, error: &Error) -> Error {
    let text = format!("{what} when the link to it was lost, and may have it done or not");
    Error::with_source(ErrorKind::OutcomeUnknown, text, error.clone())
}
