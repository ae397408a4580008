//! The state that the loops of a session share, and the streams of its two sides.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use hopmq_proto::Error;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::end::End;
use super::socket::{Allowance, Socket};
use crate::admission::account::{Account, Batch, Charge};
use crate::admission::limits::{Permit, Rates};
use crate::amqp::framer::{Framer, Split};
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
    /// What the browser sends is charged to this account, if a rate is limited: that of the address, and that of the
    /// user once it is known.
    account: Mutex<Option<Arc<Account>>>,
    is_user_known: AtomicBool,
    proxy: Mutex<AmqpProxy>,
    liveness: Mutex<Liveness>,
    /// Notified when the stage of the connection changes.
    pub(super) stage_changed: Notify,
    /// Notified when a ping is due or the gateway has frames for the browser.
    pub(super) output_ready: Notify,
    /// Notified when the proxy may not be saturated any more.
    pub(super) output_taken: Notify,
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
    /// Whether whole frames are left, or the protocol error that ended the splitting.
    pub(super) result: Result<Split, Error>,
    /// The number of messages that the browser published.
    pub(super) published: u64,
}

impl SessionState {
    /// `account` is that of the address.
    pub(super) fn new(
        allowance: Arc<Allowance>,
        proxy: AmqpProxy,
        account: Option<Arc<Account>>,
        now: Instant,
    ) -> Self {
        Self {
            allowance,
            user: Mutex::new(None),
            account: Mutex::new(account),
            is_user_known: AtomicBool::new(false),
            proxy: Mutex::new(proxy),
            liveness: Mutex::new(Liveness { last_heard: now, is_paused: false, is_ping_due: false }),
            stage_changed: Notify::new(),
            output_ready: Notify::new(),
            output_taken: Notify::new(),
        }
    }

    pub(super) fn proxy(&self) -> MutexGuard<'_, AmqpProxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits the bytes that were received from one side, appends what must be passed on to `out`, counts, and notifies
    /// the other loops. Stops when `batch` is full.
    pub(super) fn split(
        &self,
        context: &Context,
        framer: &mut Framer,
        from: Side,
        batch: Batch,
        out: &mut VecDeque<Bytes>,
    ) -> Received {
        let mut proxy = self.proxy();
        let stage = proxy.stage();
        let result = framer.split(&mut proxy, from, batch, out);
        if !self.is_user_known.load(Ordering::Relaxed)
            && let Some((user, rates)) = proxy.authenticated_user()
        {
            self.is_user_known.store(true, Ordering::Relaxed);
            self.charge_to(context, user, rates);
        }
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

    /// Charges what the browser sends from now on to its user.
    fn charge_to(&self, context: &Context, user: &str, rates: Option<Rates>) {
        let rates = rates.unwrap_or_else(|| Rates::of_all(&context.config.limits));
        if rates.are_unlimited() {
            *self.account() = None;
        } else if let Some(account) = context.limits.account(user, rates, Instant::now()) {
            *self.account() = Some(account);
        }
    }

    fn account(&self) -> MutexGuard<'_, Option<Arc<Account>>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how much may be passed on before the next charge.
    pub(super) fn batch(&self) -> Batch {
        self.account().as_ref().map_or(Batch::UNLIMITED, |account| account.batch())
    }

    /// Charges what is about to be passed on, unless nothing is limited.
    pub(super) fn charge(&self, messages: u64, bytes: usize) -> Option<Charge> {
        let account = self.account().clone()?;
        Some(account.charge(messages, bytes as u64, Instant::now()))
    }

    /// Waits until frames of the browser may be taken.
    pub(super) async fn not_saturated(&self) {
        while self.proxy().is_saturated() {
            self.output_taken.notified().await;
        }
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
