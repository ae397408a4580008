//! The timeouts of a session: login, silence, token expiry and shutdown.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Client;
use super::end::End;
use super::state::SessionState;
use crate::admission::limits::Rates;
use crate::amqp::proxy::Stage;
use crate::auth::clock;
use crate::context::Context;
use crate::drain::{self, Phase};

/// Sends pings, and returns when the session must end.
pub(super) async fn keepalive(context: &Context, state: &SessionState, client: &Client, started: Instant) -> End {
    let login_timeout = context.config.limits.login_timeout.0;
    let login_deadline = started + login_timeout;
    let ping_interval = context.config.websocket.ping_interval.0;
    let ping_timeout = context.config.websocket.ping_timeout.0;
    let mut phase = context.drain.subscribe();
    let mut drain_at = None;
    let mut pinged_at = None;
    let mut is_logged_in = false;
    loop {
        let now = Instant::now();
        let stage = state.proxy().stage();
        let token_left = token_left(state);
        if token_left.is_some_and(|left| left.is_zero()) {
            return End::expired();
        }
        if stage < Stage::Open && now >= login_deadline {
            return End::login_timeout(login_timeout);
        }
        if stage == Stage::Open && !is_logged_in {
            is_logged_in = true;
            client.permit().logged_in();
            if let Err(end) = log_in(context, state) {
                return end;
            }
        }
        match *phase.borrow_and_update() {
            Phase::Serving => {}
            Phase::Draining { spread } => {
                drain_at.get_or_insert_with(|| now + drain::jitter(spread));
            }
            Phase::Over => return End::draining(),
        }
        if drain_at.is_some_and(|at| now >= at) {
            return End::draining();
        }
        let last_heard = last_heard(state, now);
        let silent_at = last_heard + ping_timeout;
        if now >= silent_at {
            return End::silent(ping_timeout);
        }
        let ping_at = last_heard + ping_interval;
        // Any message after a ping counts as its answer.
        pinged_at = pinged_at.filter(|at| last_heard <= *at);
        if now >= ping_at && pinged_at.is_none() {
            pinged_at = Some(now);
            state.request_ping();
        }
        // An answer to a ping does not wake this loop. So it wakes once per interval while a ping is pending, and the
        // client always has the whole time between the two settings to answer the next ping.
        let liveness_check = if pinged_at.is_some() { silent_at.min(now + ping_interval) } else { ping_at };
        let login_deadline = (stage < Stage::Open).then_some(login_deadline);
        let expiry = token_left.map(|left| now + left);
        let wake_at = [login_deadline, drain_at, expiry].into_iter().flatten().fold(liveness_check, Instant::min);
        tokio::select! {
            () = sleep_until(wake_at) => {}
            () = state.stage_changed.notified() => {}
            changed = phase.changed() => if changed.is_err() {
                return End::draining();
            }
        }
    }
}

fn token_left(state: &SessionState) -> Option<Duration> {
    let expires = state.proxy().expires()?;
    Some(Duration::from_secs(expires.saturating_sub(clock::now())))
}

/// Returns when the browser was last heard; while reading is paused, that is now.
fn last_heard(state: &SessionState, now: Instant) -> Instant {
    let liveness = state.liveness();
    if liveness.is_paused { now } else { liveness.last_heard }
}

/// Takes a permit for the user that RabbitMQ has accepted.
fn log_in(context: &Context, state: &SessionState) -> Result<(), End> {
    let proxy = state.proxy();
    let Some((user, rates)) = proxy.user() else { return Ok(()) };
    let rates = rates.unwrap_or_else(|| Rates::of_all(&context.config.limits));
    let permit = context.limits.log_in(user, rates, Instant::now()).map_err(|error| End::limit(user, error))?;
    state.set_user(permit);
    Ok(())
}
