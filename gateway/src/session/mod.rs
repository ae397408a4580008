//! The session of one browser, from the upgrade to the close.
//!
//! One task owns the WebSocket and the connection to RabbitMQ. It runs a loop for each direction (`relay`) and a loop
//! for the timeouts (`keepalive`). When one loop ends, the others are cancelled, and `teardown` tells both sides the
//! reason.

mod end;
mod keepalive;
mod relay;
pub(crate) mod socket;
mod state;
mod teardown;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::admission::limits::{Permit, Rates};
use crate::amqp::framer::Framer;
use crate::amqp::proxy::{AmqpProxy, Bounds, Login, Stage};
use crate::context::Context;
use end::End;
use hopmq_proto::printable;
use keepalive::keepalive;
use relay::relay;
use socket::{Allowance, Socket};
use state::{BrowserSide, SessionState};
use teardown::teardown;

/// The client of a session.
#[derive(Debug)]
pub(crate) struct Client {
    /// The port is 0 behind a proxy, which does not tell it.
    pub(crate) address: SocketAddr,
    /// Returned when the session ends.
    permit: Mutex<Permit>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, permit: Permit) -> Self {
        Self { address, permit: Mutex::new(permit) }
    }

    fn permit(&self) -> MutexGuard<'_, Permit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one browser until one side closes, fails or reaches a timeout.
pub(crate) async fn run(
    context: Arc<Context>,
    socket: Socket,
    allowance: Arc<Allowance>,
    client: Client,
    login: Login,
) {
    let started = Instant::now();
    let (sink, stream) = socket.split();
    let mut browser = BrowserSide { sink, stream, framer: Framer::new() };
    let bounds = Bounds {
        login_frame_max: context.config.limits.login_frame_max.0 as u32,
        frame_max: context.config.limits.frame_max.0 as u32,
        channel_max: context.config.limits.channels,
        temporary_queues: context.config.limits.temporary_queues,
    };
    let is_limited = !Rates::of_all(&context.config.limits).are_unlimited();
    let account = client.permit().account().filter(|_| is_limited).cloned();
    let state = SessionState::new(allowance, AmqpProxy::new(bounds, login), account, started);
    let mut upstream = None;
    let end = tokio::select! {
        end = relay(&context, &state, &mut browser, &mut upstream, client.address) => end,
        end = keepalive(&context, &state, &client, started) => end,
    };
    let end = match state.proxy().refusal() {
        Some(reason) if !end.is_fault => end.refused_by_rabbitmq(reason),
        _ => end,
    };
    let address = client.address.ip();
    if end.is_refused_login() {
        context.limits.login_refused(address, Instant::now());
    }
    // After `connection.close-ok`, the browser may close the WebSocket first.
    let is_done = !end.is_fault && end.is_by_browser() && state.proxy().stage() == Stage::Closed;
    context.metrics.ended(if is_done { End::done().reason } else { end.reason });
    let seconds = started.elapsed().as_secs_f64();
    if let Some(left_out) = context.log_limit.line(end.reason, Instant::now()) {
        log(address, state.proxy().user_name(), &end, seconds, left_out);
    }
    teardown(&context, &state, browser, upstream, &end).await;
    drop(client);
}

/// Logs the end of a session. What the client chose is in fields, which the log quotes.
fn log(address: IpAddr, user: &str, end: &End, seconds: f64, left_out: u64) {
    let (user, text) = (&*printable(user), &*printable(&end.text));
    if end.is_fault {
        info!(%address, user, reason = end.reason, text, seconds, left_out, "a session failed");
    } else {
        debug!(%address, reason = end.reason, text, seconds, left_out, "a session ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::logs::{self, HOSTILE};

    #[test]
    fn the_end_of_a_session_is_one_line_of_the_log_whatever_the_client_sent() {
        let address = IpAddr::from([192, 0, 2, 1]);
        for text in [HOSTILE.to_owned(), HOSTILE.repeat(1000)] {
            let log = logs::of(|| log(address, &text, &End::upstream_lost("gone").refused_by_rabbitmq(&text), 1.0, 0));
            logs::check(&log, 1);
            assert!(log.contains("login_refused") && log.contains("RabbitMQ refused the login: a\\"), "{log}");
        }
    }
}
