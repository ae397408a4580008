//! Consumers, which deliver to JavaScript in batches.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::Stream;
use hopmq::{Consumer, Result};
use js_sys::Promise;
use wasm_bindgen::prelude::*;

use super::delivery_batch::DeliveryBatch;
use super::{done, promise};

#[wasm_bindgen]
pub struct RawConsumer {
    state: Rc<RefCell<ConsumerState>>,
}

struct ConsumerState {
    /// `None` after `discard`.
    consumer: Option<Consumer>,
    batch: DeliveryBatch,
    /// How the consumer ended; reported after the last delivery.
    end: Option<Result<()>>,
    /// Wakes the call that waits for the next batch.
    waker: Option<Waker>,
}

impl ConsumerState {
    /// Ready with a batch, or with `undefined` once the consumer was cancelled.
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
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[wasm_bindgen]
impl RawConsumer {
    pub(super) fn new(consumer: Consumer) -> Self {
        let state = ConsumerState { consumer: Some(consumer), batch: DeliveryBatch::default(), end: None, waker: None };
        Self { state: Rc::new(RefCell::new(state)) }
    }

    #[wasm_bindgen(getter)]
    pub fn tag(&self) -> Option<String> {
        self.state.borrow().consumer.as_ref().map(|consumer| consumer.tag().to_owned())
    }

    /// Returns the deliveries received since the last call, or `undefined` if there are none.
    pub fn take(&self) -> JsValue {
        match self.state.borrow_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(batch)) => batch,
            _ => JsValue::UNDEFINED,
        }
    }

    /// Resolves with the next batch, or with `undefined` once the consumer was cancelled. Rejects with the reason if
    /// the consumer ended otherwise.
    pub fn next(&self) -> Promise {
        let state = Rc::clone(&self.state);
        promise(std::future::poll_fn(move |context| state.borrow_mut().poll(context)), |batch| batch)
    }

    /// Asks the broker to stop delivering. Deliveries that were received can still be taken.
    pub fn cancel(&self) -> Promise {
        match &self.state.borrow().consumer {
            Some(consumer) => done(consumer.cancel()),
            None => done(std::future::ready(Ok(()))),
        }
    }

    /// Cancels the consumer and requeues the deliveries that were not taken.
    pub fn discard(&self) {
        let mut state = self.state.borrow_mut();
        let consumer = state.consumer.take();
        let waker = state.waker.take();
        drop(state);
        drop(consumer);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
