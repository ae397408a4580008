//! Dispatch of the protocol's events to the waiting futures.
//!
//! Dispatch runs under the lock of [`Shared`](super::Shared): it stores outcomes and deliveries for their futures, and
//! collects the futures' wakers. It must never block and never wake.

use hopmq_proto::{CloseReason, Content, Purpose, Time, code};
use tracing::{debug, warn};

use super::State;
use super::consumers::ConsumerEnd;
use super::events::Event;
use super::keys::{self, ConsumerKey};
use super::lifecycle::LinkState;
use super::requests::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::refusal::Refusal;

impl State {
    /// Applies an event of the protocol connection. An error ends the link.
    pub(crate) fn apply(&mut self, event: hopmq_proto::Event, now: Time) -> Result<()> {
        use hopmq_proto::Event as Proto;
        match event {
            Proto::Confirmed { channel, first, last, ack } => self.confirmed(channel, first, last, ack),
            Proto::Reply { request, payload, .. } => self.answer(keys::of_number(request), Reply::Method(payload)),
            Proto::ConsumerCancelled { consumer, .. } => self.consumer_cancelled(keys::of_number(consumer)),
            Proto::Flow { channel, active } => {
                debug!(channel, active, "the broker changed the flow of the channel");
                self.emit(&Event::Flow { channel, active });
            }
            Proto::ChannelClosed { channel, reason } => self.channel_closed(channel, &reason),
            Proto::Blocked { reason } => {
                warn!(reason, "the broker blocks publishing");
                self.blocking.begin(now, reason.clone());
                self.emit(&Event::Blocked { reason });
            }
            Proto::Unblocked => {
                debug!("the broker accepts publishes again");
                self.stats.blocked += self.blocking.end(now).unwrap_or_default();
                self.emit(&Event::Unblocked);
            }
            Proto::Closed { reason: None } => return Err(self.closed_by_program()),
            other => {
                debug_assert!(false, "not an event of an open client: {other:?}");
            }
        }
        Ok(())
    }

    /// Dispatches a message by its purpose.
    #[inline]
    pub(crate) fn apply_content(&mut self, channel: u16, purpose: Purpose, content: Content) {
        match purpose {
            Purpose::Delivery { consumer, delivery_tag } => {
                self.deliver(keys::of_number(consumer), delivery_tag, content);
            }
            Purpose::Got { request } => {
                self.stats.delivered += 1;
                let epoch = self.channels.get(channel).map_or(0, |channel| channel.end.epoch());
                self.answer(keys::of_number(request), Reply::Got { content, epoch });
            }
            Purpose::Returned { tag } => self.returned(channel, tag, content),
            other => debug_assert!(false, "not a message for a client: {other:?}"),
        }
    }

    /// Notes that the handshake of a link is done.
    pub(crate) fn link_opened(&mut self) {
        let tuning = self.proto.tuning();
        debug!(?tuning, "connection open");
        self.channel_max = tuning.channel_max;
        self.lifecycle.set_link(LinkState::Restoring);
    }

    /// Queues an event for each subscriber.
    pub(crate) fn emit(&mut self, event: &Event) {
        self.subscribers.emit(event, &mut self.wakers);
    }

    fn consumer_cancelled(&mut self, key: ConsumerKey) {
        let text = "the broker cancelled the consumer: its queue was deleted or moved to another node";
        warn!("{text}");
        self.end_consumer(key, ConsumerEnd::Failed(Error::new(ErrorKind::ConsumerCancelled, text)));
    }

    fn channel_closed(&mut self, channel: u16, reason: &CloseReason) {
        let text = format!("the broker closed channel {channel}: {}", describe(reason));
        warn!(channel, code = reason.code, "{text}");
        let error = Error::with_code(ErrorKind::ChannelClosed, reason.code, text);
        self.end_channel(channel, &error);
        self.emit(&Event::ChannelClosed { channel, error });
    }

    /// Returns the error of a link that the broker closed.
    pub(crate) fn closed_by_broker(&self, reason: &CloseReason) -> Error {
        let text = describe(reason);
        if self.lifecycle.is_link_open() {
            let text = format!("the broker closed the connection: {text}");
            return Error::with_code(ErrorKind::ConnectionClosed, reason.code, text);
        }
        let refusal = Refusal::of(reason);
        let guess = match refusal {
            // RabbitMQ sends the same text for each of these causes.
            Some(Refusal::Credentials) => {
                " (a wrong user name or password, or a user who may not connect from this machine: RabbitMQ accepts \
                 `guest` only from its own machine)"
            }
            Some(Refusal::ConnectionLimit) => {
                " (the limit is the reason, not a missing permission: close other connections, or raise the limit)"
            }
            Some(Refusal::VhostMissing) if Refusal::names_no_vhost(reason) => {
                " (the name of the virtual host is empty, as in a URI that ends with '/': leave out that '/', or write \
                 amqp://host/%2f, for the virtual host '/')"
            }
            _ => "",
        };
        let kind = match reason.code {
            code::ACCESS_REFUSED => ErrorKind::Authentication,
            _ => ErrorKind::ConnectionClosed,
        };
        Error::refused(kind, reason.code, format!("the broker refused the connection: {text}{guess}"), refusal)
    }
}

/// `404 NOT_FOUND - no queue 'x' in vhost '/' (queue.declare)`
fn describe(reason: &CloseReason) -> String {
    let CloseReason { code, text, method } = reason;
    if method.is_known() { format!("{code} {text} ({method})") } else { format!("{code} {text}") }
}
