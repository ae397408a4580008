//! A policy between a browser and RabbitMQ: what is refused never gets there.
//!
//! Owns what must be known of each channel for that. A refused operation is answered in three steps, so that both ends
//! agree on the channel at any time: RabbitMQ is asked to close it; when it has, the browser gets `channel.close` 403;
//! and what the browser sends there counts for nothing until it agrees. Before the second step RabbitMQ's answers and
//! confirms for what was sent earlier still pass.

use std::collections::{HashMap, HashSet, VecDeque};

use hopmq_proto::method::{Encode, Method, MethodId, channel, queue};
use hopmq_proto::{Error, FieldTable, Frame, Kind, code};

use super::encode::method_frame;
use super::verdict::Verdict;
use crate::auth::{Grant, Operation};

/// How many queues may be named by RabbitMQ for one connection.
const MAX_TEMPORARY: usize = 256;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct PolicyFilter {
    grant: Grant,
    channels: HashMap<u16, Channel>,
    /// Queues that RabbitMQ named for this connection.
    temporary: HashSet<String>,
    /// Channels on which RabbitMQ has still to agree to a close of ours, of which the browser knows nothing.
    unanswered: HashSet<u16>,
}

/// One channel, as far as both ends have it.
#[derive(Debug)]
enum Channel {
    Open(Open),
    /// RabbitMQ was asked to close it for a refused operation.
    Refusing {
        refusal: Refusal,
        /// The browser asked for the end itself in the meantime.
        browser_closes: bool,
    },
    /// The browser was told, and is to agree.
    Refused,
    /// RabbitMQ closed it, and the browser is to agree.
    ClosedByUpstream,
    /// The browser closes it.
    ClosedByBrowser,
}

#[derive(Debug, Default)]
struct Open {
    /// A `basic.publish` whose header is to come, as it came.
    publish: Option<Vec<u8>>,
    /// Bytes of the body that are to come.
    body: u64,
    /// The queue that was declared last; empty until RabbitMQ has named it.
    last_queue: Option<String>,
    /// The declares that RabbitMQ has still to answer, and whether it is to name the queue.
    declares: VecDeque<bool>,
}

#[derive(Debug)]
struct Refusal {
    text: String,
    method: MethodId,
}

impl PolicyFilter {
    pub(crate) fn new(grant: Grant) -> Self {
        Self { grant, channels: HashMap::new(), temporary: HashSet::new(), unanswered: HashSet::new() }
    }

    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Puts what a newer token says in the place of the older one's.
    pub(crate) fn renew(&mut self, grant: Grant) {
        self.grant = grant;
    }

    /// Decides about a frame of the browser's on a channel. What the gateway itself answers goes to `to_browser`.
    ///
    /// # Errors
    /// If the browser broke the protocol.
    pub(crate) fn of_browser(&mut self, frame: &Frame<'_>, to_browser: &mut Vec<u8>) -> Result<Verdict, Error> {
        let number = frame.channel();
        let id = if frame.kind() == Kind::Method { Some(frame.method()?) } else { None };
        let Some(state) = self.channels.get_mut(&number) else {
            if id == Some(channel::Open::ID) {
                self.channels.insert(number, Channel::Open(Open::default()));
                return Ok(Verdict::Pass);
            }
            return Err(Error::peer(code::CHANNEL_ERROR, format!("channel {number} is not open")));
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
            Kind::Heartbeat => Err(Error::peer(code::FRAME_ERROR, "a heartbeat with a channel")),
        }
    }

    fn open(&mut self, number: u16) -> Result<&mut Open, Error> {
        match self.channels.get_mut(&number) {
            Some(Channel::Open(open)) => Ok(open),
            _ => Err(Error::peer(code::CHANNEL_ERROR, format!("channel {number} is not open"))),
        }
    }

    fn method(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let method = Method::decode(frame.payload())?;
        let temporary = self.temporary.len();
        let open = self.open(number)?;
        if open.publish.is_some() || open.body > 0 {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "a method where the rest of a message was due"));
        }
        if matches!(method, Method::ChannelClose(_)) {
            self.channels.insert(number, Channel::ClosedByBrowser);
            return Ok(Verdict::Pass);
        }
        let last_queue = open.last_queue.take();
        let operation = Operation { method: &method, last_queue: last_queue.as_deref(), temporary: &self.temporary };
        let mut outcome = self.grant.policy.check(&operation);
        let open = self.open(number)?;
        open.last_queue = last_queue;
        match method {
            Method::BasicPublish(_) if outcome.is_ok() => {
                open.publish = Some(frame.bytes().to_vec());
                return Ok(Verdict::Drop);
            }
            Method::QueueDeclare(declare) if outcome.is_ok() => {
                let unnamed = declare.queue.is_empty() && !declare.passive;
                if unnamed && temporary >= MAX_TEMPORARY {
                    outcome = Err(format!("may not have more than {MAX_TEMPORARY} queues that RabbitMQ names"));
                } else if unnamed || !declare.queue.is_empty() {
                    open.last_queue = Some(declare.queue.to_owned());
                }
                if !declare.nowait {
                    open.declares.push_back(unnamed);
                }
            }
            Method::QueueDelete(queue::Delete { queue, .. }) if outcome.is_ok() => {
                self.temporary.remove(queue);
            }
            _ => {}
        }
        match outcome {
            Ok(()) => Ok(Verdict::Pass),
            Err(why) => Ok(self.refuse(number, &why, frame.method()?)),
        }
    }

    fn header(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let Some(held) = self.open(number)?.publish.take() else {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "a header where no message was announced"));
        };
        let (size, properties) = frame.header()?;
        let headers: FieldTable<&[u8]> = properties.headers()?;
        // The frame's head and end around it were there when it came.
        let payload = held.get(7..held.len().saturating_sub(1)).unwrap_or_default();
        let Method::BasicPublish(publish) = Method::decode(payload)? else {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "a header that belongs to no publish"));
        };
        if let Err(why) = self.grant.policy.message(&publish, size, &headers) {
            return Ok(self.refuse(number, &why, MethodId::BASIC_PUBLISH));
        }
        self.open(number)?.body = size;
        let mut message = held;
        message.extend_from_slice(frame.bytes());
        Ok(Verdict::Replace(message))
    }

    fn body(&mut self, number: u16, frame: &Frame<'_>) -> Result<Verdict, Error> {
        let open = self.open(number)?;
        let size = frame.payload().len() as u64;
        if open.publish.is_some() || size > open.body {
            return Err(Error::peer(code::UNEXPECTED_FRAME, "more of a body than its header said"));
        }
        open.body -= size;
        Ok(Verdict::Pass)
    }

    /// RabbitMQ gets a close in the place of what is refused.
    fn refuse(&mut self, number: u16, why: &str, method: MethodId) -> Verdict {
        let text = format!("ACCESS_REFUSED - {} {why}", self.grant.subject);
        tracing::info!(subject = self.grant.subject, channel = number, %method, "refused: {why}");
        self.channels.insert(number, Channel::Refusing { refusal: Refusal { text, method }, browser_closes: false });
        let text = "the gateway refused an operation";
        Verdict::Refuse(method_frame(number, &close(code::REPLY_SUCCESS, text, MethodId::default())))
    }

    /// Decides about a method of RabbitMQ's on a channel.
    ///
    /// # Errors
    /// If RabbitMQ broke the protocol.
    pub(crate) fn of_upstream(&mut self, frame: &Frame<'_>) -> Result<Verdict, Error> {
        if frame.kind() != Kind::Method {
            return Ok(Verdict::Pass);
        }
        let (number, id) = (frame.channel(), frame.method()?);
        if id == channel::CloseOk::ID {
            return Ok(self.close_ok_from_upstream(number));
        }
        let Some(state) = self.channels.get_mut(&number) else { return Ok(Verdict::Pass) };
        match id {
            queue::DeclareOk::ID => {
                if let Channel::Open(open) = state
                    && open.declares.pop_front() == Some(true)
                    && let Method::QueueDeclareOk(declared) = Method::decode(frame.payload())?
                {
                    if let Some(last) = open.last_queue.as_mut().filter(|last| last.is_empty()) {
                        *last = declared.queue.to_owned();
                    }
                    self.temporary.insert(declared.queue.to_owned());
                }
                Ok(Verdict::Pass)
            }
            channel::Close::ID => {
                match state {
                    Channel::Open(_) => {}
                    Channel::Refusing { browser_closes, .. } => {
                        // The earlier fault counts. RabbitMQ's answer to our close serves the browser's, if it asked.
                        if !*browser_closes {
                            self.unanswered.insert(number);
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
        if self.unanswered.remove(&number) {
            return Verdict::Drop;
        }
        match self.channels.get_mut(&number) {
            Some(state @ Channel::Refusing { .. }) => {
                let before = std::mem::replace(state, Channel::Refused);
                let Channel::Refusing { refusal, browser_closes } = before else { return Verdict::Drop };
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

fn close(reply_code: u16, reply_text: &str, method: MethodId) -> channel::Close<'_> {
    channel::Close { reply_code, reply_text, class_id: method.class, method_id: method.method }
}
