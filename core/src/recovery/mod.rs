//! Recovery: what makes a connection continue on the link that replaces a lost one.
//!
//! A protocol connection never survives its link. The [`Driver`](crate::Driver) makes a new link
//! (`driver/reconnect.rs`); this module restores on it what the lost link had, so that handles, consumers and
//! publishers continue.
//!
//! - [`Recovering`]: what the driver remembers from one link to the next; it handles the events of a new link.
//! - `replay`: declares what this connection had declared, then opens its channels and starts its consumers.
//! - `waiting`: what the broker refused at first, and the events about it.
//! - `backoff`: the delays between attempts to connect.
//!
//! [`Recovering`] and `replay` run under the lock of [`Shared`](crate::state::Shared), driven by events and the time.

pub(crate) mod backoff;
mod replay;
mod waiting;

use std::time::Duration;

use hopmq_proto::{Elapsed, Event as Proto, HandshakeStage, Time, code};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::{OnFailure, Recovery};
use crate::state::events::Event;
use crate::state::outage::Offence;
use crate::state::{REPLAY, State};
use replay::Replay;

/// What a connection remembers from one link to the next.
#[derive(Debug)]
pub(crate) struct Recovering {
    policy: Recovery,
    /// The host of the present link, or of the latest attempt.
    host: String,
    /// Whether there was a link before.
    established: bool,
    /// The deadline of the handshake, and its timeout.
    handshake: Option<(Time, Duration)>,
    /// When everything was restored on the present link.
    restored: Option<Time>,
    /// When the link was lost.
    lost: Option<Time>,
    /// Whether the connection ends with the present error.
    is_final: bool,
    /// What this client had sent that made the broker close the connection.
    offence: Option<Offence>,
    replay: Option<Replay>,
}

impl Recovering {
    pub(crate) fn new(policy: Recovery) -> Self {
        Self {
            policy,
            host: String::new(),
            established: false,
            handshake: None,
            restored: None,
            lost: None,
            is_final: false,
            offence: None,
            replay: None,
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether there was a link before.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the connection ends with the present error.
    pub(crate) fn is_final(&self) -> bool {
        self.is_final
    }

    /// Returns for how long the present link has carried everything.
    pub(crate) fn worked(&self, now: Time) -> Duration {
        self.restored.map_or(Duration::ZERO, |since| now - since)
    }

    /// Notes the host of the next attempt.
    pub(crate) fn begin_attempt(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Sets the deadline of the handshake, which is `timeout` after the attempt began.
    pub(crate) fn begin_handshake(&mut self, deadline: Time, timeout: Duration) {
        self.handshake = Some((deadline, timeout));
    }

    /// Returns when something is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let handshake = self.handshake.map(|(deadline, _)| deadline);
        handshake.into_iter().chain(self.replay.as_ref().and_then(Replay::deadline)).min()
    }

    /// Handles the events that concern recovery, and returns all others. An error ends the link.
    #[inline]
    pub(crate) fn handle(&mut self, state: &mut State, event: Proto, now: Time) -> Result<Option<Proto>> {
        match event {
            Proto::Reply { channel, request: REPLAY, payload } => self.replayed(state, channel, &payload, now)?,
            Proto::ChannelClosed { channel, reason } => {
                let reason = self.channel_closed(state, channel, reason, now)?;
                return Ok(reason.map(|reason| Proto::ChannelClosed { channel, reason }));
            }
            Proto::Closed { reason: Some(reason) } => {
                let error = state.closed_by_broker(&reason);
                // An operator, or a node that stops, objects to nothing that was sent.
                if state.is_link_open() && reason.code != code::CONNECTION_FORCED {
                    self.offence = Some(Offence { method: reason.method, error: error.clone() });
                }
                return Err(error);
            }
            Proto::Opened => self.link_opened(state, now)?,
            event => return Ok(Some(event)),
        }
        Ok(None)
    }

    /// Does what the time asks for. An error ends the link.
    pub(crate) fn tick(&mut self, state: &mut State, now: Time) -> Result<()> {
        self.check_handshake(state, now)?;
        self.tick_replay(state, now)
    }

    fn check_handshake(&self, state: &State, now: Time) -> Result<()> {
        let Some((_, time)) = self.handshake.filter(|(deadline, _)| *deadline <= now) else { return Ok(()) };
        let (host, time) = (&self.host, Elapsed(time));
        let text = match state.proto.handshake_stage() {
            Some(HandshakeStage::Start) => {
                format!(
                    "{host} accepted the connection and sent no connection.start within {time}: is it an AMQP broker?"
                )
            }
            Some(stage) => format!("the handshake with {host} took longer than {time}: {stage} did not come"),
            None => format!("the handshake with {host} took longer than {time}"),
        };
        Err(Error::new(ErrorKind::Timeout, text))
    }

    /// Handles the loss of a link that will be replaced.
    pub(crate) fn lose_link(&mut self, state: &mut State, error: &Error, now: Time) {
        self.forget_offender(state);
        self.replay = None;
        self.handshake = None;
        self.restored = None;
        if self.lost.is_none() {
            warn!(%error, "the link to the broker is lost");
            self.lost = Some(now);
            state.emit(&Event::Lost { error: error.clone() });
        }
        state.lose_link(error, self.offence.as_ref(), now);
        self.offence = None;
    }

    /// Returns how often a declaration that the broker refuses is tried again.
    fn attempts_of_each(&self) -> u32 {
        if let OnFailure::Retry { attempts, .. } = self.policy.on_failure { attempts } else { 0 }
    }
}
