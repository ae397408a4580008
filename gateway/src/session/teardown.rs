//! The end of a session: closes both sides and tells each the reason.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hopmq_proto::method::{Encode, connection};
use hopmq_proto::{Frame, code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::end::End;
use super::state::{BrowserSide, SessionState, UpstreamSide, write_all};
use crate::amqp::encode::close_frame;
use crate::amqp::framer::Framer;
use crate::amqp::proxy::AmqpProxy;
use crate::amqp::verdict::Side;
use crate::context::Context;

/// How long RabbitMQ may take to answer a close.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a socket stays open after the last message if it cannot be read.
const LINGER: Duration = Duration::from_secs(1);

/// Closes both sides concurrently. A side that does not finish within its timeout is dropped.
pub(super) async fn teardown(
    context: &Context,
    state: &SessionState,
    browser: BrowserSide,
    upstream: Option<UpstreamSide>,
    end: &End,
) {
    let browser_handles_close = state.proxy().browser_handles_close();
    let upstream_open = state.proxy().upstream_open();
    let amqp_code = end.amqp.filter(|_| browser_handles_close);
    let close_timeout = context.config.websocket.close_timeout.0;
    let close_browser = timeout(close_timeout, close_browser(state, browser, end, amqp_code));
    let close_upstream = async {
        if let Some(upstream) = upstream.filter(|_| upstream_open) {
            let _timed_out = timeout(UPSTREAM_TIMEOUT, close_upstream(state, upstream)).await;
        }
    };
    let (_closed, ()) = tokio::join!(close_browser, close_upstream);
}

async fn close_browser(
    state: &SessionState,
    mut browser: BrowserSide,
    end: &End,
    amqp_code: Option<u16>,
) -> Result<(), Error> {
    if let Some(code) = amqp_code {
        browser.sink.send(Message::Binary(close_frame(code, &end.text).into())).await?;
        if !end.is_unreadable {
            await_close_ok(state, &mut browser).await;
        }
    }
    if let Some(frame) = end.frame() {
        browser.sink.send(Message::Close(Some(frame))).await?;
    } else if !end.is_by_browser() {
        // The browser is gone or does not read, so the socket is dropped.
        return Ok(());
    }
    if end.is_unreadable {
        // Closing a socket with unread bytes resets it, and the browser could lose the messages above.
        sleep(LINGER).await;
        return Ok(());
    }
    // Ends when the browser's close frame has arrived, or the answer to it is sent.
    while let Some(Ok(_)) = browser.stream.next().await {}
    let _ = browser.sink.flush().await;
    Ok(())
}

/// Drops what the browser still sends, until its `connection.close-ok` or the end of the WebSocket.
async fn await_close_ok(state: &SessionState, browser: &mut BrowserSide) {
    loop {
        if skip_to_close_ok(&mut browser.framer, &state.proxy(), Side::Browser) {
            return;
        }
        match browser.stream.next().await {
            Some(Ok(Message::Binary(bytes))) => browser.framer.push(&bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            _ => return,
        }
    }
}

/// Finishes the piece that is partly written, sends `connection.close`, and awaits `connection.close-ok`.
async fn close_upstream(state: &SessionState, mut upstream: UpstreamSide) {
    let mut pending = VecDeque::from_iter(upstream.pending.pop_front());
    pending.push_back(close_frame(code::REPLY_SUCCESS, "the browser left").into());
    if write_all(&mut upstream.write, &mut pending).await.is_err() {
        return;
    }
    while !skip_to_close_ok(&mut upstream.framer, &state.proxy(), Side::Upstream) {
        match upstream.read.read_buf(upstream.framer.space()).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
    let _ = upstream.write.shutdown().await;
}

/// Drops the buffered frames up to `connection.close-ok`, and returns whether to stop waiting for it: it was found, or
/// the sender broke the protocol.
fn skip_to_close_ok(framer: &mut Framer, proxy: &AmqpProxy, from: Side) -> bool {
    loop {
        let (size, is_close_ok) = match Frame::parse(framer.bytes(), proxy.limits(from)) {
            Ok(Some(frame)) => {
                let is_close_ok = frame.channel() == 0 && frame.method().is_ok_and(|id| id == connection::CloseOk::ID);
                (frame.size(), is_close_ok)
            }
            Ok(None) => return false,
            Err(_) => return true,
        };
        framer.advance(size);
        if is_close_ok {
            return true;
        }
    }
}
