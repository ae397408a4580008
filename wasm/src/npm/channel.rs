//! Channels: publishing, declarations and settling.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hopmq::{Channel, Confirm, Error, ErrorKind, Properties, Result};
use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;

use super::consumer::RawConsumer;
use super::delivery_batch::DeliveryBatch;
use super::publish_outcomes::PublishOutcomes;
use super::{done, promise, table, thrown};

#[wasm_bindgen]
pub struct RawChannel {
    channel: Channel,
    outcomes: Rc<PublishOutcomes>,
}

/// Exchange, routing key and properties of a publish, concatenated in `bytes`.
struct Address {
    bytes: Vec<u8>,
    key_start: usize,
    properties_start: usize,
    flags: u16,
    mandatory: bool,
}

impl Address {
    fn text(&self, from: usize, to: usize) -> Result<&str> {
        let bytes = self.bytes.get(from..to).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map_err(|_| Error::new(ErrorKind::Usage, "the exchange name or routing key is not valid UTF-8"))
    }

    fn exchange(&self) -> Result<&str> {
        self.text(0, self.key_start)
    }

    fn key(&self) -> Result<&str> {
        self.text(self.key_start, self.properties_start)
    }

    fn properties(&self) -> Properties<&[u8]> {
        Properties::from_parts(self.flags, self.bytes.get(self.properties_start..).unwrap_or_default())
    }
}

const MANDATORY: u32 = 1 << 16;

// Flags of a declaration, as in `wasm/npm/src/channel.ts`.
const PASSIVE: u32 = 1;
const DURABLE: u32 = 2;
const EXCLUSIVE: u32 = 4;
const AUTO_DELETE: u32 = 8;
const INTERNAL: u32 = 16;

/// Publishes if the send buffer has room now; returns `None` otherwise.
fn try_publish(channel: &Channel, address: &Address, body: Bytes, confirmed: bool) -> Result<Option<Option<Confirm>>> {
    let properties = address.properties();
    let mut publish = channel.publish(address.exchange()?, address.key()?, body).properties(&properties);
    if address.mandatory {
        publish = publish.mandatory();
    }
    let context = &mut Context::from_waker(Waker::noop());
    if confirmed {
        match pin!(publish.confirm_later()).poll(context) {
            Poll::Ready(confirm) => Ok(Some(Some(confirm?))),
            Poll::Pending => Ok(None),
        }
    } else {
        match pin!(publish.send()).poll(context) {
            Poll::Ready(sent) => sent.map(|()| Some(None)),
            Poll::Pending => Ok(None),
        }
    }
}

async fn publish_when_there_is_room(channel: Channel, address: Address, body: Bytes, confirmed: bool) -> Result<()> {
    let properties = address.properties();
    let mut publish = channel.publish(address.exchange()?, address.key()?, body).properties(&properties);
    if address.mandatory {
        publish = publish.mandatory();
    }
    if confirmed { publish.confirm().await } else { publish.send().await }
}

#[wasm_bindgen]
impl RawChannel {
    pub(super) fn new(channel: Channel, settled: Function) -> Self {
        Self { channel, outcomes: PublishOutcomes::new(settled) }
    }

    #[wasm_bindgen(getter)]
    pub fn id(&self) -> u16 {
        self.channel.id()
    }

    #[wasm_bindgen(js_name = isOpen)]
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// Publishes if the send buffer has room. Returns the number under which the outcome is reported, 0 without
    /// `confirmed`, or -1 if there was no room and nothing was sent.
    ///
    /// `address` is exchange, routing key and properties, concatenated; `exchange` and `key` are the lengths of the
    /// first two. `flags` are the property flags and [`MANDATORY`].
    pub fn publish(
        &self,
        address: Vec<u8>,
        exchange: u32,
        key: u32,
        flags: u32,
        body: Vec<u8>,
        confirmed: bool,
    ) -> Result<f64, JsValue> {
        let address = new_address(address, exchange, key, flags);
        match try_publish(&self.channel, &address, body.into(), confirmed).map_err(|error| thrown(&error))? {
            None => Ok(-1.0),
            Some(None) => Ok(0.0),
            Some(Some(confirm)) => Ok(self.outcomes.watch(confirm).into()),
        }
    }

    /// Publishes once the send buffer has room, after the publishes that already wait. Takes the arguments of
    /// `publish`, and returns the number under which the outcome is reported.
    #[wasm_bindgen(js_name = publishLater)]
    pub fn publish_later(
        &self,
        address: Vec<u8>,
        exchange: u32,
        key: u32,
        flags: u32,
        body: Vec<u8>,
        confirmed: bool,
    ) -> f64 {
        let address = new_address(address, exchange, key, flags);
        self.outcomes.watch(publish_when_there_is_room(self.channel.clone(), address, body.into(), confirmed)).into()
    }

    /// Settles deliveries. `how` is 0 for ack, 1 for nack, 2 for reject; plus 4 for `multiple`, plus 8 to requeue.
    pub fn settle(&self, tag: f64, link: u32, how: u32) -> Result<(), JsValue> {
        let acker = self.channel.acker(tag as u64, link);
        let multiple = how & 4 != 0;
        let requeue = how & 8 != 0;
        let settled = match (how & 3, multiple) {
            (0, false) => acker.ack(),
            (0, true) => acker.ack_multiple(),
            (1, false) => acker.nack(requeue),
            (1, true) => acker.nack_multiple(requeue),
            _ => acker.reject(requeue),
        };
        // The outcome says whether the link is lost; the broker redelivers in that case.
        settled.map(drop).map_err(|error| thrown(&error))
    }

    /// Declares a queue. Resolves with `[queue, messages, consumers]`.
    #[wasm_bindgen(js_name = declareQueue)]
    pub fn declare_queue(&self, name: &str, flags: u32, arguments: Vec<u8>) -> Result<Promise, JsValue> {
        let mut declare = self.channel.queue(name).arguments(&table(arguments)?);
        if flags & DURABLE != 0 {
            declare = declare.durable();
        }
        if flags & EXCLUSIVE != 0 {
            declare = declare.exclusive();
        }
        if flags & AUTO_DELETE != 0 {
            declare = declare.auto_delete();
        }
        let request = if flags & PASSIVE != 0 { declare.declare_passive() } else { declare.declare() };
        Ok(promise(request, |queue| {
            let messages = queue.message_count().into();
            let consumers = queue.consumer_count().into();
            Array::of3(&RawQueue { queue }.into(), &messages, &consumers).into()
        }))
    }

    #[wasm_bindgen(js_name = declareExchange)]
    pub fn declare_exchange(&self, name: &str, kind: &str, flags: u32, arguments: Vec<u8>) -> Result<Promise, JsValue> {
        let mut declare = self.channel.exchange(name).kind(kind);
        for (key, value) in table(arguments)?.iter() {
            declare = declare.argument(key, value);
        }
        if flags & DURABLE != 0 {
            declare = declare.durable();
        }
        if flags & INTERNAL != 0 {
            declare = declare.internal();
        }
        if flags & AUTO_DELETE != 0 {
            declare = declare.auto_delete();
        }
        let request = if flags & PASSIVE != 0 { declare.declare_passive() } else { declare.declare() };
        Ok(promise(request, |_| JsValue::UNDEFINED))
    }

    /// Binds or unbinds a queue, or an exchange to an exchange.
    pub fn bind(
        &self,
        undo: bool,
        of_exchange: bool,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Vec<u8>,
    ) -> Result<Promise, JsValue> {
        let channel = &self.channel;
        let arguments = table(arguments)?;
        Ok(done(match (of_exchange, undo) {
            (false, false) => channel.queue_bind(destination, source, key, arguments),
            (false, true) => channel.queue_unbind(destination, source, key, arguments),
            (true, false) => channel.exchange_bind(destination, source, key, arguments),
            (true, true) => channel.exchange_unbind(destination, source, key, arguments),
        }))
    }

    pub fn purge(&self, queue: &str) -> Promise {
        promise(self.channel.queue_purge(queue), JsValue::from)
    }

    #[wasm_bindgen(js_name = deleteQueue)]
    pub fn delete_queue(&self, name: &str, if_unused: bool, if_empty: bool) -> Promise {
        let mut delete = self.channel.queue_delete(name);
        if if_unused {
            delete = delete.if_unused();
        }
        if if_empty {
            delete = delete.if_empty();
        }
        promise(delete.delete(), JsValue::from)
    }

    #[wasm_bindgen(js_name = deleteExchange)]
    pub fn delete_exchange(&self, name: &str, if_unused: bool) -> Promise {
        let mut delete = self.channel.exchange_delete(name);
        if if_unused {
            delete = delete.if_unused();
        }
        done(delete.delete())
    }

    /// Fetches one message. Resolves with `[batch of one, messages left in the queue]`, or `undefined` if the queue is
    /// empty.
    pub fn get(&self, queue: &str, no_ack: bool) -> Promise {
        let request = if no_ack { self.channel.get_no_ack(queue) } else { self.channel.get(queue) };
        promise(request, |delivery| {
            let Some(delivery) = delivery else { return JsValue::UNDEFINED };
            let mut batch = DeliveryBatch::default();
            batch.push(delivery.delivery_tag(), delivery.link(), delivery.redelivered(), &delivery);
            Array::of2(&batch.take(), &delivery.message_count().into()).into()
        })
    }

    /// Starts a consumer.
    pub fn consume(
        &self,
        queue: &str,
        tag: Option<String>,
        prefetch: Option<u16>,
        no_ack: bool,
        exclusive: bool,
        arguments: Vec<u8>,
    ) -> Result<Promise, JsValue> {
        let mut consume = self.channel.consume(queue);
        if let Some(tag) = &tag {
            consume = consume.tag(tag);
        }
        if let Some(prefetch) = prefetch {
            consume = consume.prefetch(prefetch);
        }
        if no_ack {
            consume = consume.no_ack();
        }
        if exclusive {
            consume = consume.exclusive();
        }
        for (key, value) in table(arguments)?.iter() {
            consume = consume.argument(key, value);
        }
        Ok(promise(consume.start(), |consumer| RawConsumer::new(consumer).into()))
    }

    pub fn prefetch(&self, count: u16, shared: bool) -> Promise {
        done(if shared { self.channel.prefetch_shared(count) } else { self.channel.prefetch(count) })
    }

    /// Calls `listener` with batch of one, code and reason for each returned message that was published without a
    /// confirm.
    pub fn returns(&self, listener: Function) {
        let mut returns = self.channel.returns();
        wasm_bindgen_futures::spawn_local(async move {
            while let Some(returned) = futures_lite::StreamExt::next(&mut returns).await {
                let mut batch = DeliveryBatch::default();
                batch.push(0, 0, false, &returned);
                let code = returned.code().into();
                let reason = returned.reason().into();
                // TypeScript reports what a listener throws.
                let _ = listener.call3(&JsValue::UNDEFINED, &batch.take(), &code, &reason);
            }
        });
    }

    pub fn recover(&self) -> Promise {
        done(self.channel.recover())
    }

    /// Controls a transaction: 0 is select, 1 commit, 2 rollback.
    pub fn tx(&self, step: u32) -> Promise {
        done(match step {
            0 => self.channel.tx_select(),
            1 => self.channel.tx_commit(),
            _ => self.channel.tx_rollback(),
        })
    }

    pub fn flow(&self, active: bool) -> Promise {
        promise(self.channel.flow(active), JsValue::from)
    }

    pub fn close(&self) -> Promise {
        done(self.channel.close())
    }
}

fn new_address(bytes: Vec<u8>, exchange: u32, key: u32, flags: u32) -> Address {
    let key_start = exchange as usize;
    let properties_start = key_start + key as usize;
    Address { bytes, key_start, properties_start, flags: flags as u16, mandatory: flags & MANDATORY != 0 }
}

/// A declared queue.
#[wasm_bindgen]
pub struct RawQueue {
    queue: hopmq::Queue,
}

#[wasm_bindgen]
impl RawQueue {
    /// Returns the name. A name that the broker generated changes after a reconnect.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.queue.name().to_owned()
    }
}
