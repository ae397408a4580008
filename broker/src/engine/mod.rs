//! The broker as a state machine: what clients send goes in, what they are to get comes out.
//!
//! Owns virtual hosts, exchanges, queues, consumers, users, and the protocol's end of each connection. What comes in is
//! something decoded of a connection, a moment, or word of the store; what goes out is bytes for connections, and which
//! of them have some. There is no clock in it, no socket, no lock, no thread, no disk and no randomness but the seed's:
//! the same calls give the same bytes. It must never know who drives it.
//!
//! For each connection:
//!
//! 1. [`Engine::connect`], and then [`Engine::handle`] for each thing that came.
//! 2. After a batch, [`Engine::finish`]; then write what [`Engine::poll_transmit`] gives.
//! 3. Wake the connections that [`Engine::poll_woken`] names: they have something to write.
//! 4. [`Engine::disconnect`] once it is gone.
//!
//! And [`Engine::handle_timeout`] when the moment of [`Engine::poll_timeout`] has come.

mod access;
mod delivery;
mod fault_hooks;
mod invariant;
mod keys;
mod name;
mod persistence;
mod profile;
mod queue;
mod refusal;
mod routing;
mod session;
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only the test kit reads all of it"))]
mod snapshot;
#[cfg(test)]
mod tests;
mod topology;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hopmq_proto::method::Encode;
use hopmq_proto::{FieldTable, Time};
use slotmap::SlotMap;

use crate::random::Random;
pub(crate) use access::{Access, Claim, MECHANISMS, Password, Pattern};
use delivery::consumer::Consumer;
#[cfg(feature = "testing")]
pub use fault_hooks::Confirms;
use keys::{ConsumerKey, ExchangeKey, QueueKey};
pub(crate) use keys::{SessionKey, VhostKey};
use name::Name;
pub(crate) use persistence::journal::{Contents, Journal};
pub use profile::Profile;
use queue::Queue;
use routing::exchange::{Exchange, ExchangeSpec, Kind};
pub(crate) use session::Session;
pub(crate) use session::resource_alarms::{DISK, MEMORY, PACE, Shortage, name_of};
#[cfg(feature = "definitions")]
pub(crate) use topology::define::Definition;
use topology::vhost::Vhost;

/// The user that each broker has from the start, who may do everything, from this machine. It is its own password.
const GUEST: &str = "guest";

/// What an engine is started with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What server-named queues and consumer tags are drawn from.
    pub(crate) seed: u64,
    /// Seconds since 1970 at [`Time::ZERO`].
    pub(crate) wall_epoch: u64,
    /// Connections that there may be at once.
    pub(crate) connection_max: usize,
    /// Whose rules hold where RabbitMQ's releases differ.
    pub(crate) profile: Profile,
    /// How long a delivery may be held without being settled, where its queue does not say.
    pub(crate) consumer_timeout: Option<Duration>,
    /// What connections are offered.
    pub(crate) protocol: hopmq_proto::Config,
}

/// The broker. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Engine {
    config: Config,
    now: Time,
    random: Random,
    access: Access,
    vhosts: SlotMap<VhostKey, Vhost>,
    exchanges: SlotMap<ExchangeKey, Exchange>,
    queues: SlotMap<QueueKey, Queue>,
    consumers: SlotMap<ConsumerKey, Consumer>,
    sessions: SlotMap<SessionKey, Session>,
    /// Rises when a message may go another way than before.
    topology: u64,
    /// When each queue wants to do something by itself.
    alarms: BTreeSet<(Time, QueueKey)>,
    /// When each channel is to be looked at, whether it holds something for too long.
    timeouts: delivery::timeouts::Timeouts,
    /// Connections that have something to write since they were last asked.
    woken: Vec<SessionKey>,
    scratch: Vec<u8>,
    /// Dead letters under way.
    deads: queue::dead_letter::Deads,
    /// Who waits for direct answers, by the name that they are published to.
    reply_names: HashMap<Name, (SessionKey, u16)>,
    /// What is to survive, if anything is.
    journal: Option<Journal>,
    /// What runs out.
    shortage: Shortage,
    faults: fault_hooks::Faults,
    /// Whether it crashed on purpose, and serves no connection.
    #[cfg(feature = "testing")]
    down: bool,
}

/// Where a method came in.
#[derive(Clone, Copy, Debug)]
struct At {
    session: SessionKey,
    channel: u16,
    vhost: VhostKey,
}

impl Engine {
    /// A broker with the virtual host `/` and its predeclared exchanges.
    pub(crate) fn new(config: Config) -> Self {
        let faults = fault_hooks::Faults::new(config.seed);
        let mut engine = Self {
            random: Random(config.seed),
            config,
            now: Time::ZERO,
            access: Access::default(),
            vhosts: SlotMap::with_key(),
            exchanges: SlotMap::with_key(),
            queues: SlotMap::with_key(),
            consumers: SlotMap::with_key(),
            sessions: SlotMap::with_key(),
            topology: 0,
            alarms: BTreeSet::new(),
            timeouts: delivery::timeouts::Timeouts::new(),
            woken: Vec::new(),
            scratch: Vec::new(),
            deads: queue::dead_letter::Deads::new(),
            reply_names: HashMap::new(),
            journal: None,
            shortage: 0,
            faults,
            #[cfg(feature = "testing")]
            down: false,
        };
        engine.access.set_password(GUEST, Password::WellKnown(GUEST), true);
        engine.add_vhost("/");
        engine
    }

    /// Adds a virtual host, with the exchanges that each has from the start.
    pub(crate) fn add_vhost(&mut self, name: &str) -> VhostKey {
        if let Some(known) = self.vhost_named(name) {
            return known;
        }
        let vhost = self.vhosts.insert(Vhost::new(name));
        let predeclared = [
            ("amq.direct", Kind::Direct, false),
            ("amq.fanout", Kind::Fanout, false),
            ("amq.headers", Kind::Headers, false),
            ("amq.match", Kind::Headers, false),
            ("amq.topic", Kind::Topic, false),
            ("amq.rabbitmq.trace", Kind::Topic, true),
        ];
        for (exchange, kind, internal) in predeclared {
            let arguments = FieldTable::new();
            let spec = ExchangeSpec { kind, durable: true, auto_delete: false, internal, arguments };
            self.add_exchange(vhost, exchange, spec);
        }
        self.access.set_permissions(GUEST, name, [Pattern::All, Pattern::All, Pattern::All]);
        vhost
    }

    /// Adds a virtual host, and keeps it.
    pub(crate) fn declare_vhost(&mut self, name: &str) {
        self.add_vhost(name);
        self.store_vhost(name);
        // It may do everything there, which is to be kept as well.
        self.change_access(GUEST, |_| ());
    }

    fn vhost_named(&self, name: &str) -> Option<VhostKey> {
        self.vhosts.iter().find(|(_, vhost)| *vhost.name == *name).map(|(id, _)| id)
    }

    fn vhost_name(&self, vhost: VhostKey) -> Name {
        self.vhosts.get(vhost).map_or_else(|| "".into(), |vhost| vhost.name.clone())
    }

    /// The moment to call [`Engine::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        alarm.into_iter().chain(self.timeouts.first().map(|(at, _, _)| *at)).min()
    }

    /// Does what the time asks for: messages and queues expire.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        while let Some(&(at, queue)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            self.queue_alarm(queue);
            self.hand_on_dead_letters();
        }
        self.look_at_held();
    }

    /// The connections that have something to write. Each is named once, until it is asked.
    pub(crate) fn poll_woken(&mut self, woken: &mut Vec<SessionKey>) {
        std::mem::swap(&mut self.woken, woken);
    }

    /// Notes that a connection has something to write.
    fn wake(woken: &mut Vec<SessionKey>, id: SessionKey, session: &mut Session) {
        if !session.woken {
            session.woken = true;
            woken.push(id);
        }
    }

    /// Sends a method to a client. On a channel that is closed meanwhile nobody waits for it.
    fn send<M: Encode>(&mut self, to: SessionKey, channel: u16, method: &M) {
        if let Some(session) = self.sessions.get_mut(to)
            && session.proto.answer(channel, method).is_ok()
        {
            Self::wake(&mut self.woken, to, session);
        }
    }

    fn answer<M: Encode>(&mut self, at: At, method: &M) {
        self.send(at.session, at.channel, method);
    }

    /// The next number of the seed's sequence.
    fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// A name that nobody has chosen: `stem` and 22 letters.
    fn generate_name(&mut self, stem: &str) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut name = stem.to_owned();
        for count in [11, 11] {
            let mut bits = self.random();
            for _ in 0..count {
                name.push(char::from(LETTERS[(bits & 63) as usize]));
                bits = bits.rotate_right(6);
            }
        }
        name
    }
}
