//! A connection, from login to close.
//!
//! Owns its protocol state, its user, its channels and its exclusive queues.

mod authorize;
pub(super) mod channel;
mod deprecated;
mod limits;
pub(super) mod log;
mod login;
pub(super) mod publish;
mod reply_to;
pub(super) mod resource_alarms;
mod shares;
mod tagged;
pub(super) mod tx;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hopmq_proto::method::{MethodId, connection};
use hopmq_proto::{
    CloseReason, Connection, Event, FieldTable, Incoming, ReceiveLimits, Role, Time, Transmit, Violation, code,
};

use crate::engine::access::{Claim, User};
use crate::engine::growth::Published;
use crate::engine::invariant::Invariant;
use crate::engine::keys::{ConsumerKey, QueueKey, SessionKey, VhostKey};
use crate::engine::meter::{Charge, Purpose};
use crate::engine::name::Name;
use crate::engine::queue::message::{Block, Message};
use crate::engine::refusal::Refusal;
use crate::engine::session::channel::Channel;
use crate::engine::work::Task;
use crate::engine::{At, Engine};
use crate::store::Lsn;

/// What a connection takes without its buffers, in bytes: its state here and in the server, and its transport's.
const CONNECTION: usize = 8 * 1024;

/// The steps of a method that declares, binds, opens or ends something, besides those of what it does to others.
const METHOD_STEPS: u32 = 16;
/// The time limit for the login, and for the answer to a close.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) proto: Connection,
    pub(crate) user: Option<User>,
    /// Whether the client is on this machine.
    local: bool,
    /// The address of the client, for the logs.
    peer: Name,
    /// Why the connection ends, for the logs.
    end_reason: Option<Cow<'static, str>>,
    /// A password that must be verified before the login continues.
    claim: Option<Claim>,
    pub(crate) vhost: Option<VhostKey>,
    pub(crate) client_properties: FieldTable,
    /// By channel number.
    pub(crate) channels: Vec<Option<Box<Channel>>>,
    /// Exclusive queues, which are deleted with it.
    pub(crate) exclusive: BTreeSet<QueueKey>,
    /// Channels with publishes to confirm.
    pub(crate) confirming: Vec<u16>,
    /// Consumers that wait until some of the output is written.
    pub(crate) starved: Vec<ConsumerKey>,
    /// Whether the connection is in the list of connections to wake.
    pub(crate) woken: bool,
    /// What must be synced before more is handled or sent. The inner value is its end in the store, once that is known.
    pub(crate) held: Option<Option<Lsn>>,
    /// Whether it has unfinished work: nothing more is handled or sent until that is done.
    pub(in crate::engine) is_working: bool,
    /// Whether the connection has published under an alarm.
    pub(crate) blocked: bool,
    published: Published,
    /// Whether the client was sent `connection.blocked`.
    pub(in crate::engine) notified_blocked: bool,
    /// When the connection is closed, unless the handshake or close is done by then.
    deadline: Option<Time>,
    /// Whether its channels are closed or being closed: its consumers must not get what their neighbours return.
    pub(crate) released: bool,
    /// How the connection has ended.
    pub(crate) end: Option<SessionEnd>,
    /// Whether its transport is closed, and the connection is removed once its work is done.
    pub(in crate::engine) has_left: bool,
    /// The receive buffer of the last body that was not copied.
    pub(in crate::engine) block: Option<Arc<Block>>,
    /// The receive buffers of bodies in the output that were not copied.
    pub(in crate::engine) sent: Vec<Arc<Block>>,
    /// Those of the output that is being written.
    writing: Vec<Arc<Block>>,
    /// What the transactions of its channels take, in bytes.
    pub(in crate::engine) uncommitted: u64,
    /// Its memory.
    charge: Charge,
    /// Whether its use of a channel-wide prefetch, which is deprecated, was logged.
    warned_of_global_qos: bool,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// Its last bytes remain to be written.
    Closed,
    /// Its transport must be closed at once.
    Cut,
}

/// What a connection that ends has yet to release.
#[derive(Debug)]
pub(in crate::engine) struct Release {
    id: SessionKey,
    /// The next channel.
    channel: usize,
    exclusive: BTreeSet<QueueKey>,
}

impl Session {
    #[inline]
    pub(crate) fn channel_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }

    pub(crate) fn channel(&self, number: u16) -> Option<&Channel> {
        self.channels.get(usize::from(number))?.as_deref()
    }

    /// Notes why the connection ends. The first reason stays.
    fn ends_because(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.end_reason.get_or_insert_with(|| reason.into());
    }

    /// Keeps the receive buffer of a sent body counted until the output is written.
    #[inline]
    pub(in crate::engine) fn keep_sent(&mut self, message: &Message) {
        if let Some(block) = message.block()
            && self.sent.last().is_none_or(|last| !Arc::ptr_eq(last, block))
        {
            self.sent.push(Arc::clone(block));
        }
    }

    /// Drops what it keeps of receive buffers, for a crash.
    #[cfg(feature = "testing")]
    pub(in crate::engine) fn forget_blocks(&mut self) {
        (self.block, self.sent, self.writing) = (None, Vec::new(), Vec::new());
    }

    pub(crate) fn can(&self, capability: &str) -> bool {
        Connection::has_capability(&self.client_properties, capability)
    }
}

impl Engine {
    /// Adds a connection. `local` says whether the client is on this machine; `peer` is its address for the logs.
    pub(crate) fn connect(&mut self, now: Time, local: bool, peer: Name) -> SessionKey {
        self.sessions.insert(Session {
            proto: Connection::new(Role::Server, self.config.protocol.clone()),
            user: None,
            local,
            peer,
            end_reason: None,
            claim: None,
            vhost: None,
            client_properties: FieldTable::new(),
            channels: Vec::new(),
            exclusive: BTreeSet::new(),
            confirming: Vec::new(),
            starved: Vec::new(),
            woken: false,
            held: None,
            is_working: false,
            blocked: false,
            published: Published::default(),
            notified_blocked: false,
            deadline: Some(now + HANDSHAKE_TIMEOUT),
            released: false,
            end: None,
            has_left: false,
            block: None,
            sent: Vec::new(),
            uncommitted: 0,
            writing: Vec::new(),
            charge: Charge::new(self.meter, Purpose::Connections, CONNECTION),
            warned_of_global_qos: false,
        })
    }

    /// Handles a decoded input of a client.
    pub(crate) fn handle(&mut self, now: Time, id: SessionKey, incoming: Incoming) {
        self.now = now;
        self.begin(id);
        self.work.count(1);
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        match session.proto.handle(now, incoming) {
            Ok(Some(event)) => self.handle_event(id, event),
            Ok(None) => {}
            // The protocol has sent a close already.
            Err(error) => {
                session.ends_because(error.to_string());
                self.end_session(id);
            }
        }
        self.end();
    }

    fn handle_event(&mut self, id: SessionKey, event: Event) {
        match event {
            Event::Published { channel, content } => {
                let Some(at) = self.at(id, channel).invariant("open connection") else { return };
                let result = self.publish(at, content);
                self.refused(id, channel, MethodId::BASIC_PUBLISH, result);
            }
            Event::Oversized { channel, size } => {
                let limit = self.config.protocol.message_max;
                let text = format_args!("message size {size} is larger than configured max size {limit}");
                self.refused(id, channel, MethodId::BASIC_PUBLISH, Err(Refusal::precondition(text)));
            }
            Event::Method { channel: 0, .. } => self.send(id, 0, &connection::UpdateSecretOk {}),
            Event::Method { channel, payload } => {
                if MethodId::peek(&payload).is_ok_and(|method| method.class != MethodId::BASIC_ACK.class) {
                    self.work.count(METHOD_STEPS);
                }
                self.handle_method(id, channel, &payload);
            }
            Event::ChannelOpened { channel } => match self.check_channel_limit(id) {
                Ok(()) => {
                    self.work.count(METHOD_STEPS);
                    self.open_channel(id, channel);
                }
                Err(refusal) => self.refused(id, 0, MethodId::default(), Err(refusal)),
            },
            Event::ChannelClosed { channel, .. } => {
                self.work.count(METHOD_STEPS);
                self.close_channel(id, channel);
            }
            Event::StartOk { client_properties, mechanism, response } => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.client_properties = client_properties;
                }
                self.login(id, &mechanism, &response);
            }
            Event::Open { vhost } => self.open_vhost(id, &vhost),
            Event::Closed { reason } => {
                if let (Some(session), Some(reason)) = (self.sessions.get_mut(id), reason) {
                    session.ends_because(format!("the client closed it: {} {}", reason.code, reason.text));
                }
                self.end_session(id);
            }
            _ => {}
        }
    }

    fn at(&self, session: SessionKey, channel: u16) -> Option<At> {
        let vhost = self.sessions.get(session)?.vhost?;
        Some(At { session, channel, vhost })
    }

    pub(in crate::engine) fn handle_method(&mut self, id: SessionKey, channel: u16, payload: &Bytes) {
        let Some(at) = self.at(id, channel).invariant("open connection") else { return };
        let method = MethodId::peek(payload).unwrap_or_default();
        let result = self.method(at, payload);
        self.refused(id, channel, method, result);
    }

    /// Handles the result of an operation: a refusal ends the channel, or the connection.
    pub(in crate::engine) fn refused(
        &mut self,
        id: SessionKey,
        channel: u16,
        method: MethodId,
        result: Result<(), Refusal>,
    ) {
        let Err(refusal) = result else { return };
        self.log_refusal(id, channel, method, &refusal);
        if refusal.hard {
            return self.refuse_connection(id, method, refusal);
        }
        let reason = CloseReason { code: refusal.code, text: refusal.text, method };
        // Earlier publishes are confirmed before the channel ends, unless they wait for the store.
        if !self.has_unappended() {
            self.confirm(id, channel);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            let _ = session.proto.refuse_channel(channel, &reason);
            Self::wake(&mut self.woken, id, session);
        }
        self.close_channel(id, channel);
    }

    fn refuse_connection(&mut self, id: SessionKey, method: MethodId, refusal: Refusal) {
        let reason = CloseReason { code: refusal.code, text: refusal.text, method };
        self.finish(id);
        let until = self.now + HANDSHAKE_TIMEOUT;
        if let Some(session) = self.sessions.get_mut(id) {
            session.proto.refuse(&reason);
            session.ends_because(reason.text);
            session.deadline = Some(until);
            // The answer to the close must be read, whatever resource is low.
            session.blocked = false;
            Self::wake(&mut self.woken, id, session);
        }
        self.release(id);
    }

    /// Closes a connection on behalf of an operator, or of the broker.
    pub(crate) fn close_session(&mut self, now: Time, id: SessionKey, number: u16, text: &str) {
        self.now = now;
        self.begin(id);
        let text = format!("{} - {text}", code::name(number));
        self.refuse_connection(id, MethodId::default(), Refusal { code: number, text, hard: true });
        self.end();
    }

    /// Closes a connection, and does not wait for the answer of the client.
    pub(crate) fn end_with(&mut self, now: Time, id: SessionKey, number: u16, text: &str) {
        self.close_session(now, id, number, text);
        self.begin(id);
        self.end_session(id);
        self.end();
    }

    /// Confirms the publishes of a batch together.
    pub(crate) fn finish(&mut self, id: SessionKey) {
        if self.has_unappended() {
            return;
        }
        let end = self.unsynced_end();
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.held == Some(None) {
            session.held = end.map(Some);
            if end.is_some() {
                self.note_waiting(id);
            }
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.confirming.is_empty() {
            return;
        }
        for channel in std::mem::take(&mut session.confirming) {
            self.confirm(id, channel);
        }
    }

    /// Ends a connection whose client broke the framing.
    pub(crate) fn receive_failed(&mut self, id: SessionKey, error: &hopmq_proto::Error) {
        self.begin(id);
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let limit = session.proto.tuning().channel_max;
        let opened = session.channels.iter().flatten().count();
        match error.violation() {
            Violation::ChannelOutOfRange { .. } if opened == usize::from(limit) => {
                let text = format_args!(
                    "number of channels opened ({opened}) has reached the negotiated channel_max ({limit})"
                );
                self.refused(id, 0, MethodId::default(), Err(Refusal::not_allowed(text)));
            }
            _ => {
                session.proto.receive_failed(error);
                session.ends_because(error.to_string());
            }
        }
        self.end_session(id);
        self.end();
    }

    /// Notes that bytes were received, or are known to be unread.
    pub(crate) fn received(&mut self, now: Time, id: SessionKey) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.proto.received(now);
        }
    }

    /// Returns when [`Engine::handle_session_timeout`] must be called.
    pub(crate) fn session_deadline(&self, id: SessionKey) -> Option<Time> {
        let session = self.sessions.get(id)?;
        session.proto.poll_timeout().into_iter().chain(session.deadline).min()
    }

    /// Sends a heartbeat, or closes a connection whose client is silent or late.
    pub(crate) fn handle_session_timeout(&mut self, now: Time, id: SessionKey) {
        self.now = now;
        self.begin(id);
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return };
        let is_late = session.deadline.is_some_and(|deadline| deadline <= now);
        if let Err(error) = session.proto.handle_timeout(now) {
            session.ends_because(error.to_string());
            self.end_session(id);
        } else if is_late {
            session.ends_because("the client did not log in, or agree to the close, in time");
            self.end_session(id);
        }
        self.end();
    }

    /// Moves output into `transmit`, which must be empty, and resumes the consumers that waited for that. Returns
    /// whether there was any.
    pub(crate) fn poll_transmit(&mut self, now: Time, id: SessionKey, transmit: &mut Transmit) -> bool {
        self.now = now;
        let Some(session) = self.sessions.get_mut(id).invariant("connection") else { return false };
        session.woken = false;
        if session.held.is_some() || session.is_working {
            return false;
        }
        let some = session.proto.poll_transmit(now, transmit);
        if !session.sent.is_empty() || !session.writing.is_empty() {
            session.writing = std::mem::take(&mut session.sent);
        }
        if some && !session.starved.is_empty() {
            let starved = std::mem::take(&mut session.starved);
            self.begin(id);
            self.work.leave(Task::Resume(starved.into()));
            self.end();
        }
        some
    }

    /// Notes how many bytes the server holds for a connection, and how many of them are parts of messages.
    pub(crate) fn note_buffers(&mut self, id: SessionKey, bytes: usize, incomplete: usize) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.charge.set(CONNECTION + bytes + session.proto.queued());
        // A client that publishes must not fill the memory with messages that are never complete.
        if incomplete > 0 {
            if self.shortage != 0 {
                self.note_publisher(id, incomplete);
            }
            self.check_incomplete(id, incomplete);
        }
    }

    /// Returns how many bytes of output wait for [`Engine::poll_transmit`].
    pub(crate) fn queued(&self, id: SessionKey) -> usize {
        self.sessions.get(id).map_or(0, |session| session.proto.queued())
    }

    /// Returns the limits for the client's input.
    pub(crate) fn receive_limits(&self, id: SessionKey) -> Option<ReceiveLimits> {
        self.sessions.get(id).map(|session| session.proto.receive_limits())
    }

    /// Returns how a connection has ended, if it has.
    pub(crate) fn session_end(&self, id: SessionKey) -> Option<SessionEnd> {
        self.sessions.get(id).map_or(Some(SessionEnd::Cut), |session| session.end)
    }

    /// Whether a connection was removed, or will be once its work is done.
    pub(crate) fn is_gone(&self, id: SessionKey) -> bool {
        self.sessions.get(id).is_none_or(|session| session.has_left)
    }

    /// Notes why the transport of a connection failed.
    pub(crate) fn transport_failed(&mut self, id: SessionKey, error: &io::Error) {
        if let Some(session) = self.sessions.get_mut(id)
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            session.ends_because(error.to_string());
        }
    }

    /// Whether the client has opened a virtual host.
    pub(crate) fn has_opened(&self, id: SessionKey) -> bool {
        self.sessions.get(id).is_some_and(|session| session.vhost.is_some())
    }

    /// Returns how many connections there are.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns all connections.
    pub(crate) fn session_ids(&self) -> Vec<SessionKey> {
        self.sessions.iter().map(|(id, _)| id).collect()
    }

    /// Removes a connection whose transport is closed.
    pub(crate) fn disconnect(&mut self, now: Time, id: SessionKey) {
        self.now = now;
        self.begin(id);
        self.log_closed(id);
        self.release(id);
        if let Some(session) = self.sessions.get_mut(id) {
            session.has_left = true;
        }
        self.work.leave(Task::Forget(id));
        // Many connections may end at once: what they leave is done in turns.
        self.work.narrow();
        self.end();
    }

    fn end_session(&mut self, id: SessionKey) {
        self.finish(id);
        self.release(id);
        if let Some(session) = self.sessions.get_mut(id) {
            session.end.get_or_insert(SessionEnd::Closed);
            Self::wake(&mut self.woken, id, session);
        }
    }

    /// Releases what a connection holds: consumers, unacked messages, exclusive queues.
    fn release(&mut self, id: SessionKey) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.released = true;
        let exclusive = std::mem::take(&mut session.exclusive);
        self.work.leave(Task::Release(Release { id, channel: 0, exclusive }));
    }

    /// Closes channels, then deletes exclusive queues. Returns the rest.
    pub(in crate::engine) fn release_some(&mut self, mut release: Release) -> Option<Task> {
        let id = release.id;
        while self.sessions.get(id).is_some_and(|session| release.channel < session.channels.len()) {
            self.work.count(1);
            self.close_channel(id, release.channel as u16);
            release.channel += 1;
            if self.work.must_stop() {
                return Some(Task::Release(release));
            }
        }
        while let Some(queue) = release.exclusive.pop_first() {
            self.work.count(1);
            if self.queues.contains_key(queue) {
                self.delete_queue(queue);
            }
            if self.work.must_stop() {
                return Some(Task::Release(release));
            }
        }
        None
    }

    /// Frees memory that a burst needed.
    pub(crate) fn shrink(&mut self, id: SessionKey) {
        self.scratch.shrink();
        if let Some(session) = self.sessions.get_mut(id) {
            session.proto.shrink();
            session.block = None;
        }
    }
}
