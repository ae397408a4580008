//! Relays frames in both directions of a session.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hopmq_proto::PROTOCOL_HEADER;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::end::End;
use super::socket::Socket;
use super::state::{BrowserSide, SessionState, UpstreamSide, write_all};
use crate::admission::account::{Batch, PAUSE_MAX};
use crate::amqp::framer::{Framer, MESSAGE_MAX, Split};
use crate::amqp::proxy::Stage;
use crate::amqp::verdict::Side;
use crate::context::Context;
use crate::upstream::Stream;

/// How often RabbitMQ gets a heartbeat while the browser is paused.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A heartbeat frame.
const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];

/// Awaits the protocol header, connects to RabbitMQ, and relays until one direction ends.
pub(super) async fn relay(
    context: &Context,
    state: &SessionState,
    browser: &mut BrowserSide,
    upstream: &mut Option<UpstreamSide>,
    client: SocketAddr,
) -> End {
    if let Err(end) = await_protocol_header(state, browser).await {
        return end;
    }
    let stream = match context.upstreams.connect(client).await {
        Ok(stream) => stream,
        Err(error) => return End::unreachable(&error),
    };
    let (read, write) = tokio::io::split(stream);
    let pending = VecDeque::from([Bytes::from_static(&PROTOCOL_HEADER)]);
    let upstream = upstream.insert(UpstreamSide { read, write, framer: Framer::new(), pending });
    let UpstreamSide { read, write, framer: upstream_framer, pending } = upstream;
    let BrowserSide { sink, stream, framer } = browser;
    tokio::select! {
        end = browser_to_upstream(context, state, Uplink { stream, ahead: None, write, pending }, framer) => end,
        end = upstream_to_browser(context, state, (read, upstream_framer), sink) => end,
    }
}

/// Awaits the eight bytes of the AMQP 0-9-1 protocol header, in any number of messages.
async fn await_protocol_header(state: &SessionState, browser: &mut BrowserSide) -> Result<(), End> {
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
        let message = next_message(state, &mut browser.stream).await?;
        browser.framer.push(&message);
    }
}

/// The direction from the browser to RabbitMQ.
struct Uplink<'a> {
    stream: &'a mut SplitStream<Socket>,
    /// A message that was read while the one before it was paused. So a browser that leaves is noticed.
    ahead: Option<Bytes>,
    write: &'a mut WriteHalf<Stream>,
    /// What is charged and not written yet.
    pending: &'a mut VecDeque<Bytes>,
}

async fn browser_to_upstream(
    context: &Context,
    state: &SessionState,
    mut uplink: Uplink<'_>,
    framer: &mut Framer,
) -> End {
    let mut batch = VecDeque::new();
    loop {
        state.liveness().is_paused = true;
        // The message of the protocol header may have brought frames too, so this comes before the first read.
        let result = loop {
            state.not_saturated().await;
            let received = state.split(context, framer, Side::Browser, state.batch(), &mut batch);
            if let Err(end) = uplink.pass_on(context, state, received.published, &mut batch).await {
                return end;
            }
            match received.result {
                Ok(Split::Stopped) => {}
                Ok(Split::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        {
            let mut liveness = state.liveness();
            liveness.is_paused = false;
            liveness.last_heard = Instant::now();
        }
        if let Err(error) = result {
            return End::browser_fault(&error, context.auth.is_some());
        }
        let message = match uplink.ahead.take() {
            Some(message) => message,
            None => match next_message(state, uplink.stream).await {
                Ok(message) => message,
                Err(end) => return end,
            },
        };
        context.metrics.from_browsers.add(message.len() as u64);
        framer.push(&message);
    }
}

impl Uplink<'_> {
    /// Charges a batch, waits as long as its rate demands, and writes it. Nothing of it is `pending` before it is paid,
    /// so the teardown never writes what was not.
    async fn pass_on(
        &mut self,
        context: &Context,
        state: &SessionState,
        published: u64,
        batch: &mut VecDeque<Bytes>,
    ) -> Result<(), End> {
        self.write().await?;
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(charge) = state.charge(published, batch.iter().map(Bytes::len).sum()) {
            if charge.wait > PAUSE_MAX {
                return Err(End::too_fast(charge.wait));
            }
            if !charge.wait.is_zero() {
                context.metrics.pauses.add(1);
                // Boxed, so that a connection that is not paused needs no memory for it.
                Box::pin(self.pause(state, charge.wait)).await?;
            }
            charge.settle();
        }
        self.pending.append(batch);
        self.write().await
    }

    async fn write(&mut self) -> Result<(), End> {
        write_all(self.write, self.pending).await.map_err(|error| End::upstream_lost(&error.to_string()))
    }

    /// Waits for a charge. The browser's heartbeats wait with all else, so RabbitMQ gets those of the gateway.
    async fn pause(&mut self, state: &SessionState, wait: Duration) -> Result<(), End> {
        let until = Instant::now() + wait;
        let mut heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
        while Instant::now() < until {
            tokio::select! {
                () = sleep_until(until.min(heartbeat_at)) => {}
                message = next_message(state, self.stream), if self.ahead.is_none() => self.ahead = Some(message?),
            }
            if Instant::now() >= heartbeat_at {
                heartbeat_at += HEARTBEAT_INTERVAL;
                if state.proxy().stage() == Stage::Open {
                    self.pending.push_back(Bytes::from_static(&HEARTBEAT));
                    self.write().await?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the next binary message of the browser.
async fn next_message(state: &SessionState, stream: &mut SplitStream<Socket>) -> Result<Bytes, End> {
    loop {
        let message = stream.next().await;
        state.liveness().last_heard = Instant::now();
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

async fn upstream_to_browser(
    context: &Context,
    state: &SessionState,
    (read, framer): (&mut ReadHalf<Stream>, &mut Framer),
    sink: &mut SplitSink<Socket, Message>,
) -> End {
    let stall_timeout = context.config.websocket.stall_timeout.0;
    let mut out = VecDeque::new();
    loop {
        let read_result = tokio::select! {
            result = read_available(read, framer) => Some(result),
            () = state.output_ready.notified() => None,
        };
        if state.liveness().take_ping() {
            out.push_back(Message::Ping(Bytes::new()));
        }
        let own_frames = state.proxy().take_to_browser();
        if !own_frames.is_empty() {
            out.push_back(Message::Binary(own_frames.into()));
        }
        let mut result = Ok(());
        if let Some(Ok(count)) = read_result
            && count > 0
        {
            context.metrics.to_browsers.add(count as u64);
            let mut pieces = VecDeque::new();
            result = state.split(context, framer, Side::Upstream, Batch::UNLIMITED, &mut pieces).result.map(drop);
            out.extend(pieces.into_iter().map(Message::Binary));
        }
        state.output_taken.notify_one();
        if let Err(end) = send(sink, &mut out, stall_timeout).await {
            return end;
        }
        if let Err(error) = result {
            return End::upstream_fault(&error);
        }
        match read_result {
            Some(Ok(0)) => return state.upstream_closed("RabbitMQ closed the connection"),
            Some(Err(error)) => return state.upstream_closed(&error.to_string()),
            _ => {}
        }
    }
}

/// Awaits the first bytes from RabbitMQ, and reads on without waiting until a message is full.
async fn read_available(read: &mut ReadHalf<Stream>, framer: &mut Framer) -> std::io::Result<usize> {
    let mut total = read.read_buf(framer.space()).await?;
    framer.note_read(total);
    while total > 0 && framer.len() < MESSAGE_MAX {
        match read.read_buf(framer.space()).now_or_never() {
            Some(Ok(count)) if count > 0 => {
                framer.note_read(count);
                total += count;
            }
            // The next read returns the same end or error.
            _ => break,
        }
    }
    Ok(total)
}

/// Sends messages to the browser, each within `stall_timeout`.
async fn send(
    sink: &mut SplitSink<Socket, Message>,
    out: &mut VecDeque<Message>,
    stall_timeout: Duration,
) -> Result<(), End> {
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
        match timeout(stall_timeout, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(End::websocket(error)),
            Err(_) => return Err(End::stalled(stall_timeout)),
        }
    }
    Ok(())
}
