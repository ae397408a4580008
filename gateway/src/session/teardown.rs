//! The end of a session: RabbitMQ hears that the connection is over, and the browser why.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hopmq_proto::method::{Encode, connection};
use hopmq_proto::{Frame, code};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::end::End;
use super::state::{Browser, Common, Rabbit, write_all};
use crate::amqp::encode::close_frame;
use crate::amqp::framer::Framer;
use crate::amqp::proxy::AmqpProxy;
use crate::amqp::verdict::Side;
use crate::context::Context;

/// How long RabbitMQ may take to agree to a close.
const UPSTREAM: Duration = Duration::from_secs(5);

/// How long a socket stays open that can't be read any more.
const LINGER: Duration = Duration::from_secs(1);

/// Says goodbye to both sides at once, each within its time.
pub(super) async fn teardown(context: &Context, common: &Common, browser: Browser, rabbit: Option<Rabbit>, end: &End) {
    let (listens, upstream_open) = {
        let proxy = common.proxy();
        (proxy.browser_listens(), proxy.upstream_open())
    };
    let amqp = end.amqp.filter(|_| listens);
    let patience = context.config.websocket.close_timeout.0;
    // What takes longer is dropped: nobody can be told who does not listen.
    let to_browser = timeout(patience, to_browser(common, browser, end, amqp));
    let to_rabbit = async {
        if let Some(rabbit) = rabbit.filter(|_| upstream_open) {
            let _ = timeout(UPSTREAM, to_rabbit(common, rabbit)).await;
        }
    };
    let (_gone, ()) = tokio::join!(to_browser, to_rabbit);
}

async fn to_browser(common: &Common, mut browser: Browser, end: &End, amqp: Option<u16>) -> Result<(), Error> {
    if let Some(code) = amqp {
        browser.sink.send(Message::Binary(close_frame(code, &end.text).into())).await?;
        if !end.is_deaf {
            await_close_ok(common, &mut browser).await;
        }
    }
    if let Some(frame) = end.frame() {
        browser.sink.send(Message::Close(Some(frame))).await?;
    } else if !end.is_browsers() {
        // Nobody reads, or nobody is there: the socket closes as it is.
        return Ok(());
    }
    if end.is_deaf {
        // To close a socket with unread bytes in it would destroy what was just sent, before it is read.
        sleep(LINGER).await;
        return Ok(());
    }
    // Until the other close frame has come, or ours, which answers it, has gone out.
    while let Some(Ok(_)) = browser.stream.next().await {}
    let _ = browser.sink.flush().await;
    Ok(())
}

/// Drops what the browser still sends, until it agrees to the close or leaves.
async fn await_close_ok(common: &Common, browser: &mut Browser) {
    loop {
        if found_close_ok(&mut browser.framer, &common.proxy(), Side::Browser) {
            return;
        }
        match browser.stream.next().await {
            Some(Ok(Message::Binary(bytes))) => browser.framer.push(&bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            _ => return,
        }
    }
}

/// Finishes the frame that is being written, and closes the connection in good order.
async fn to_rabbit(common: &Common, mut rabbit: Rabbit) {
    let mut pending = VecDeque::from_iter(rabbit.pending.pop_front());
    pending.push_back(close_frame(code::REPLY_SUCCESS, "the browser left").into());
    if write_all(&mut rabbit.write, &mut pending).await.is_err() {
        return;
    }
    while !found_close_ok(&mut rabbit.framer, &common.proxy(), Side::Upstream) {
        match rabbit.read.read_buf(rabbit.framer.space()).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
    let _ = rabbit.write.shutdown().await;
}

/// Whether a `connection.close-ok` is among what came. Everything before it is dropped; what breaks the protocol ends
/// the waiting too.
fn found_close_ok(framer: &mut Framer, proxy: &AmqpProxy, from: Side) -> bool {
    loop {
        let (size, found) = match Frame::parse(framer.bytes(), proxy.limits(from)) {
            Ok(Some(frame)) => {
                let ends = frame.channel() == 0 && frame.method().is_ok_and(|id| id == connection::CloseOk::ID);
                (frame.size(), ends)
            }
            Ok(None) => return false,
            Err(_) => return true,
        };
        framer.advance(size);
        if found {
            return true;
        }
    }
}
