//! The client's end of an open connection: requests and their answers, publishes and confirms, deliveries and acks.

use bytes::Bytes;

use super::channel::{Channel, Confirms, Consumer, MAX_PENDING, Pending, Phase, reply_of};
use super::{
    ACK_SIZE, Body, CLASS_CHANNEL, CLASS_CONNECTION, CloseReason, Connection, Event, LastAck, Purpose, State,
    put_payload, unasked,
};
use crate::content::ContentKind;
use crate::frame::HEAD;
use crate::method::{Encode, Method, MethodId, basic, channel, confirm, tx};
use crate::{Content, Error, Properties, code};

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// The exchange; empty for the default one, which routes to the queue of the key's name.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// Whether the message comes back if no queue takes it.
    pub mandatory: bool,
}

impl Connection {
    /// Client: opens a channel. The answer is an [`Event::Reply`]; other requests may follow at once.
    ///
    /// # Errors
    /// If the number is 0, taken, or above the agreed highest.
    pub fn open_channel(&mut self, number: u16, request: u64) -> Result<(), Error> {
        self.check_open()?;
        if number == 0 || number > self.tuning.channel_max || self.channel_mut(number).is_some() {
            return Err(Error::caller(format!("channel {number} can't be opened: it is taken or out of range")));
        }
        self.send(number, &channel::Open {})?;
        self.insert_channel(number, Phase::Opening);
        if let Some(channel) = self.channel_mut(number) {
            channel.expect(Some(request), channel::OpenOk::ID);
        }
        Ok(())
    }

    /// Client: the lowest channel number that is free, or `None` if all are taken.
    pub fn free_channel(&self) -> Option<u16> {
        let taken = |number: &u16| self.channels.get(usize::from(*number)).is_some_and(Option::is_some);
        (1..=self.tuning.channel_max).find(|number| !taken(number))
    }

    /// Client: closes a channel. Nothing but the answer, an [`Event::Reply`], counts on it from now on.
    ///
    /// # Errors
    /// If it is not open.
    pub fn close_channel(&mut self, number: u16, code: u16, text: &str, request: Option<u64>) -> Result<(), Error> {
        self.open_channel_mut(number)?;
        self.send(number, &channel::Close { reply_code: code, reply_text: text, class_id: 0, method_id: 0 })?;
        let channel = self.open_channel_mut(number)?;
        channel.phase = Phase::Closing;
        channel.pending.clear();
        channel.expect(request, channel::CloseOk::ID);
        Ok(())
    }

    /// Client: makes a request on a channel, or on 0 for the connection's. The answer is an [`Event::Reply`] (for
    /// `basic.get` an [`Event::Got`] if there is a message), in the order of the requests of that channel.
    ///
    /// `request` is what the event calls it; `None` if nobody wants to know.
    ///
    /// # Errors
    /// If the channel is not open, if an argument can't be encoded, if 65,536 requests wait already, or if the method
    /// is no request: nobody answers it, `nowait` is set (requests don't wait for each other anyway), or there is a
    /// call of its own for it.
    pub fn request<M: Encode>(&mut self, number: u16, method: &M, request: Option<u64>) -> Result<(), Error> {
        if HAVE_THEIR_OWN.contains(&M::ID) {
            return Err(Error::caller(format!("there is a call of its own for {}", M::ID)));
        }
        self.send_request(number, method, request)
    }

    /// Client: the same with the payload of the method's frame, as [`Encode::encode`] makes it.
    ///
    /// # Errors
    /// As for [`Connection::request`], and if it is no method.
    pub fn request_encoded(&mut self, number: u16, payload: &[u8], request: Option<u64>) -> Result<(), Error> {
        let id = MethodId::peek(payload).map_err(|error| Error::caller(error.message().to_owned()))?;
        if HAVE_THEIR_OWN.contains(&id) {
            return Err(Error::caller(format!("there is a call of its own for {id}")));
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

    /// The same for a method that is known by its number: there are many requests, and none is worth code of its own.
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

    /// Whether a request may be sent. Returns where in the output it will begin.
    fn begin_request(&mut self, number: u16, id: MethodId) -> Result<usize, Error> {
        self.check_open()?;
        let in_handshake_only = id.class == CLASS_CONNECTION && id != MethodId::CONNECTION_UPDATE_SECRET;
        if !id.is_synchronous() || !id.from_client() || in_handshake_only {
            return Err(Error::caller(format!("{id} is no request")));
        }
        if (id.class == CLASS_CONNECTION) != (number == 0) {
            return Err(Error::caller(format!("{id} can't be sent on channel {number}")));
        }
        let waiting = if number == 0 { self.pending.len() } else { self.open_channel_mut(number)?.pending.len() };
        if waiting >= MAX_PENDING {
            return Err(Error::caller("65,536 requests of this channel wait for an answer: await some of them first"));
        }
        Ok(self.output.frames().len())
    }

    /// Notes what answer is due to a request that begins at `start` in the output.
    fn finish_request(&mut self, number: u16, id: MethodId, start: usize, request: Option<u64>) -> Result<(), Error> {
        let frames = self.output.frames();
        if is_nowait(&Method::decode(&frames[start + HEAD..frames.len() - 1])?) {
            frames.truncate(start);
            return Err(Error::caller(format!("{id} with nowait: nothing would answer it")));
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

    /// Client: starts a consumer; its deliveries are called `key`.
    ///
    /// # Errors
    /// As for [`Connection::request`], and if the tag is empty or taken on this channel: the client names its
    /// consumers, for a delivery may come before the name of one that the server named is known.
    pub fn consume(
        &mut self,
        number: u16,
        method: &basic::Consume<'_>,
        key: u64,
        request: Option<u64>,
    ) -> Result<(), Error> {
        let tag: Box<[u8]> = method.consumer_tag.as_bytes().into();
        if tag.is_empty() || self.open_channel_mut(number)?.consumer(&tag).is_some() {
            return Err(Error::caller(format!("consumer tag {:?} is empty or taken", method.consumer_tag)));
        }
        self.send_request(number, method, request)?;
        let no_ack = method.no_ack;
        let channel = self.open_channel_mut(number)?;
        channel.expect_of_consumer(&tag);
        channel.ended_no_ack.retain(|ended| *ended != tag);
        channel.started += 1;
        let number = channel.started;
        channel.consumers.push(Consumer { tag, key, no_ack, number });
        Ok(())
    }

    /// Client: cancels a consumer. The answer is an [`Event::Reply`].
    ///
    /// # Errors
    /// As for [`Connection::request`].
    pub fn cancel(&mut self, number: u16, tag: &str, request: Option<u64>) -> Result<(), Error> {
        self.send_request(number, &basic::Cancel { consumer_tag: tag, nowait: false }, request)?;
        self.open_channel_mut(number)?.expect_of_consumer(tag.as_bytes());
        Ok(())
    }

    /// Client: asks for one message of a queue. The answer is an [`Event::Got`], or an [`Event::Reply`] with
    /// `basic.get-empty`.
    ///
    /// # Errors
    /// As for [`Connection::request`].
    pub fn get(&mut self, number: u16, method: &basic::Get<'_>, request: Option<u64>) -> Result<(), Error> {
        self.send_request(number, method, request)?;
        if let Some(pending) = self.open_channel_mut(number)?.pending.back_mut() {
            pending.no_ack = method.no_ack;
        }
        Ok(())
    }

    /// Client: puts the channel into confirm mode, if it is not. Publishes are counted from here on.
    ///
    /// # Errors
    /// If the channel is not open or is transactional.
    pub fn confirm_select(&mut self, number: u16) -> Result<(), Error> {
        let channel = self.open_channel_mut(number)?;
        if channel.transactional {
            return Err(Error::caller("a transactional channel can't confirm publishes: use another channel"));
        }
        if channel.confirms.is_none() {
            self.send_request(number, &confirm::Select { nowait: false }, None)?;
            self.open_channel_mut(number)?.confirms = Some(Confirms::new());
        }
        Ok(())
    }

    /// Client: makes the channel transactional.
    ///
    /// # Errors
    /// If the channel is not open or is in confirm mode.
    pub fn tx_select(&mut self, number: u16, request: Option<u64>) -> Result<(), Error> {
        if self.open_channel_mut(number)?.confirms.is_some() {
            return Err(Error::caller("a channel that confirms publishes can't be transactional: use another channel"));
        }
        self.send_request(number, &tx::Select {}, request)?;
        self.open_channel_mut(number)?.transactional = true;
        Ok(())
    }

    /// Client: publishes a message. Returns its tag if the channel is in confirm mode.
    ///
    /// # Errors
    /// If the channel is not open, or if the route or the properties can't be encoded. Nothing was sent then.
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
        let shared = match &body {
            Body::Shared(bytes) if mandatory => Some(bytes.clone()),
            _ => None,
        };
        let borrowed = match &body {
            Body::Borrowed(bytes) => *bytes,
            Body::Shared(_) => &[],
        };
        let method = basic::Publish { exchange, routing_key, mandatory, immediate: false };
        self.send_content(number, &method, properties, body)?;
        let Some(confirms) = &mut self.open_channel_mut(number)?.confirms else { return Ok(None) };
        let tag = confirms.published();
        if mandatory {
            let body = shared.as_deref().unwrap_or(borrowed);
            confirms.remember(tag, (exchange, routing_key), properties, body);
        }
        Ok(Some(tag))
    }

    /// Client: acknowledges a delivery, or all up to it. Acks that follow each other while they wait to be written
    /// travel as one, if no delivery before them is left unacknowledged.
    ///
    /// # Errors
    /// If the channel is not open, or if the delivery was settled before.
    #[inline]
    pub fn ack(&mut self, number: u16, delivery_tag: u64, multiple: bool) -> Result<(), Error> {
        let channel = self.open_channel_mut(number)?;
        channel.settle(delivery_tag, multiple)?;
        let is_lowest = !channel.transactional && channel.unacked.first().is_none_or(|lowest| lowest > delivery_tag);
        let last = LastAck { channel: number, end: self.output.position() };
        let joins = is_lowest && self.last_ack == Some(last);
        if joins {
            self.output.take_back(ACK_SIZE);
        }
        self.send_often(number, &basic::Ack { delivery_tag, multiple: multiple || joins })?;
        self.last_ack = is_lowest.then(|| LastAck { channel: number, end: self.output.position() });
        Ok(())
    }

    /// Client: gives a delivery back, or all up to it: to the queue, or to its dead-letter exchange.
    ///
    /// # Errors
    /// As for [`Connection::ack`].
    pub fn nack(&mut self, number: u16, delivery_tag: u64, multiple: bool, requeue: bool) -> Result<(), Error> {
        self.open_channel_mut(number)?.settle(delivery_tag, multiple)?;
        self.send(number, &basic::Nack { delivery_tag, multiple, requeue })
    }

    /// Client: gives one delivery back, by the method that every broker knows.
    ///
    /// # Errors
    /// As for [`Connection::ack`].
    pub fn reject(&mut self, number: u16, delivery_tag: u64, requeue: bool) -> Result<(), Error> {
        self.open_channel_mut(number)?.settle(delivery_tag, false)?;
        self.send(number, &basic::Reject { delivery_tag, requeue })
    }

    /// Client: whether a publish waits for its confirm.
    #[inline]
    pub fn is_unconfirmed(&self, number: u16, tag: u64) -> bool {
        self.confirms(number).is_some_and(|confirms| confirms.outstanding.contains(tag))
    }

    /// Client: how many publishes of a channel wait for their confirm.
    pub fn unconfirmed(&self, number: u16) -> usize {
        self.confirms(number).map_or(0, |confirms| confirms.outstanding.len())
    }

    /// Client: whether a channel confirms publishes.
    pub fn is_confirming(&self, number: u16) -> bool {
        self.confirms(number).is_some()
    }

    /// Client: whether a channel is transactional.
    pub fn is_transactional(&self, number: u16) -> bool {
        self.channel(number).is_some_and(|channel| channel.transactional)
    }

    /// Client: how many deliveries of a channel are not settled.
    pub fn unacked(&self, number: u16) -> usize {
        self.channel(number).map_or(0, |channel| channel.unacked.len())
    }

    /// Client: whether the broker and the channel's flow let it publish.
    #[inline]
    pub fn may_publish(&self, number: u16) -> bool {
        !self.blocked && self.channel(number).is_none_or(|channel| channel.flow)
    }

    /// Client: deliveries for consumers that don't exist. They were requeued.
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
        if self.state == State::Open { Ok(()) } else { Err(Error::caller("the connection is not open")) }
    }

    #[inline]
    fn open_channel_mut(&mut self, number: u16) -> Result<&mut Channel, Error> {
        if self.state == State::Open
            && let Some(Some(channel)) = self.channels.get_mut(usize::from(number))
            && channel.phase != Phase::Closing
        {
            return Ok(channel);
        }
        Err(Error::caller(format!("channel {number} is not open")))
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
                let request = channel.answer(ContentKind::GetOk.method(), None)?.request;
                Ok(request.map(|request| Purpose::Got { request }))
            }
            ContentKind::Return => {
                content.try_arguments()?;
                let tag = channel.confirms.as_mut().and_then(|confirms| confirms.returned(content));
                Ok(Some(Purpose::Returned { tag }))
            }
            ContentKind::Publish => Err(Error::peer(code::COMMAND_INVALID, "basic.publish from a server")),
        }
    }

    #[inline]
    fn delivery(&mut self, number: u16, content: &Content) -> Result<Option<Purpose>, Error> {
        let Some(Some(channel)) = self.channels.get_mut(usize::from(number)) else { return Err(not_open(number)) };
        let arguments = content.try_arguments()?;
        let delivery_tag = arguments.delivery_tag;
        let Some(&Consumer { key: consumer, no_ack, .. }) = channel.consumer(arguments.consumer_tag) else {
            self.unknown_deliveries += 1;
            // Those of a consumer without acks are settled, and an unknown tag would cost the channel (406).
            if !channel.ended_no_ack.iter().any(|tag| **tag == *arguments.consumer_tag) {
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
            let pending = channel.answer(id, consumer)?;
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
            _ => Err(unasked(id)),
        }
    }

    fn channel_end(&mut self, number: u16, id: MethodId, payload: &[u8]) -> Result<Option<Event>, Error> {
        let Some(channel) = self.channel_mut(number) else { return Err(not_open(number)) };
        let was_closing = channel.phase == Phase::Closing;
        match Method::decode(payload)? {
            Method::ChannelClose(close) => {
                self.send(number, &channel::CloseOk {})?;
                // If both sides close at once, the answer to ours is still due.
                if was_closing {
                    return Ok(None);
                }
                self.remove_channel(number);
                let method = MethodId { class: close.class_id, method: close.method_id };
                let reason = CloseReason { code: close.reply_code, text: close.reply_text.to_owned(), method };
                Ok(Some(Event::ChannelClosed { channel: number, reason }))
            }
            _ if was_closing => {
                let request = channel.answer(id, None)?.request;
                self.remove_channel(number);
                let payload = Bytes::copy_from_slice(payload);
                Ok(request.map(|request| Event::Reply { channel: number, request, payload }))
            }
            _ => Err(unasked(id)),
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
                _ => Err(unasked(id)),
            },
            _ => Err(unasked(id)),
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
                // If the broker's own cancel crossed ours, the tag may belong to a new consumer by now.
                let tag = cancel.consumer_tag.as_bytes();
                if self.consumer(tag).is_some_and(|consumer| consumer.number <= pending.started) {
                    self.remove_consumer(tag);
                }
            }
            Method::BasicRecoverOk(_) => self.recovering = self.recovering.saturating_sub(1),
            _ => {}
        }
    }
}

/// Requests whose answers change more than the caller's mind.
const HAVE_THEIR_OWN: [MethodId; 7] = [
    MethodId::CHANNEL_OPEN,
    MethodId::CHANNEL_CLOSE,
    MethodId::BASIC_CONSUME,
    MethodId::BASIC_CANCEL,
    MethodId::BASIC_GET,
    MethodId::CONFIRM_SELECT,
    MethodId::TX_SELECT,
];

/// Whether the request asks for no answer.
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

fn confirmed(number: u16, channel: &mut Channel, tag: u64, multiple: bool, ack: bool) -> Result<Option<Event>, Error> {
    let Some(confirms) = &mut channel.confirms else {
        return Err(Error::peer(code::COMMAND_INVALID, "a confirm on a channel that is not in confirm mode"));
    };
    let range = confirms.settle(tag, multiple)?;
    Ok(range.map(|(first, last)| Event::Confirmed { channel: number, first, last, ack }))
}

pub(super) fn not_open(number: u16) -> Error {
    Error::peer(code::CHANNEL_ERROR, format!("something for channel {number}, which is not open"))
}
