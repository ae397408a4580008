//! The two directions of a session.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hopmq_proto::PROTOCOL_HEADER;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::end::End;
use super::socket::Socket;
use super::state::{Browser, Common, Rabbit, write_all};
use crate::amqp::framer::{Framer, MESSAGE};
use crate::amqp::verdict::Side;
use crate::context::Context;
use crate::upstream::Stream;

/// Awaits the protocol header, connects to RabbitMQ and relays.
pub(super) async fn talk(
    context: &Context,
    common: &Common,
    browser: &mut Browser,
    rabbit: &mut Option<Rabbit>,
) -> End {
    if let Err(end) = greet(common, browser).await {
        return end;
    }
    let stream = match context.upstreams.connect().await {
        Ok(stream) => stream,
        Err(error) => return End::unreachable(&error),
    };
    let (read, write) = tokio::io::split(stream);
    let mut pending = VecDeque::new();
    pending.push_back(Bytes::from_static(&PROTOCOL_HEADER));
    let rabbit = rabbit.insert(Rabbit { read, write, framer: Framer::new(), pending });
    let Browser { sink, stream, framer } = browser;
    tokio::select! {
        end = up(context, common, (stream, framer), (&mut rabbit.write, &mut rabbit.pending)) => end,
        end = down(context, common, (&mut rabbit.read, &mut rabbit.framer), sink) => end,
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
    context: &Context,
    common: &Common,
    (stream, framer): (&mut SplitStream<Socket>, &mut Framer),
    (write, pending): (&mut WriteHalf<Stream>, &mut VecDeque<Bytes>),
) -> End {
    let mut bytes = 0;
    loop {
        // What came behind the protocol header in its message waits already.
        let (outcome, published) = common.cut(context, framer, Side::Browser, pending);
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
        context.metrics.from_browsers.add(bytes as u64);
        framer.push(&message);
    }
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
    context: &Context,
    common: &Common,
    (read, framer): (&mut ReadHalf<Stream>, &mut Framer),
    sink: &mut SplitSink<Socket, Message>,
) -> End {
    let stall = context.config.websocket.stall_timeout.0;
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
            context.metrics.to_browsers.add(count as u64);
            let mut pieces = VecDeque::new();
            (outcome, _) = common.cut(context, framer, Side::Upstream, &mut pieces);
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
