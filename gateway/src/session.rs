//! One browser: from the upgrade to the last goodbye.
//!
//! Owns the WebSocket and the connection to RabbitMQ, and moves bytes between them, one loop for each direction and one
//! that watches the time, all in one task. When one of them ends, the others stop where they are, and `teardown` tells
//! both sides why.

mod end;
mod keepalive;
mod relay;
pub(crate) mod socket;
mod state;
mod teardown;

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::admission::limits::Permit;
use crate::amqp::framer::Framer;
use crate::amqp::proxy::{AmqpProxy, Bounds, Login, Stage};
use crate::context::Context;
use end::End;
use relay::talk;
use socket::{Allowance, Socket};
use state::{Browser, Common, Pulse};

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

/// Serves one browser until one side leaves.
pub(crate) async fn run(
    context: Arc<Context>,
    socket: Socket,
    allowance: Arc<Allowance>,
    client: Client,
    login: Login,
) {
    let begun = Instant::now();
    let (sink, stream) = socket.split();
    let mut browser = Browser { sink, stream, framer: Framer::new() };
    let bounds = Bounds {
        login_frame_max: context.config.limits.login_frame_max.0 as u32,
        frame_max: context.config.limits.frame_max.0 as u32,
        channel_max: context.config.limits.channels,
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
        end = talk(&context, &common, &mut browser, &mut rabbit) => end,
        end = keepalive::keepalive(&context, &common, begun) => end,
    };
    // After the goodbyes in AMQP either side may go.
    let in_order = end.is_browsers() && common.proxy().stage() == Stage::Closed;
    context.metrics.ended(if in_order { End::done().reason } else { end.reason });
    let seconds = begun.elapsed().as_secs_f64();
    if end.is_fault {
        info!(address = %client.address, reason = end.reason, seconds, "{}", end.text);
    } else {
        debug!(address = %client.address, reason = end.reason, seconds, "{}", end.text);
    }
    teardown::teardown(&context, &common, browser, rabbit, &end).await;
    drop(client);
}
