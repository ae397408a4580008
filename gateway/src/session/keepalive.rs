//! The clock of a session: the login's deadline, signs of life, and the gateway's own end.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::end::End;
use super::state::Common;
use crate::admission::limits::Rates;
use crate::amqp::proxy::Stage;
use crate::auth::clock;
use crate::context::Context;
use crate::drain::Phase;

/// Ends when the session must.
pub(super) async fn keepalive(context: &Context, common: &Common, begun: Instant) -> End {
    let (login, websocket) = (context.config.limits.login_timeout.0, &context.config.websocket);
    let mut drain = context.drain.subscribe();
    let mut goodbye = None;
    let (mut pinged, mut logged_in) = (None, false);
    loop {
        let (heard, deaf) = {
            let pulse = common.pulse();
            (pulse.heard, pulse.deaf)
        };
        let now = Instant::now();
        let (stage, expires) = {
            let proxy = common.proxy();
            (proxy.stage(), proxy.expires())
        };
        let left = expires.map(|time| Duration::from_secs(time.saturating_sub(clock::now())));
        if left.is_some_and(|left| left.is_zero()) {
            return End::expired();
        }
        if stage < Stage::Open && now >= begun + login {
            return End::login_timeout(login);
        }
        if stage == Stage::Open && !logged_in {
            logged_in = true;
            if let Err(end) = log_in(context, common) {
                return end;
            }
        }
        match *drain.borrow_and_update() {
            Phase::Serving => {}
            Phase::Draining { spread } => {
                goodbye.get_or_insert_with(|| now + crate::drain::jitter(spread));
            }
            Phase::Over => return End::draining(),
        }
        if goodbye.is_some_and(|goodbye| now >= goodbye) {
            return End::draining();
        }
        let heard = if deaf { now } else { heard };
        if now >= heard + websocket.ping_timeout.0 {
            return End::silent(websocket.ping_timeout.0);
        }
        let ping_at = heard + websocket.ping_interval.0;
        // A ping is answered when something was heard after it.
        pinged = pinged.filter(|sent| heard <= *sent);
        if now >= ping_at && pinged.is_none() {
            pinged = Some(now);
            common.pulse().ping = true;
            common.speak.notify_one();
        }
        // An answer wakes nobody, so this looks again before the silence after it can be long enough for the next ping:
        // whoever is there has all the time between the two settings to answer it.
        let silent_at = heard + websocket.ping_timeout.0;
        let next = if pinged.is_some() { silent_at.min(now + websocket.ping_interval.0) } else { ping_at };
        let login = (stage < Stage::Open).then_some(begun + login);
        let expiry = left.map(|left| now + left);
        let next = [Some(next), login, goodbye, expiry].into_iter().flatten().min().unwrap_or(next);
        tokio::select! {
            () = sleep_until(next) => {}
            () = common.moved.notified() => {}
            changed = drain.changed() => if changed.is_err() {
                return End::draining();
            }
        }
    }
}

/// Takes a place for the user, whom RabbitMQ has let in.
fn log_in(context: &Context, common: &Common) -> Result<(), End> {
    let limits = &context.config.limits;
    let proxy = common.proxy();
    let Some((user, rates)) = proxy.user() else { return Ok(()) };
    let rates = rates.unwrap_or(Rates { messages: limits.messages_per_second, bytes: limits.bytes_per_second.0 });
    let Some(place) = context.limits.log_in(user, rates, Instant::now()) else {
        return Err(End::user_connections(user));
    };
    *common.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    Ok(())
}
