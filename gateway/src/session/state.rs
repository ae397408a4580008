//! What the loops of a session share, and its two sides.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::end::End;
use super::socket::{Allowance, Socket};
use crate::admission::limits::Permit;
use crate::amqp::framer::Framer;
use crate::amqp::proxy::{AmqpProxy, Stage};
use crate::amqp::verdict::Side;
use crate::context::Context;
use crate::upstream::Stream;

/// What the loops of a session share. Never locked across an await.
pub(super) struct Common {
    /// What may be read of the browser until it is known.
    pub(super) allowance: Arc<Allowance>,
    /// The place of the user, once it is known who it is.
    pub(super) user: Mutex<Option<Permit>>,
    pub(super) proxy: Mutex<AmqpProxy>,
    pub(super) pulse: Mutex<Pulse>,
    /// The stage changed.
    pub(super) moved: Notify,
    /// There is something in `Pulse::ping` or for the browser.
    pub(super) speak: Notify,
}

/// Signs of life.
pub(super) struct Pulse {
    /// When something came from the browser.
    pub(super) heard: Instant,
    /// RabbitMQ takes nothing, so nothing is read from the browser, and its silence says nothing.
    pub(super) deaf: bool,
    /// A ping is to be sent.
    pub(super) ping: bool,
}

/// The browser's two directions.
pub(super) struct Browser {
    pub(super) sink: SplitSink<Socket, Message>,
    pub(super) stream: SplitStream<Socket>,
    pub(super) framer: Framer,
}

/// RabbitMQ's two directions.
pub(super) struct Rabbit {
    pub(super) read: ReadHalf<Stream>,
    pub(super) write: WriteHalf<Stream>,
    pub(super) framer: Framer,
    /// What is being written.
    pub(super) pending: VecDeque<Bytes>,
}

impl Common {
    pub(super) fn proxy(&self) -> MutexGuard<'_, AmqpProxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts what has come of one side, and tells of it. Returns how many messages were published too.
    pub(super) fn cut(
        &self,
        context: &Context,
        framer: &mut Framer,
        from: Side,
        out: &mut VecDeque<Bytes>,
    ) -> (Result<(), hopmq_proto::Error>, u64) {
        let mut proxy = self.proxy();
        let before = proxy.stage();
        let outcome = framer.cut(&mut proxy, from, out);
        let published = proxy.counts.published;
        context.metrics.count(&mut proxy.counts);
        if proxy.stage() != before {
            self.allowance.lift();
            self.moved.notify_one();
        }
        if proxy.has_to_browser() {
            self.speak.notify_one();
        }
        (outcome, published)
    }

    /// Notes what the user sent, and returns how long they must pause.
    pub(super) fn spend(&self, messages: u64, bytes: u64) -> Duration {
        let user = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        user.as_ref().map_or(Duration::ZERO, |place| place.spend(messages, bytes, Instant::now()))
    }

    pub(super) fn end_of_upstream(&self, why: &str) -> End {
        let proxy = self.proxy();
        match proxy.stage() {
            Stage::Closing | Stage::Closed => End::done(),
            _ if proxy.awaits_login() => End::login_refused(),
            _ => End::upstream_lost(why),
        }
    }
}

impl Pulse {
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.ping)
    }
}

/// Writes what is pending. Dropped, it leaves in `pending` what is not written.
pub(super) async fn write_all(write: &mut WriteHalf<Stream>, pending: &mut VecDeque<Bytes>) -> std::io::Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    while let Some(piece) = pending.front_mut() {
        while piece.has_remaining() {
            if write.write_buf(piece).await? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
        }
        pending.pop_front();
    }
    write.flush().await
}
