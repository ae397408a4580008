//! The stream of a connection's events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::Stream;

use crate::Event;
use crate::state::Shared;
use crate::state::keys::SubscriberKey;

/// A stream of the events of a connection, which ends with [`Event::Closed`].
///
/// The stream buffers the last 256 untaken events; older ones are dropped.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    key: SubscriberKey,
}

impl Events {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let key = shared.subscribe();
        Self { shared, key }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.shared.poll_event(self.key, context.waker())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.unsubscribe(self.key);
    }
}
