//! One browser: from the upgrade to the last goodbye.
//!
//! Owns the WebSocket and the connection to RabbitMQ, and moves bytes between them, one loop for each direction and one
//! that watches the time, all in one task. When one of them ends, the others stop where they are, and `teardown` tells
//! both sides why.

mod end;
mod keepalive;
mod teardown;
pub(crate) mod websocket;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hopmq_proto::PROTOCOL_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::{debug, info};

use crate::admission::limits::Permit;
use crate::amqp::framer::{Framer, MESSAGE};
use crate::amqp::proxy::{AmqpProxy, Bounds, Login, Side, Stage};
use crate::gateway::Shared;
use crate::session::websocket::{Allowance, Socket};
use crate::upstream::Stream;
pub(crate) use end::End;

/// Who connects, as far as the upgrade tells.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: std::net::IpAddr,
    /// Their place under the limits, given back when the session ends.
    _place: Permit,
}

impl Client {
    pub(crate) fn new(address: std::net::IpAddr, place: Permit) -> Self {
        Self { address, _place: place }
    }
}

/// What the loops of a session share. Never locked across an await.
struct Common {
    /// What may be read of the browser until it is known.
    allowance: Arc<Allowance>,
    /// The place of the user, once it is known who it is.
    user: Mutex<Option<Permit>>,
    proxy: Mutex<AmqpProxy>,
    pulse: Mutex<Pulse>,
    /// The stage changed.
    moved: Notify,
    /// There is something in `Pulse::ping` or for the browser.
    speak: Notify,
}

/// Signs of life.
struct Pulse {
    /// When something came from the browser.
    heard: Instant,
    /// RabbitMQ takes nothing, so nothing is read from the browser, and its silence says nothing.
    deaf: bool,
    /// A ping is to be sent.
    ping: bool,
}

/// The browser's two directions.
struct Browser {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    framer: Framer,
}

/// RabbitMQ's two directions.
struct Rabbit {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    framer: Framer,
    /// What is being written.
    pending: VecDeque<Bytes>,
}

/// Serves one browser until one side leaves.
pub(crate) async fn run(gateway: Arc<Shared>, socket: Socket, allowance: Arc<Allowance>, client: Client, login: Login) {
    let begun = Instant::now();
    let (sink, stream) = socket.split();
    let mut browser = Browser { sink, stream, framer: Framer::new() };
    let bounds = Bounds {
        login_frame_max: gateway.config.limits.login_frame_max.0 as u32,
        frame_max: gateway.config.limits.frame_max.0 as u32,
        channel_max: gateway.config.limits.channels,
    };
    let common = Common {
        allowance,
        user: Mutex::new(None),
        proxy: Mutex::new(AmqpProxy::new(bounds, login)),
        pulse: Mutex::new(Pulse { heard: begun, deaf: false, ping: false }),
        moved: Notify::new(),
        speak: Notify::new(),
    };
    let mut rabbit = None;
    let end = tokio::select! {
        end = talk(&gateway, &common, &mut browser, &mut rabbit) => end,
        end = keepalive::keepalive(&gateway, &common, begun) => end,
    };
    // After the goodbyes in AMQP either side may go.
    let in_order = end.is_browsers() && common.proxy().stage() == Stage::Closed;
    gateway.metrics.ended(if in_order { End::done().reason } else { end.reason });
    let seconds = begun.elapsed().as_secs_f64();
    if end.is_fault {
        info!(address = %client.address, reason = end.reason, seconds, "{}", end.text);
    } else {
        debug!(address = %client.address, reason = end.reason, seconds, "{}", end.text);
    }
    teardown::teardown(&gateway, &common, browser, rabbit, &end).await;
    drop(client);
}

/// Awaits the protocol header, connects to RabbitMQ and relays.
async fn talk(gateway: &Shared, common: &Common, browser: &mut Browser, rabbit: &mut Option<Rabbit>) -> End {
    if let Err(end) = greet(common, browser).await {
        return end;
    }
    let stream = match gateway.upstreams.connect().await {
        Ok(stream) => stream,
        Err(error) => return End::unreachable(&error),
    };
    let (read, write) = tokio::io::split(stream);
    let mut pending = VecDeque::new();
    pending.push_back(Bytes::from_static(&PROTOCOL_HEADER));
    let rabbit = rabbit.insert(Rabbit { read, write, framer: Framer::new(), pending });
    let Browser { sink, stream, framer } = browser;
    tokio::select! {
        end = up(gateway, common, (stream, framer), (&mut rabbit.write, &mut rabbit.pending)) => end,
        end = down(gateway, common, (&mut rabbit.read, &mut rabbit.framer), sink) => end,
    }
}

/// Awaits the eight bytes that say that it is AMQP 0-9-1, in any slices.
async fn greet(common: &Common, browser: &mut Browser) -> Result<(), End> {
    loop {
        let bytes = browser.framer.bytes();
        let same = bytes.iter().zip(&PROTOCOL_HEADER).take_while(|(a, b)| a == b).count();
        if same == PROTOCOL_HEADER.len() {
            browser.framer.advance(same);
            return Ok(());
        }
        if same < bytes.len() {
            return Err(End::not_amqp());
        }
        let message = next_message(common, &mut browser.stream).await?;
        browser.framer.push(&message);
    }
}

/// Browser to RabbitMQ.
async fn up(
    gateway: &Shared,
    common: &Common,
    (stream, framer): (&mut SplitStream<Socket>, &mut Framer),
    (write, pending): (&mut WriteHalf<Stream>, &mut VecDeque<Bytes>),
) -> End {
    let mut bytes = 0;
    loop {
        // What came behind the protocol header in its message waits already.
        let (outcome, published) = common.cut(gateway, framer, Side::Browser, pending);
        common.pulse().deaf = true;
        let written = write_all(write, pending).await;
        let pause = common.spend(published, bytes as u64);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        {
            let mut pulse = common.pulse();
            (pulse.deaf, pulse.heard) = (false, Instant::now());
        }
        if let Err(error) = outcome {
            return End::browser_fault(&error);
        }
        if let Err(error) = written {
            return End::upstream_lost(&error.to_string());
        }
        let message = match next_message(common, stream).await {
            Ok(message) => message,
            Err(end) => return end,
        };
        bytes = message.len();
        gateway.metrics.from_browsers.add(bytes as u64);
        framer.push(&message);
    }
}

/// Writes what is pending. Dropped, it leaves in `pending` what is not written.
async fn write_all(write: &mut WriteHalf<Stream>, pending: &mut VecDeque<Bytes>) -> std::io::Result<()> {
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

/// The next binary message of the browser.
async fn next_message(common: &Common, stream: &mut SplitStream<Socket>) -> Result<Bytes, End> {
    loop {
        let message = stream.next().await;
        common.pulse().heard = Instant::now();
        match message {
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Text(_))) => return Err(End::text()),
            Some(Ok(Message::Close(frame))) => return Err(End::browser_left(frame.as_ref())),
            Some(Err(error)) => return Err(End::websocket(error)),
            None => return Err(End::browser_gone("the WebSocket ended")),
        }
    }
}

/// RabbitMQ to browser.
async fn down(
    gateway: &Shared,
    common: &Common,
    (read, framer): (&mut ReadHalf<Stream>, &mut Framer),
    sink: &mut SplitSink<Socket, Message>,
) -> End {
    let stall = gateway.config.websocket.stall_timeout.0;
    let mut out = VecDeque::new();
    loop {
        let got = tokio::select! {
            got = gather(read, framer) => Some(got),
            () = common.speak.notified() => None,
        };
        if common.pulse().take_ping() {
            out.push_back(Message::Ping(Bytes::new()));
        }
        let words = common.proxy().take_to_browser();
        if !words.is_empty() {
            out.push_back(Message::Binary(words.into()));
        }
        let mut outcome = Ok(());
        if let Some(Ok(count)) = got
            && count > 0
        {
            gateway.metrics.to_browsers.add(count as u64);
            let mut pieces = VecDeque::new();
            (outcome, _) = common.cut(gateway, framer, Side::Upstream, &mut pieces);
            out.extend(pieces.into_iter().map(Message::Binary));
        }
        if let Err(end) = send(sink, &mut out, stall).await {
            return end;
        }
        if let Err(error) = outcome {
            return End::upstream_fault(&error);
        }
        match got {
            Some(Ok(0)) => return common.end_of_upstream("it closed the connection"),
            Some(Err(error)) => return common.end_of_upstream(&error.to_string()),
            _ => {}
        }
    }
}

/// Reads what RabbitMQ sent: awaits the first bytes, and takes what is there already, up to a message.
async fn gather(read: &mut ReadHalf<Stream>, framer: &mut Framer) -> std::io::Result<usize> {
    let mut total = read.read_buf(framer.space()).await?;
    framer.read(total);
    while total > 0 && framer.len() < MESSAGE {
        match read.read_buf(framer.space()).now_or_never() {
            Some(Ok(count)) if count > 0 => {
                framer.read(count);
                total += count;
            }
            // The end or the error comes again with the next read.
            _ => break,
        }
    }
    Ok(total)
}

/// Sends messages to the browser, which must take them within `stall`.
async fn send(sink: &mut SplitSink<Socket, Message>, out: &mut VecDeque<Message>, stall: Duration) -> Result<(), End> {
    while !out.is_empty() {
        let sending = async {
            while let Some(message) = out.pop_front() {
                sink.feed(message).await?;
                if out.is_empty() {
                    sink.flush().await?;
                }
            }
            Ok::<(), Error>(())
        };
        match timeout(stall, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::websocket(error)),
            Err(_) => return Err(End::stalled(stall)),
        }
    }
    Ok(())
}

impl Common {
    fn proxy(&self) -> MutexGuard<'_, AmqpProxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts what has come of one side, and tells of it. Returns how many messages were published too.
    fn cut(
        &self,
        gateway: &Shared,
        framer: &mut Framer,
        from: Side,
        out: &mut VecDeque<Bytes>,
    ) -> (Result<(), hopmq_proto::Error>, u64) {
        let mut proxy = self.proxy();
        let before = proxy.stage();
        let outcome = framer.cut(&mut proxy, from, out);
        let published = proxy.counts.published;
        gateway.metrics.count(&mut proxy.counts);
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
    fn spend(&self, messages: u64, bytes: u64) -> Duration {
        let user = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        user.as_ref().map_or(Duration::ZERO, |place| place.spend(messages, bytes, Instant::now()))
    }

    fn end_of_upstream(&self, why: &str) -> End {
        let proxy = self.proxy();
        match proxy.stage() {
            Stage::Closing | Stage::Closed => End::done(),
            _ if proxy.awaits_login() => End::login_refused(),
            _ => End::upstream_lost(why),
        }
    }
}

impl Pulse {
    fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.ping)
    }
}
