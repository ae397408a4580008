//! How much of the memory limit clients may take for what the alarm does not stop: what they declare, and what they do
//! not finish.
//!
//! Reads the sums of the [`Meter`](crate::engine::meter::Meter), so that a check takes the same time whatever exists.
//! Operators are not refused: definitions and recovery do not come here.

use hopmq_proto::method::MethodId;
use slotmap::Key;

use crate::engine::keys::{SessionKey, VhostKey};
use crate::engine::meter::Purpose;
use crate::engine::refusal::Refusal;
use crate::engine::{At, Engine};

impl Engine {
    fn share(&self, percent: u8) -> u64 {
        match self.config.memory_limit {
            u64::MAX => u64::MAX,
            limit => limit / 100 * u64::from(percent),
        }
    }

    /// Whether what a virtual host declares takes its share.
    pub(super) fn has_declared_its_share(&self, vhost: VhostKey) -> bool {
        self.meter_of(vhost).declared() >= self.share(self.config.limits.declared_percent)
    }

    /// Refuses another queue, exchange, binding or consumer (`what`) when what the virtual host declares takes its
    /// share of the memory limit.
    pub(in crate::engine) fn check_declared(&self, at: At, what: &str) -> Result<(), Refusal> {
        if at.session.is_null() || !self.has_declared_its_share(at.vhost) {
            return Ok(());
        }
        Err(Refusal::precondition(format_args!(
            "cannot add {what}: what is declared in vhost '{}' takes {} % of the memory limit, its share",
            self.vhost_name(at.vhost),
            self.config.limits.declared_percent
        )))
    }

    /// Refuses a client's new exchange above the limit of its virtual host.
    pub(in crate::engine) fn check_exchange_limit(&self, at: At, name: &str) -> Result<(), Refusal> {
        let limit = self.config.limits.exchanges;
        if !at.session.is_null() && self.meter_of(at.vhost).count(Purpose::Exchanges) >= limit {
            return Err(Refusal::precondition(format_args!(
                "cannot declare exchange '{name}' in vhost '{}': exchange limit of {limit} is reached",
                self.vhost_name(at.vhost)
            )));
        }
        self.check_declared(at, "an exchange")
    }

    /// Refuses a client's new binding above the limit of its virtual host.
    pub(in crate::engine) fn check_binding_limit(&self, at: At) -> Result<(), Refusal> {
        let limit = self.config.limits.bindings;
        if self.meter_of(at.vhost).count(Purpose::Bindings) >= limit {
            return Err(Refusal::precondition(format_args!(
                "cannot bind in vhost '{}': binding limit of {limit} is reached",
                self.vhost_name(at.vhost)
            )));
        }
        self.check_declared(at, "a binding")
    }

    /// Refuses a channel's consumer above the limit.
    pub(in crate::engine) fn check_consumer_limit(&self, at: At) -> Result<(), Refusal> {
        let limit = self.config.limits.consumers;
        let channel = self.sessions.get(at.session).and_then(|session| session.channel(at.channel));
        if channel.is_some_and(|channel| channel.consumers.len() as u64 >= limit) {
            return Err(Refusal::not_allowed(format_args!("reached maximum ({limit}) of consumers per channel")));
        }
        self.check_declared(at, "a consumer")
    }

    /// Returns how many bytes a connection may take for parts of messages and for transactions. A message of the
    /// largest size must fit, whatever the memory limit.
    fn unfinished_limit(&self) -> u64 {
        self.share(self.config.limits.unfinished_percent).max(2 * self.config.protocol.message_max)
    }

    /// Refuses a publish in a transaction when the connection's share for what is not finished is taken.
    pub(in crate::engine) fn check_uncommitted(&self, id: SessionKey) -> Result<(), Refusal> {
        let uncommitted = self.sessions.get(id).map_or(0, |session| session.uncommitted);
        let limit = self.unfinished_limit();
        match uncommitted > limit {
            true => Err(Refusal::precondition(format_args!(
                "transactions of the connection take {uncommitted} bytes, more than {limit}; commit more often"
            ))),
            false => Ok(()),
        }
    }

    /// Ends a connection whose client sends more parts of messages than it may.
    pub(super) fn check_incomplete(&mut self, id: SessionKey, bytes: usize) {
        let limit = self.unfinished_limit();
        if bytes as u64 <= limit || self.sessions.get(id).is_none_or(|session| session.end.is_some()) {
            return;
        }
        let text = format_args!("parts of messages take {bytes} bytes, more than {limit}; complete some of them first");
        let refusal = Refusal::resource_error(text);
        self.begin(id);
        self.refused(id, 0, MethodId::default(), Err(refusal));
        // Waiting for the client's answer would mean to receive more of its messages.
        self.end_session(id);
        self.end();
    }
}
