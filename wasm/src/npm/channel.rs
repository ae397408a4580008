//! Channels and consumers.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_lite::Stream;
use hopmq::{Channel, Confirm, Consumer, Error, ErrorKind, Properties, Result};
use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;

use super::batch::Batch;
use super::outcomes::Outcomes;
use super::{done, promise, table, thrown};

#[wasm_bindgen]
pub struct RawChannel {
    channel: Channel,
    outcomes: Rc<Outcomes>,
}

/// Where a message goes, and with what: a name, a key and a list of properties, one behind the other.
struct Address {
    bytes: Vec<u8>,
    key: usize,
    list: usize,
    flags: u16,
    mandatory: bool,
}

impl Address {
    fn text(&self, from: usize, to: usize) -> Result<&str> {
        let bytes = self.bytes.get(from..to).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::Usage, "a name that is no text"))
    }

    fn exchange(&self) -> Result<&str> {
        self.text(0, self.key)
    }

    fn key(&self) -> Result<&str> {
        self.text(self.key, self.list)
    }

    fn properties(&self) -> Properties<&[u8]> {
        Properties::from_parts(self.flags, self.bytes.get(self.list..).unwrap_or_default())
    }
}

const MANDATORY: u32 = 1 << 16;

/// What a declaration is to be.
const PASSIVE: u32 = 1;
const DURABLE: u32 = 2;
const EXCLUSIVE: u32 = 4;
const AUTO_DELETE: u32 = 8;
const INTERNAL: u32 = 16;

/// Publishes if there is room now.
fn publish_now(channel: &Channel, address: &Address, body: Bytes, confirmed: bool) -> Result<Option<Option<Confirm>>> {
    let (exchange, key, properties) = (address.exchange()?, address.key()?, address.properties());
    let mut publish = channel.publish(exchange, key, body).properties(&properties);
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

async fn publish_when_it_can(channel: Channel, address: Address, body: Bytes, confirmed: bool) -> Result<()> {
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
        Self { channel, outcomes: Outcomes::new(settled) }
    }

    #[wasm_bindgen(getter)]
    pub fn id(&self) -> u16 {
        self.channel.id()
    }

    #[wasm_bindgen(js_name = isOpen)]
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// Publishes. Returns the number by which the outcome is told; 0 if nobody asked; -1 if there is no room now, and
    /// nothing was sent.
    ///
    /// `address` is exchange, routing key and properties in one, `flags` are those of the properties and
    /// [`MANDATORY`].
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
        match publish_now(&self.channel, &address, body.into(), confirmed).map_err(|error| thrown(&error))? {
            None => Ok(-1.0),
            Some(None) => Ok(0.0),
            Some(Some(confirm)) => Ok(self.outcomes.watch(confirm).into()),
        }
    }

    /// The same, but waits for room, behind those who came before.
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
        self.outcomes.watch(publish_when_it_can(self.channel.clone(), address, body.into(), confirmed)).into()
    }

    /// Settles deliveries: 0 is ack, 1 nack, 2 reject; plus 4 for all before too, plus 8 to requeue.
    pub fn settle(&self, tag: f64, link: u32, how: u32) -> Result<(), JsValue> {
        let acker = self.channel.acker(tag as u64, link);
        let (multiple, requeue) = (how & 4 != 0, how & 8 != 0);
        let settled = match (how & 3, multiple) {
            (0, false) => acker.ack(),
            (0, true) => acker.ack_multiple(),
            (1, false) => acker.nack(requeue),
            (1, true) => acker.nack_multiple(requeue),
            _ => acker.reject(requeue),
        };
        // What came by a link that is lost comes again.
        settled.map(drop).map_err(|error| thrown(&error))
    }

    /// Returns `[queue, messages, consumers]`.
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
            let counts = (queue.message_count().into(), queue.consumer_count().into());
            Array::of3(&RawQueue { queue }.into(), &counts.0, &counts.1).into()
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
        let (channel, arguments) = (&self.channel, table(arguments)?);
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

    /// Resolves with a batch of one and the number of messages that are left, or `undefined`.
    pub fn get(&self, queue: &str, no_ack: bool) -> Promise {
        let request = if no_ack { self.channel.get_no_ack(queue) } else { self.channel.get(queue) };
        promise(request, |delivery| {
            let Some(delivery) = delivery else { return JsValue::UNDEFINED };
            let mut batch = Batch::default();
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
        Ok(promise(consume.start(), |consumer| {
            let state = ConsumerState { consumer: Some(consumer), batch: Batch::default(), end: None, waiting: None };
            RawConsumer { state: Rc::new(RefCell::new(state)) }.into()
        }))
    }

    pub fn prefetch(&self, count: u16, shared: bool) -> Promise {
        done(if shared { self.channel.prefetch_shared(count) } else { self.channel.prefetch(count) })
    }

    /// Calls `told` with the batch of one, the code and the reason of each message that comes back and that no confirm
    /// tells of.
    pub fn returns(&self, told: Function) {
        let mut returns = self.channel.returns();
        wasm_bindgen_futures::spawn_local(async move {
            while let Some(returned) = futures_lite::StreamExt::next(&mut returns).await {
                let mut batch = Batch::default();
                batch.push(0, 0, false, &returned);
                let (code, reason) = (returned.code().into(), returned.reason().into());
                // What a listener throws is its own affair, and reported by TypeScript.
                let _ = told.call3(&JsValue::UNDEFINED, &batch.take(), &code, &reason);
            }
        });
    }

    pub fn recover(&self) -> Promise {
        done(self.channel.recover())
    }

    /// 0 is select, 1 commit, 2 rollback.
    pub fn tx(&self, what: u32) -> Promise {
        done(match what {
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
    let (exchange, key) = (exchange as usize, key as usize);
    Address { bytes, key: exchange, list: exchange + key, flags: flags as u16, mandatory: flags & MANDATORY != 0 }
}

/// A queue that was declared.
#[wasm_bindgen]
pub struct RawQueue {
    queue: hopmq::Queue,
}

#[wasm_bindgen]
impl RawQueue {
    /// Its name. That of the broker's making changes when the connection comes back.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.queue.name().to_owned()
    }
}

#[wasm_bindgen]
pub struct RawConsumer {
    state: Rc<RefCell<ConsumerState>>,
}

struct ConsumerState {
    /// `None` when it was dropped.
    consumer: Option<Consumer>,
    batch: Batch,
    /// How it ended, to be told behind what it delivered.
    end: Option<Result<()>>,
    /// Whoever waits for the next batch.
    waiting: Option<Waker>,
}

impl ConsumerState {
    /// Ready with a batch, or with `undefined` at the end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<JsValue>> {
        let Some(consumer) = &mut self.consumer else { return Poll::Ready(Ok(JsValue::UNDEFINED)) };
        while self.end.is_none() && !self.batch.is_full() {
            match Pin::new(&mut *consumer).poll_next(context) {
                Poll::Ready(Some(Ok(delivery))) => {
                    self.batch.push(delivery.delivery_tag(), delivery.link(), delivery.redelivered(), &delivery);
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        if !self.batch.is_empty() {
            return Poll::Ready(Ok(self.batch.take()));
        }
        match &self.end {
            Some(end) => Poll::Ready(end.clone().map(|()| JsValue::UNDEFINED)),
            None => {
                self.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[wasm_bindgen]
impl RawConsumer {
    #[wasm_bindgen(getter)]
    pub fn tag(&self) -> Option<String> {
        self.state.borrow().consumer.as_ref().map(|consumer| consumer.tag().to_owned())
    }

    /// What came since the last call, if anything did.
    pub fn take(&self) -> JsValue {
        match self.state.borrow_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(batch)) => batch,
            _ => JsValue::UNDEFINED,
        }
    }

    /// The next batch; `undefined` when the consumer was cancelled, rejected with the reason when it ended otherwise.
    pub fn next(&self) -> Promise {
        let state = Rc::clone(&self.state);
        promise(std::future::poll_fn(move |context| state.borrow_mut().poll(context)), |batch| batch)
    }

    /// Asks the broker to stop; what was delivered can still be taken.
    pub fn cancel(&self) -> Promise {
        match &self.state.borrow().consumer {
            Some(consumer) => done(consumer.cancel()),
            None => done(std::future::ready(Ok(()))),
        }
    }

    /// Cancels it, and gives back what was not taken.
    pub fn discard(&self) {
        let mut state = self.state.borrow_mut();
        let consumer = state.consumer.take();
        let waiting = state.waiting.take();
        drop(state);
        drop(consumer);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}
