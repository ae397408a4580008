//! Enforces a policy on the frames of the channels: a refused operation never reaches RabbitMQ.
//!
//! Tracks the state of each channel. A refused operation closes its channel in three steps, so that both peers agree on
//! the state of the channel at any time:
//!
//! 1. RabbitMQ gets `channel.close`. Its replies and confirms for earlier operations still pass.
//! 2. After RabbitMQ's `channel.close-ok`, the browser gets `channel.close` 403.
//! 3. Frames of the browser are dropped until its `channel.close-ok`.

use std::collections::{HashMap, HashSet};

use hopmq_proto::method::{Encode, Method, MethodId, basic, channel, queue};
use hopmq_proto::{Error, FieldTable, Frame, Kind, Properties, code, printable};

use super::encode::method_frame;
use super::temporary_queues::{Reply, TemporaryQueues};
use super::verdict::Verdict;
use crate::auth::denied::Denied;
use crate::auth::{Grant, Operation};

/// The number of refused operations of a connection that are all logged; of later ones, those whose number is a power
/// of two.
const REFUSALS_LOGGED: u64 = 10;

/// Enforces the policy of one connection; see the [module](self).
#[derive(Debug)]
pub(crate) struct PolicyFilter {
    grant: Grant,
    channels: HashMap<u16, Channel>,
    queues: TemporaryQueues,
    /// Channels on which RabbitMQ owes a `close-ok` that must not reach the browser.
    hidden_close_oks: HashSet<u16>,
    /// The number of refused operations.
    refused: u64,
}

/// The state of a channel.
#[derive(Debug)]
enum Channel {
    Open(Open),
    /// An operation was refused; RabbitMQ's `close-ok` is pending.
    Refusing {
        refusal: Refusal,
        /// The browser has sent `channel.close` in the meantime.
        browser_closes: bool,
    },
    /// The browser got `channel.close` 403; its `close-ok` is pending.
    Refused,
    /// RabbitMQ closed the channel; the browser's `close-ok` is pending.
    ClosedByUpstream,
    /// The browser closed the channel; RabbitMQ's `close-ok` is pending.
    ClosedByBrowser,
}

#[derive(Debug, Default)]
struct Open {
    /// The frame of a `basic.publish`, held back until its header arrives.
    publish: Option<Vec<u8>>,
    /// Bytes of the body that have not arrived yet.
    body: u64,
}

#[derive(Debug)]
struct Refusal {
    text: String,
    method: MethodId,
}

impl PolicyFilter {
    /// `temporary_queues` is the largest number of them.
    pub(crate) fn new(grant: Grant, temporary_queues: usize) -> Self {
        Self {
            grant,
            channels: HashMap::new(),
            queues: TemporaryQueues::new(temporary_queues),
            hidden_close_oks: HashSet::new(),
            refused: 0,
        }
    }

    /// Whether RabbitMQ owes so many replies that no more frames of the browser must be taken.
    pub(crate) fn is_saturated(&self) -> bool {
        self.queues.is_saturated()
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Replaces the grant by that of a newer token.
    pub(crate) fn renew(&mut self, grant: Grant) {
        self.grant = grant;
    }

    /// Decides about a frame from the browser on a channel other than 0. Appends the gateway's own replies to
    /// `to_browser`.
    ///
    /// # Errors
    /// [`Error`] if the browser broke the protocol.
    pub(crate) fn handle_browser_frame(
        &mut self,
        frame: &Frame<'_>,
        to_browser: &mut Vec<u8>,
    ) -> Result<Verdict, Error> {
        let number = frame.channel();
        let id = if frame.kind() == Kind::Method { Some(frame.method()?) } else { None };
        let Some(state) = self.channels.get_mut(&number) else {
            if id == Some(channel::Open::ID) {
                self.channels.insert(number, Channel::Open(Open::default()));
                return Ok(Verdict::Pass);
            }
            return Err(Error::peer(
                code::CHANNEL_ERROR,
                format!("frame received on channel {number}, which is not open"),
            ));
        };
        match (&mut *state, id) {
            (Channel::Open(_), _) => {}
            (Channel::Refusing { browser_closes, .. }, Some(channel::Close::ID)) => {
                *browser_closes = true;
                return Ok(Verdict::Drop);
            }
            (Channel::Refused, Some(channel::CloseOk::ID)) => {
                self.channels.remove(&number);
                return Ok(Verdict::Drop);
            }
            (Channel::Refused, Some(channel::Close::ID)) => {
                to_browser.extend_from_slice(&method_frame(number, &channel::CloseOk {}));
                return Ok(Verdict::Drop);
            }
            (Channel::ClosedByUpstream, Some(channel::CloseOk::ID)) => {
                self.channels.remove(&number);
                return Ok(Verdict::Pass);
            }
            (Channel::ClosedByUpstream, Some(channel::Close::ID)) => return Ok(Verdict::Pass),
            (Channel::ClosedByBrowser, Some(channel::CloseOk::ID)) => return Ok(Verdict::Pass),
            _ => return Ok(Verdict::Drop),
        }
        match frame.kind() {
            Kind::Method => self.method(number, frame),
            Kind::Header => self.header(number, frame),
            Kind::Body => self.body(number, frame),
            Kind::Heartbeat => {
                Err(Error::peer(code::UNEXPECTED_FRAME, "received a heartbeat on a channel other than 0"))
            }
        }
    }

    fn open(&mut self, number: u16) -> Result<&mut Open, Error> {
        match self.channels.get_mut(&number) {
            Some(Channel::Open(open)) => Ok(open),
            _ => {
                Err(Error::peer(code::CHANNEL_ERROR, format!("frame received on channel {number}, which is not open")))
            }
        }
    }

    fn method(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let method = Method::decode(frame.payload())?;
        if !is_of_client(&method) {
            let text = format!("received {}, which a client must not send on a channel", frame.method()?);
            return Err(Error::peer(code::COMMAND_INVALID, text));
        }
        let open = self.open(number)?;
        if open.publish.is_some() || open.body > 0 {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "received a method before the message was complete"));
        }
        if matches!(method, Method::ChannelClose(_)) {
            self.channels.insert(number, Channel::ClosedByBrowser);
            return Ok(Verdict::Pass);
        }
        let operation =
            Operation { method: &method, last_queue: self.queues.last(number), temporary: self.queues.named() };
        let mut outcome = self.grant.policy.check(&operation);
        match &method {
            _ if outcome.is_err() => {}
            Method::BasicPublish(_) => {
                self.open(number)?.publish = Some(frame.bytes().to_vec());
                return Ok(Verdict::Drop);
            }
            Method::QueueDeclare(declare) => outcome = self.queues.declare(number, declare),
            Method::QueueDelete(delete) => self.queues.delete(number, delete.queue, delete.nowait),
            Method::BasicConsume(consume) => {
                self.queues.consume(number, consume.queue, consume.consumer_tag, consume.nowait);
            }
            Method::BasicCancel(cancel) => self.queues.cancel(number, cancel.consumer_tag, cancel.nowait),
            _ => {}
        }
        match outcome {
            Ok(()) => Ok(Verdict::Pass),
            Err(denied) => Ok(self.refuse(number, &denied, frame.method()?)),
        }
    }

    fn header(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let Some(held) = self.open(number)?.publish.take() else {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "received a content header without a basic.publish"));
        };
        let (size, properties) = frame.header()?;
        // Of a malformed list, the broker could read other headers than the policy has seen.
        properties.check()?;
        // Without the frame's head of 7 bytes and its end byte.
        let payload = held.get(7..held.len().saturating_sub(1)).unwrap_or_default();
        let Method::BasicPublish(publish) = Method::decode(payload)? else {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "received a content header without a basic.publish"));
        };
        if let Err(denied) = self.message(&publish, size, &properties)? {
            return Ok(self.refuse(number, &denied, MethodId::BASIC_PUBLISH));
        }
        self.open(number)?.body = size;
        let mut message = held;
        message.extend_from_slice(frame.bytes());
        Ok(Verdict::Replace(message))
    }

    /// Decides about a message by its header. The outer error is a fault of the browser.
    fn message(
        &self,
        publish: &basic::Publish<'_>,
        size: u64,
        properties: &Properties<&[u8]>,
    ) -> Result<Result<(), Denied>, Error> {
        let policy = &self.grant.policy;
        let headers: FieldTable<&[u8]> = properties.headers()?;
        // RabbitMQ checks it too, but lets users with the tag `impersonator` send any.
        let user = properties.user_id().filter(|user| *user != self.grant.username);
        Ok(policy.message(publish, size, &headers).and_then(|()| match user {
            Some(user) => Err(Denied::UserId { user: user.to_owned() }),
            None => policy.reply_to(properties.reply_to().unwrap_or_default(), self.queues.named()),
        }))
    }

    fn body(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let open = self.open(number)?;
        let size = frame.payload().len() as u64;
        if open.publish.is_some() || open.body == 0 || size > open.body {
            return Err(Error::peer(
                code::UNEXPECTED_FRAME,
                "received more body bytes than the content header announced",
            ));
        }
        open.body -= size;
        Ok(Verdict::Pass)
    }

    /// Closes the channel at RabbitMQ in place of the denied operation.
    fn refuse(&mut self, number: u16, denied: &Denied, method: MethodId) -> Verdict {
        let text = format!("ACCESS_REFUSED - {} {denied}", self.grant.subject);
        let reason = denied.to_string();
        let (subject, reason) = (&*printable(&self.grant.subject), &*printable(&reason));
        self.refused += 1;
        if self.refused <= REFUSALS_LOGGED || self.refused.is_power_of_two() {
            let (method, refused) = (method.name(), self.refused);
            tracing::info!(subject, channel = number, method, reason, refused, "refused an operation");
        }
        self.channels.insert(number, Channel::Refusing { refusal: Refusal { text, method }, browser_closes: false });
        let text = "the gateway refused an operation";
        Verdict::Refuse(method_frame(number, &close(code::REPLY_SUCCESS, text, MethodId::default())))
    }

    /// Decides about a frame from RabbitMQ on a channel other than 0.
    ///
    /// # Errors
    /// [`Error`] if RabbitMQ broke the protocol.
    pub(crate) fn handle_upstream_frame(&mut self, frame: &Frame<'_>) -> Result<Verdict, Error> {
        if frame.kind() != Kind::Method {
            return Ok(Verdict::Pass);
        }
        let number = frame.channel();
        let id = frame.method()?;
        match id {
            channel::CloseOk::ID => return Ok(self.close_ok_from_upstream(number)),
            queue::DeclareOk::ID
            | queue::DeleteOk::ID
            | basic::ConsumeOk::ID
            | basic::CancelOk::ID
            | basic::Cancel::ID => {
                match Method::decode(frame.payload())? {
                    Method::QueueDeclareOk(ok) => self.queues.reply(number, Reply::Declared { queue: ok.queue }),
                    Method::QueueDeleteOk(_) => self.queues.reply(number, Reply::Deleted),
                    Method::BasicConsumeOk(ok) => self.queues.reply(number, Reply::Consumed { tag: ok.consumer_tag }),
                    Method::BasicCancelOk(_) => self.queues.reply(number, Reply::Cancelled),
                    Method::BasicCancel(cancel) => self.queues.cancelled(number, cancel.consumer_tag),
                    _ => {}
                }
                return Ok(Verdict::Pass);
            }
            _ => {}
        }
        let Some(state) = self.channels.get_mut(&number) else { return Ok(Verdict::Pass) };
        match id {
            channel::Close::ID => {
                self.queues.refused(number);
                match state {
                    Channel::Open(_) => {}
                    Channel::Refusing { browser_closes, .. } => {
                        // RabbitMQ's own close wins over the refusal. The pending `close-ok` goes to the browser only
                        // if the browser has sent `channel.close` too.
                        if !*browser_closes {
                            self.hidden_close_oks.insert(number);
                        }
                    }
                    _ => return Ok(Verdict::Pass),
                }
                *state = Channel::ClosedByUpstream;
                Ok(Verdict::Pass)
            }
            _ => Ok(Verdict::Pass),
        }
    }

    fn close_ok_from_upstream(&mut self, number: u16) -> Verdict {
        if self.hidden_close_oks.remove(&number) {
            return Verdict::Drop;
        }
        self.queues.closed(number);
        match self.channels.get_mut(&number) {
            Some(state @ Channel::Refusing { .. }) => {
                let previous = std::mem::replace(state, Channel::Refused);
                let Channel::Refusing { refusal, browser_closes } = previous else { return Verdict::Drop };
                let mut bytes = method_frame(number, &close(code::ACCESS_REFUSED, &refusal.text, refusal.method));
                if browser_closes {
                    bytes.extend_from_slice(&method_frame(number, &channel::CloseOk {}));
                }
                Verdict::Replace(bytes)
            }
            Some(Channel::ClosedByBrowser) => {
                self.channels.remove(&number);
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }
}

/// Whether a client may send the method on a channel.
fn is_of_client(method: &Method<'_>) -> bool {
    use Method::*;
    match method {
        // `channel.close-ok` answers a close, and is handled where the channel is closed.
        ChannelOpen(_) | ChannelFlow(_) | ChannelFlowOk(_) | ChannelClose(_) => true,
        ExchangeDeclare(_) | ExchangeDelete(_) | ExchangeBind(_) | ExchangeUnbind(_) => true,
        QueueDeclare(_) | QueueBind(_) | QueueUnbind(_) | QueuePurge(_) | QueueDelete(_) => true,
        BasicQos(_) | BasicConsume(_) | BasicCancel(_) | BasicPublish(_) | BasicGet(_) => true,
        BasicAck(_) | BasicReject(_) | BasicNack(_) | BasicRecover(_) | BasicRecoverAsync(_) => true,
        // RabbitMQ and its plugins cancel consumers, and clients may answer.
        BasicCancelOk(_) | AccessRequest(_) | ConfirmSelect(_) => true,
        TxSelect(_) | TxCommit(_) | TxRollback(_) => true,
        _ => false,
    }
}

fn close(reply_code: u16, reply_text: &str, method: MethodId) -> channel::Close<'_> {
    channel::Close { reply_code, reply_text, class_id: method.class, method_id: method.method }
}
