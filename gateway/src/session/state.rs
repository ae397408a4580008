//! The state that the loops of a session share, and the streams of its two sides.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use hopmq_proto::Error;
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

/// The state that the loops of a session share. The locks are never held across an await.
pub(super) struct SessionState {
    /// The bytes that may be read from the browser before the login.
    allowance: Arc<Allowance>,
    /// The user's permit, from the login on.
    user: Mutex<Option<Permit>>,
    proxy: Mutex<AmqpProxy>,
    liveness: Mutex<Liveness>,
    /// Notified when the stage of the connection changes.
    pub(super) stage_changed: Notify,
    /// Notified when a ping is due or the gateway has frames for the browser.
    pub(super) output_ready: Notify,
}

/// Signs of life from the browser.
pub(super) struct Liveness {
    /// When the last message arrived.
    pub(super) last_heard: Instant,
    /// Reading is paused because RabbitMQ or a rate limit is slow, so silence proves nothing.
    pub(super) is_paused: bool,
    is_ping_due: bool,
}

/// The two directions of the browser's WebSocket.
pub(super) struct BrowserSide {
    pub(super) sink: SplitSink<Socket, Message>,
    pub(super) stream: SplitStream<Socket>,
    pub(super) framer: Framer,
}

/// The two directions of the connection to RabbitMQ.
pub(super) struct UpstreamSide {
    pub(super) read: ReadHalf<Stream>,
    pub(super) write: WriteHalf<Stream>,
    pub(super) framer: Framer,
    /// What is not written completely yet.
    pub(super) pending: VecDeque<Bytes>,
}

/// What [`SessionState::split`] found in the received bytes.
pub(super) struct Received {
    /// The protocol error that ended the splitting, if any.
    pub(super) result: Result<(), Error>,
    /// The number of messages that the browser published.
    pub(super) published: u64,
}

impl SessionState {
    pub(super) fn new(allowance: Arc<Allowance>, proxy: AmqpProxy, now: Instant) -> Self {
        Self {
            allowance,
            user: Mutex::new(None),
            proxy: Mutex::new(proxy),
            liveness: Mutex::new(Liveness { last_heard: now, is_paused: false, is_ping_due: false }),
            stage_changed: Notify::new(),
            output_ready: Notify::new(),
        }
    }

    pub(super) fn proxy(&self) -> MutexGuard<'_, AmqpProxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits the bytes that were received from one side, appends what must be passed on to `out`, counts, and notifies
    /// the other loops.
    pub(super) fn split(
        &self,
        context: &Context,
        framer: &mut Framer,
        from: Side,
        out: &mut VecDeque<Bytes>,
    ) -> Received {
        let mut proxy = self.proxy();
        let stage = proxy.stage();
        let result = framer.split(&mut proxy, from, out);
        let published = proxy.counts.published;
        context.metrics.count(&mut proxy.counts);
        if proxy.stage() != stage {
            self.allowance.lift();
            self.stage_changed.notify_one();
        }
        if proxy.has_to_browser() {
            self.output_ready.notify_one();
        }
        Received { result, published }
    }

    /// Keeps the user's permit until the session ends.
    pub(super) fn set_user(&self, permit: Permit) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Counts what the user sent, and returns how long to wait before reading more.
    pub(super) fn spend(&self, messages: u64, bytes: u64) -> Duration {
        let user = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        user.as_ref().map_or(Duration::ZERO, |permit| permit.spend(messages, bytes, Instant::now()))
    }

    /// Asks the relay to ping the browser.
    pub(super) fn request_ping(&self) {
        self.liveness().is_ping_due = true;
        self.output_ready.notify_one();
    }

    /// Returns the end of the session after RabbitMQ closed the connection.
    pub(super) fn upstream_closed(&self, reason: &str) -> End {
        let proxy = self.proxy();
        match proxy.stage() {
            Stage::Closing | Stage::Closed => End::done(),
            _ if proxy.awaits_login() => End::login_refused(),
            _ => End::upstream_lost(reason),
        }
    }
}

impl Liveness {
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.is_ping_due)
    }
}

/// Writes what is pending. If the future is dropped, `pending` holds what is not written.
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
