//! The calls and methods of a client on an open connection: requests, publishes, confirms, deliveries and acks.

use bytes::Bytes;

use super::channel::{Channel, Confirms, MAX_PENDING, Pending, Phase, reply_of, unexpected};
use super::consumers::Consumer;
use super::event::{CloseReason, Event, Purpose};
use super::message::{Body, Route};
use super::prepared::Prepared;
use super::{CLASS_CHANNEL, CLASS_CONNECTION, Connection, State, cannot_use, forbidden, not_open, put_payload};
use crate::content::{Content, ContentKind};
use crate::error::{Error, code};
use crate::frame::{HEAD, OVERHEAD};
use crate::method::{Encode, Method, basic, channel, confirm, tx};
use crate::method_id::MethodId;
use crate::output::UNCOPIED;
use crate::properties::Properties;
use crate::shown::Quoted;
use crate::violation::Violation;

impl Connection {
    /// Client: opens a channel. The reply is an [`Event::Reply`]; other requests may follow immediately.
    ///
    /// # Errors
    /// The caller's fault, if the number is 0, in use, or above the agreed `channel_max`.
    pub fn open_channel(&mut self, number: u16, request: u64) -> Result<(), Error> {
        self.check_open()?;
        let limit = self.tuning.channel_max;
        if number == 0 || number > limit {
            let text = format!("channel {number} cannot be opened; use a number from 1 to {limit}");
            return Err(Violation::ChannelOutOfRange { channel: number, limit }.by_caller(text));
        }
        if self.channel_mut(number).is_some() {
            let text = format!("channel {number} cannot be opened: it is in use");
            return Err(Violation::ChannelInUse { channel: number }.by_caller(text));
        }
        self.send(number, &channel::Open {})?;
        self.insert_channel(number, Phase::Opening);
        if let Some(channel) = self.channel_mut(number) {
            channel.expect(Some(request), channel::OpenOk::ID);
        }
        Ok(())
    }

    /// Client: returns the lowest free channel number, or `None` if all are in use.
    pub fn free_channel(&self) -> Option<u16> {
        let in_use = |number: &u16| self.channels.get(usize::from(*number)).is_some_and(Option::is_some);
        (1..=self.tuning.channel_max).find(|number| !in_use(number))
    }

    /// Client: closes a channel. From now on, everything but the reply, an [`Event::Reply`], is dropped.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open.
    pub fn close_channel(&mut self, number: u16, code: u16, text: &str, request: Option<u64>) -> Result<(), Error> {
        self.open_channel_mut(number)?;
        self.send(number, &channel::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 })?;
        let channel = self.open_channel_mut(number)?;
        channel.phase = Phase::Closing;
        channel.pending.clear();
        channel.expect(request, channel::CloseOk::ID);
        Ok(())
    }

    /// Client: sends a request on a channel, or on channel 0 for requests of the connection. The reply is an
    /// [`Event::Reply`]; replies keep the order of the requests of a channel.
    ///
    /// `request` is the key of the request in the event; with `None` there is no event.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open, an argument cannot be encoded, 65,536 requests of the channel
    /// are waiting, or the method is not a request: it has no reply, `nowait` is set (requests do not wait for each
    /// other anyway), or it has a dedicated call such as [`Connection::consume`].
    pub fn request<M: Encode>(&mut self, number: u16, method: &M, request: Option<u64>) -> Result<(), Error> {
        if DEDICATED.contains(&M::ID) {
            return Err(dedicated(M::ID));
        }
        self.send_request(number, method, request)
    }

    /// Client: sends a request as [`Connection::request`] does, given the payload that [`Encode::encode`] makes.
    ///
    /// # Errors
    /// The errors of [`Connection::request`]; the caller's fault also if the payload is no method.
    pub fn request_encoded(&mut self, number: u16, payload: &[u8], request: Option<u64>) -> Result<(), Error> {
        let id = MethodId::peek(payload).map_err(|error| error.while_sending("request"))?;
        if DEDICATED.contains(&id) {
            return Err(dedicated(id));
        }
        let encode = |out: &mut Vec<u8>| {
            out.extend_from_slice(payload);
            Ok(())
        };
        self.send_any_request(number, id, &encode, request)
    }

    fn send_request<M: Encode>(&mut self, number: u16, method: &M, request: Option<u64>) -> Result<(), Error> {
        self.send_any_request(number, M::ID, &|out| method.encode(out), request)
    }

    /// Sends the request that `encode` writes, with code that all requests share: requests are too rare to specialize.
    fn send_any_request(
        &mut self,
        number: u16,
        id: MethodId,
        encode: &dyn Fn(&mut Vec<u8>) -> Result<(), Error>,
        request: Option<u64>,
    ) -> Result<(), Error> {
        let start = self.begin_request(number, id)?;
        let frame_max = self.tuning.frame_max as usize;
        put_payload(self.output.frames(), frame_max, number, id, encode)?;
        self.finish_request(number, id, start, request)
    }

    /// Checks that a request may be sent. Returns where in the output it will begin.
    fn begin_request(&mut self, number: u16, id: MethodId) -> Result<usize, Error> {
        self.check_open()?;
        let in_handshake_only = id.class == CLASS_CONNECTION && id != MethodId::CONNECTION_UPDATE_SECRET;
        if !id.is_synchronous() || !id.from_client() || in_handshake_only {
            let text = format!("{id} cannot be sent with request(): it is not a request of clients");
            return Err(Violation::NotARequest { method: id }.by_caller(text));
        }
        if (id.class == CLASS_CONNECTION) != (number == 0) {
            let text = format!("{id} cannot be sent on channel {number}");
            return Err(Violation::WrongChannel { method: id, channel: number }.by_caller(text));
        }
        let waiting = if number == 0 { self.pending.len() } else { self.open_channel_mut(number)?.pending.len() };
        if waiting >= MAX_PENDING {
            let text = format!("{waiting} requests of channel {number} wait for a reply; await some of them first");
            return Err(Violation::TooManyRequests { channel: number }.by_caller(text));
        }
        Ok(self.output.frames().len())
    }

    /// Records the expected reply to a request that begins at `start` in the output.
    fn finish_request(&mut self, number: u16, id: MethodId, start: usize, request: Option<u64>) -> Result<(), Error> {
        let frames = self.output.frames();
        if is_nowait(&Method::decode(&frames[start + HEAD..frames.len() - 1])?) {
            frames.truncate(start);
            let text = format!("{id} cannot be sent with nowait: it would have no reply");
            return Err(Violation::NotARequest { method: id }.by_caller(text));
        }
        let expects = reply_of(id);
        if number == 0 {
            self.pending.push_back(Pending { request, expects, no_ack: false, started: 0, consumer: None });
            return Ok(());
        }
        let channel = self.open_channel_mut(number)?;
        channel.apply_request(id);
        channel.expect(request, expects);
        Ok(())
    }

    /// Client: starts a consumer. Its deliveries carry `key`.
    ///
    /// # Errors
    /// The errors of [`Connection::request`]; the caller's fault also if the consumer tag is empty or in use on this
    /// channel. The client must choose the tag, because a delivery may arrive before a tag that the server chose.
    pub fn consume(
        &mut self,
        number: u16,
        method: &basic::Consume<'_>,
        key: u64,
        request: Option<u64>,
    ) -> Result<(), Error> {
        let tag: Box<[u8]> = method.consumer_tag.as_bytes().into();
        if tag.is_empty() || self.open_channel_mut(number)?.consumers.find(&tag).is_some() {
            let text = format!("consumer tag {} is empty or in use; choose another one", Quoted(method.consumer_tag));
            return Err(Violation::ConsumerTag.by_caller(text));
        }
        self.send_request(number, method, request)?;
        let no_ack = method.no_ack;
        let channel = self.open_channel_mut(number)?;
        channel.expect_of_consumer(&tag);
        channel.ended_no_ack.retain(|ended| *ended != tag);
        channel.started += 1;
        let number = channel.started;
        channel.consumers.insert(Consumer { tag, key, no_ack, number });
        Ok(())
    }

    /// Client: cancels a consumer. The reply is an [`Event::Reply`].
    ///
    /// # Errors
    /// The errors of [`Connection::request`].
    pub fn cancel(&mut self, number: u16, tag: &str, request: Option<u64>) -> Result<(), Error> {
        self.send_request(number, &basic::Cancel { consumer_tag: tag, nowait: false }, request)?;
        self.open_channel_mut(number)?.expect_of_consumer(tag.as_bytes());
        Ok(())
    }

    /// Client: asks for one message of a queue. The reply is an [`Event::Got`], or an [`Event::Reply`] with
    /// `basic.get-empty`.
    ///
    /// # Errors
    /// The errors of [`Connection::request`].
    pub fn get(&mut self, number: u16, method: &basic::Get<'_>, request: Option<u64>) -> Result<(), Error> {
        self.send_request(number, method, request)?;
        if let Some(pending) = self.open_channel_mut(number)?.pending.back_mut() {
            pending.no_ack = method.no_ack;
        }
        Ok(())
    }

    /// Client: puts the channel into confirm mode, unless it is already. The next publish has tag 1.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or is transactional.
    pub fn confirm_select(&mut self, number: u16) -> Result<(), Error> {
        let channel = self.open_channel_mut(number)?;
        if channel.transactional {
            let text = "a transactional channel cannot confirm publishes; use another channel";
            return Err(Violation::ChannelMode.by_caller(text));
        }
        if channel.confirms.is_none() {
            self.send_request(number, &confirm::Select { nowait: false }, None)?;
            self.open_channel_mut(number)?.confirms = Some(Confirms::new());
        }
        Ok(())
    }

    /// Client: makes the channel transactional. The reply is an [`Event::Reply`].
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or is in confirm mode.
    pub fn tx_select(&mut self, number: u16, request: Option<u64>) -> Result<(), Error> {
        if self.open_channel_mut(number)?.confirms.is_some() {
            let text = "a channel in confirm mode cannot be transactional; use another channel";
            return Err(Violation::ChannelMode.by_caller(text));
        }
        self.send_request(number, &tx::Select {}, request)?;
        self.open_channel_mut(number)?.transactional = true;
        Ok(())
    }

    /// Client: publishes a message. Returns its tag if the channel is in confirm mode.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or the route or the properties cannot be encoded. Nothing is sent
    /// then.
    #[inline]
    pub fn publish(
        &mut self,
        number: u16,
        route: Route<'_>,
        properties: Properties<&[u8]>,
        body: Body<'_>,
    ) -> Result<Option<u64>, Error> {
        self.open_channel_mut(number)?;
        let Route { exchange, routing_key, mandatory } = route;
        let method = basic::Publish { exchange, routing_key, mandatory, immediate: false };
        let kept = mandatory.then(|| body.clone());
        self.send_content(number, &method, properties, body)?;
        self.published(number, kept.map(|body| (route, properties, body)))
    }

    /// Client: publishes a message whose route and properties are encoded already. Returns its tag if the channel is in
    /// confirm mode.
    ///
    /// # Errors
    /// The caller's fault, if the channel is not open or the frames are larger than the peer takes. Nothing is sent
    /// then.
    #[inline]
    pub fn publish_prepared(&mut self, number: u16, message: &Prepared, body: Body<'_>) -> Result<Option<u64>, Error> {
        let Self { state, channels, tuning, output, .. } = self;
        let channel = usable(*state, channels, number)?;
        let frame_max = tuning.frame_max as usize;
        message.check_size(frame_max)?;
        let size = body.bytes().len();
        if message.is_mandatory() || size == 0 || size >= UNCOPIED || size + OVERHEAD > frame_max {
            return self.publish_prepared_parts(number, message, body);
        }
        message.put_whole(output.frames(), number, body.bytes());
        Ok(channel.confirms.as_mut().map(Confirms::published))
    }

    /// Publishes a message that is mandatory, or has no body, or one that is not copied into one frame.
    fn publish_prepared_parts(
        &mut self,
        number: u16,
        message: &Prepared,
        body: Body<'_>,
    ) -> Result<Option<u64>, Error> {
        let kept = message.is_mandatory().then(|| body.clone());
        message.put(self.output.frames(), number, body.bytes().len());
        self.put_body(number, body);
        self.published(number, kept.map(|body| (message.route(), message.properties(), body)))
    }

    /// Counts a publish. Returns its tag if the channel is in confirm mode.
    #[inline]
    fn published(
        &mut self,
        number: u16,
        mandatory: Option<(Route<'_>, Properties<&[u8]>, Body<'_>)>,
    ) -> Result<Option<u64>, Error> {
        let Some(confirms) = &mut self.open_channel_mut(number)?.confirms else { return Ok(None) };
        let tag = confirms.published();
        if let Some((route, properties, body)) = mandatory {
            confirms.remember(tag, (route.exchange, route.routing_key), properties, body.bytes());
        }
        Ok(Some(tag))
    }

    /// Client: returns whether a publish waits for its confirm.
    #[inline]
    pub fn is_unconfirmed(&self, number: u16, tag: u64) -> bool {
        self.confirms(number).is_some_and(|confirms| confirms.outstanding.contains(tag))
    }

    /// Client: returns how many publishes of a channel wait for a confirm.
    pub fn unconfirmed(&self, number: u16) -> usize {
        self.confirms(number).map_or(0, |confirms| confirms.outstanding.len())
    }

    /// Client: returns whether a channel is in confirm mode.
    pub fn is_confirming(&self, number: u16) -> bool {
        self.confirms(number).is_some()
    }

    /// Client: returns whether a channel is transactional.
    pub fn is_transactional(&self, number: u16) -> bool {
        self.channel(number).is_some_and(|channel| channel.transactional)
    }

    /// Client: returns how many deliveries of a channel are unacked.
    pub fn unacked(&self, number: u16) -> usize {
        self.channel(number).map_or(0, |channel| channel.unacked.len())
    }

    /// Client: returns whether publishing is allowed: the connection is not blocked and the channel not paused by
    /// `channel.flow`.
    #[inline]
    pub fn may_publish(&self, number: u16) -> bool {
        !self.blocked && self.channel(number).is_none_or(|channel| channel.flow)
    }

    /// Client: returns how many deliveries named an unknown consumer. They were requeued.
    pub fn unknown_deliveries(&self) -> u64 {
        self.unknown_deliveries
    }

    fn channel(&self, number: u16) -> Option<&Channel> {
        self.channels.get(usize::from(number))?.as_deref()
    }

    fn confirms(&self, number: u16) -> Option<&Confirms> {
        self.channel(number)?.confirms.as_ref()
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.state == State::Open {
            return Ok(());
        }
        Err(Violation::ConnectionNotOpen.by_caller("the connection is not open"))
    }

    #[inline]
    pub(super) fn open_channel_mut(&mut self, number: u16) -> Result<&mut Channel, Error> {
        usable(self.state, &mut self.channels, number)
    }

    #[inline]
    pub(super) fn content_from_server(&mut self, number: u16, content: &Content) -> Result<Option<Purpose>, Error> {
        let Some(channel) = self.channels.get_mut(usize::from(number)).and_then(Option::as_deref_mut) else {
            return Err(not_open(number));
        };
        if channel.phase == Phase::Closing {
            return Ok(None);
        }
        match content.kind() {
            ContentKind::Deliver => self.delivery(number, content),
            ContentKind::GetOk => {
                channel.delivered_by_get(content)?;
                let request = channel.take_pending(ContentKind::GetOk.method(), None)?.request;
                Ok(request.map(|request| Purpose::Got { request }))
            }
            ContentKind::Return => {
                content.try_arguments()?;
                let tag = channel.confirms.as_mut().and_then(|confirms| confirms.returned(content));
                Ok(Some(Purpose::Returned { tag }))
            }
            ContentKind::Publish => Err(forbidden(MethodId::BASIC_PUBLISH)),
        }
    }

    #[inline]
    fn delivery(&mut self, number: u16, content: &Content) -> Result<Option<Purpose>, Error> {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else { return Err(not_open(number)) };
        let (consumer_tag, delivery_tag) = content.delivery()?;
        let Some(&Consumer { key: consumer, no_ack, .. }) = channel.consumers.find(consumer_tag) else {
            self.unknown_deliveries += 1;
            // Deliveries of a consumer without acks are settled: the broker would close the channel for a reject (406).
            if !channel.ended_no_ack.iter().any(|tag| **tag == *consumer_tag) {
                self.send(number, &basic::Reject { delivery_tag, requeue: true })?;
            }
            return Ok(None);
        };
        if !no_ack {
            channel.delivered(delivery_tag)?;
        }
        Ok(Some(Purpose::Delivery { consumer, delivery_tag }))
    }

    pub(super) fn method_from_server(
        &mut self,
        number: u16,
        id: MethodId,
        payload: Bytes,
    ) -> Result<Option<Event>, Error> {
        if number == 0 {
            return self.connection_method(id, payload);
        }
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else { return Err(not_open(number)) };
        if id.class == CLASS_CHANNEL && (id == channel::Close::ID || id == channel::CloseOk::ID) {
            return self.channel_end(number, id, &payload);
        }
        if channel.phase == Phase::Closing {
            return Ok(None);
        }
        let method = Method::decode(&payload)?;
        if id.is_reply() {
            let consumer = match &method {
                Method::BasicConsumeOk(ok) => Some(ok.consumer_tag.as_bytes()),
                Method::BasicCancelOk(ok) => Some(ok.consumer_tag.as_bytes()),
                _ => None,
            };
            let pending = channel.take_pending(id, consumer)?;
            channel.apply_reply(&method, &pending);
            return Ok(pending.request.map(|request| Event::Reply { channel: number, request, payload }));
        }
        match method {
            Method::BasicAck(ack) => confirmed(number, channel, ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => confirmed(number, channel, nack.delivery_tag, nack.multiple, false),
            Method::BasicCancel(cancel) => {
                let consumer = channel.remove_consumer(cancel.consumer_tag.as_bytes());
                if !cancel.nowait {
                    self.send(number, &basic::CancelOk { consumer_tag: cancel.consumer_tag })?;
                }
                Ok(consumer.map(|consumer| Event::ConsumerCancelled { channel: number, consumer: consumer.key }))
            }
            Method::ChannelFlow(flow) => {
                channel.flow = flow.active;
                self.send(number, &channel::FlowOk { active: flow.active })?;
                Ok(Some(Event::Flow { channel: number, active: flow.active }))
            }
            _ => Err(unexpected(id)),
        }
    }

    fn channel_end(&mut self, number: u16, id: MethodId, payload: &[u8]) -> Result<Option<Event>, Error> {
        let Some(channel) = self.channel_mut(number) else { return Err(not_open(number)) };
        let was_closing = channel.phase == Phase::Closing;
        match Method::decode(payload)? {
            Method::ChannelClose(close) => {
                self.send(number, &channel::CloseOk {})?;
                // Both peers close at once: the reply to this end's close must still arrive.
                if was_closing {
                    return Ok(None);
                }
                self.remove_channel(number);
                let method = MethodId { class: close.class_id, method: close.method_id };
                let reason = CloseReason { code: close.reply_code, text: close.reply_text.to_owned(), method };
                Ok(Some(Event::ChannelClosed { channel: number, reason }))
            }
            _ if was_closing => {
                let request = channel.take_pending(id, None)?.request;
                self.remove_channel(number);
                let payload = Bytes::copy_from_slice(payload);
                Ok(request.map(|request| Event::Reply { channel: number, request, payload }))
            }
            _ => Err(unexpected(id)),
        }
    }

    fn connection_method(&mut self, id: MethodId, payload: Bytes) -> Result<Option<Event>, Error> {
        match Method::decode(&payload)? {
            Method::ConnectionBlocked(blocked) => {
                self.blocked = true;
                Ok(Some(Event::Blocked { reason: blocked.reason.to_owned() }))
            }
            Method::ConnectionUnblocked(_) => {
                self.blocked = false;
                Ok(Some(Event::Unblocked))
            }
            Method::ConnectionUpdateSecretOk(_) => match self.pending.pop_front() {
                Some(Pending { request: Some(request), expects, .. }) if expects == id => {
                    Ok(Some(Event::Reply { channel: 0, request, payload }))
                }
                Some(Pending { request: None, .. }) => Ok(None),
                _ => Err(unexpected(id)),
            },
            _ => Err(unexpected(id)),
        }
    }
}

impl Channel {
    fn delivered_by_get(&mut self, content: &Content) -> Result<(), Error> {
        let tag = content.try_arguments()?.delivery_tag;
        match self.pending.iter().find(|pending| pending.consumer.is_none()) {
            Some(pending) if pending.no_ack => Ok(()),
            _ => self.delivered(tag),
        }
    }

    fn apply_reply(&mut self, reply: &Method<'_>, pending: &Pending) {
        match reply {
            Method::ChannelOpenOk(_) => self.phase = Phase::Open,
            Method::BasicCancelOk(cancel) => {
                // If cancels of both peers crossed, the tag may belong to a new consumer.
                let tag = cancel.consumer_tag.as_bytes();
                if self.consumers.find(tag).is_some_and(|consumer| consumer.number <= pending.started) {
                    self.remove_consumer(tag);
                }
            }
            Method::BasicRecoverOk(_) => self.recovering = self.recovering.saturating_sub(1),
            _ => {}
        }
    }
}

/// Requests with dedicated calls, because they change the state of a channel.
const DEDICATED: [MethodId; 7] = [
    MethodId::CHANNEL_OPEN,
    MethodId::CHANNEL_CLOSE,
    MethodId::BASIC_CONSUME,
    MethodId::BASIC_CANCEL,
    MethodId::BASIC_GET,
    MethodId::CONFIRM_SELECT,
    MethodId::TX_SELECT,
];

#[cold]
fn dedicated(method: MethodId) -> Error {
    let text = format!("{method} cannot be sent with request(); use its dedicated method");
    Violation::NotARequest { method }.by_caller(text)
}

/// Returns whether the request asks for no reply.
fn is_nowait(request: &Method<'_>) -> bool {
    match request {
        Method::ExchangeDeclare(declare) => declare.nowait,
        Method::ExchangeDelete(delete) => delete.nowait,
        Method::ExchangeBind(bind) => bind.nowait,
        Method::ExchangeUnbind(unbind) => unbind.nowait,
        Method::QueueDeclare(declare) => declare.nowait,
        Method::QueueBind(bind) => bind.nowait,
        Method::QueuePurge(purge) => purge.nowait,
        Method::QueueDelete(delete) => delete.nowait,
        Method::BasicConsume(consume) => consume.nowait,
        Method::BasicCancel(cancel) => cancel.nowait,
        Method::ConfirmSelect(select) => select.nowait,
        _ => false,
    }
}

/// Returns an open channel.
#[inline]
fn usable(state: State, channels: &mut [Option<Box<Channel>>], number: u16) -> Result<&mut Channel, Error> {
    match channels.get_mut(usize::from(number)) {
        Some(Some(channel)) if state == State::Open && channel.phase != Phase::Closing => Ok(channel),
        _ => Err(cannot_use(number)),
    }
}

fn confirmed(number: u16, channel: &mut Channel, tag: u64, multiple: bool, ack: bool) -> Result<Option<Event>, Error> {
    let Some(confirms) = &mut channel.confirms else {
        let text = format!("received a confirm on channel {number}, which is not in confirm mode");
        return Err(Violation::ChannelMode.by_peer(code::COMMAND_INVALID, text));
    };
    let range = confirms.settle(tag, multiple)?;
    Ok(range.map(|(first, last)| Event::Confirmed { channel: number, first, last, ack }))
}
