//! The broker as a state machine: decoded input from clients goes in, bytes for them come out.
//!
//! Owns virtual hosts, exchanges, queues, consumers, users, and the protocol state of each connection. Its input is
//! decoded methods and messages, the time, and the store's progress; its output is bytes, and which connections have
//! some to write. It has no clock, socket, lock, thread or disk, and no randomness but the seed's: the same calls give
//! the same bytes. It must never know its driver.
//!
//! For each connection:
//!
//! 1. [`Engine::connect`], then [`Engine::handle`] for each decoded input.
//! 2. After a batch, [`Engine::finish`]; then write the output of [`Engine::poll_transmit`].
//! 3. Wake the connections that [`Engine::poll_woken`] returns: they have output.
//! 4. [`Engine::disconnect`] once the transport is closed.
//!
//! Besides, [`Engine::handle_timeout`] at the time that [`Engine::poll_timeout`] returns, and [`Engine::work`] while
//! [`Engine::has_work`]: what an operation has left for later turns (see [`work`]).

mod access;
mod capacity;
mod delivery;
mod fault_hooks;
mod growth;
mod invariant;
mod keys;
mod kinds;
mod meter;
mod name;
mod persistence;
mod profile;
mod queue;
mod refusal;
mod routing;
mod session;
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only the test kit reads all of it"))]
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod topology;
mod values;
mod work;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hopmq_proto::method::Encode;
use hopmq_proto::{FieldTable, Time};
use slotmap::SlotMap;

use crate::limits::Limits;
use crate::random::Random;
#[cfg(feature = "definitions")]
pub(crate) use access::UserLimits;
pub(crate) use access::{Access, Claim, Password, Pattern};
use delivery::consumer::Consumer;
#[cfg(feature = "testing")]
pub use fault_hooks::Confirms;
use keys::{ConsumerKey, ExchangeKey, QueueKey};
pub(crate) use keys::{SessionKey, VhostKey};
use meter::{Charge, Meter, MeterOwner};
use name::Name;
pub(crate) use persistence::journal::{Contents, Journal};
pub use profile::Profile;
use queue::Queue;
use routing::exchange::{Exchange, ExchangeSpec, Kind};
pub(crate) use session::resource_alarms::{DISK, GROWTH, MEMORY, PACE, Shortage, WATERMARK, name_of};
pub(crate) use session::{Session, SessionEnd};
#[cfg(feature = "definitions")]
pub(crate) use topology::define::Definition;
use topology::vhost::Vhost;
#[cfg(feature = "definitions")]
pub(crate) use topology::vhost::VhostSettings;
pub(crate) use work::{Pace, Spenders};

/// The predeclared user, who may do everything, from this machine. Its password is its name.
const GUEST: &str = "guest";

/// The configuration of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The seed of server-named queues and consumer tags.
    pub(crate) seed: u64,
    /// Seconds since 1970 at [`Time::ZERO`].
    pub(crate) wall_epoch: u64,
    /// The limit of connections at once.
    pub(crate) connection_max: usize,
    pub(crate) limits: Limits,
    /// The memory in bytes above which publishers are blocked; `u64::MAX` is no limit.
    pub(crate) memory_limit: u64,
    /// Which rules apply where RabbitMQ's releases differ.
    pub(crate) profile: Profile,
    /// The time limit for settling a delivery, unless its queue has one.
    pub(crate) consumer_timeout: Option<Duration>,
    /// What the broker offers to connections.
    pub(crate) protocol: hopmq_proto::Config,
}

/// The broker. See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Engine {
    config: Config,
    now: Time,
    random: Random,
    access: Access,
    // Boxed, because a table never gives the memory of its places back.
    exchanges: SlotMap<ExchangeKey, Box<Exchange>>,
    queues: SlotMap<QueueKey, Box<Queue>>,
    consumers: SlotMap<ConsumerKey, Box<Consumer>>,
    sessions: SlotMap<SessionKey, Session>,
    /// Their meters count all that is above.
    vhosts: SlotMap<VhostKey, Vhost>,
    /// Rises with every change that can alter the route of a message.
    topology: u64,
    /// The timer of each queue.
    queue_timers: BTreeSet<(Time, QueueKey)>,
    /// The time at which each channel's delivery timeouts must be checked.
    timeouts: delivery::timeouts::Timeouts,
    /// Connections that have had output since the last [`Engine::poll_woken`].
    woken: Vec<SessionKey>,
    scratch: queue::message::Scratch,
    /// The steps of the turn, and unfinished work.
    work: work::Work,
    routing: routing::route::Routing,
    deleted: topology::delete::Deleted,
    /// The queues with dead messages whose dead letters were not taken.
    undelivered: BTreeSet<QueueKey>,
    /// [`Engine::topology`] when their dead letters were last tried.
    retried: u64,
    /// The channels with a reply consumer, by the name that replies are published to.
    reply_names: HashMap<Name, (SessionKey, u16)>,
    /// What the store has yet to be given, if there is a store.
    journal: Option<Journal>,
    /// The queues whose consumers can't get the next message, because it can't be read.
    failing: Vec<QueueKey>,
    paging: persistence::paging::Paging,
    /// What the store has yet to write.
    unwritten: Charge,
    /// The resource alarms that are raised.
    shortage: Shortage,
    growth: growth::Growth,
    refused_logins: session::log::RefusedLogins,
    faults: fault_hooks::Faults,
    /// Whether the broker crashed on purpose, and serves no connection.
    #[cfg(feature = "testing")]
    down: bool,
    /// Counts the memory of all that is above.
    meter: Meter,
    #[allow(dead_code, reason = "dropped last, it checks that all memory was given back")]
    meter_owner: MeterOwner,
}

/// The origin of a method.
#[derive(Clone, Copy, Debug)]
struct At {
    session: SessionKey,
    channel: u16,
    vhost: VhostKey,
}

impl Engine {
    /// Returns a broker with the virtual host `/` and its predeclared exchanges.
    pub(crate) fn new(config: Config) -> Self {
        let faults = fault_hooks::Faults::new(config.seed);
        let meter_owner = MeterOwner::new();
        let meter = meter_owner.meter();
        let mut engine = Self {
            random: Random(config.seed),
            now: Time::ZERO,
            access: Access::new(config.profile),
            config,
            vhosts: SlotMap::with_key(),
            exchanges: SlotMap::with_key(),
            queues: SlotMap::with_key(),
            consumers: SlotMap::with_key(),
            sessions: SlotMap::with_key(),
            topology: 0,
            queue_timers: BTreeSet::new(),
            timeouts: delivery::timeouts::Timeouts::new(),
            woken: Vec::new(),
            scratch: queue::message::Scratch::new(meter),
            work: work::Work::new(),
            routing: routing::route::Routing::default(),
            deleted: topology::delete::Deleted::default(),
            undelivered: BTreeSet::new(),
            retried: 0,
            reply_names: HashMap::new(),
            journal: None,
            failing: Vec::new(),
            paging: persistence::paging::Paging::default(),
            unwritten: Charge::new(meter, meter::Purpose::Store, 0),
            shortage: 0,
            growth: growth::Growth::new(),
            refused_logins: session::log::RefusedLogins::default(),
            faults,
            #[cfg(feature = "testing")]
            down: false,
            meter,
            meter_owner,
        };
        engine.access.set_password(GUEST, Password::WellKnown(GUEST), true);
        engine.add_vhost("/");
        engine
    }

    /// Adds a virtual host with its predeclared exchanges.
    pub(crate) fn add_vhost(&mut self, name: &str) -> VhostKey {
        if let Some(known) = self.vhost_named(name) {
            return known;
        }
        let vhost = self.vhosts.insert(Vhost::new(name, self.meter));
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

    /// Returns the time of the last input.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Adds a virtual host, and stores it.
    pub(crate) fn declare_vhost(&mut self, name: &str) {
        self.add_vhost(name);
        self.store_vhost(name);
        // `guest` gets all permissions in it, which must be stored as well.
        self.change_access(GUEST, |_| ());
    }

    #[cfg(feature = "definitions")]
    pub(crate) fn profile(&self) -> Profile {
        self.config.profile
    }

    /// Whether `guest` has its predeclared password.
    pub(crate) fn has_default_user(&self) -> bool {
        self.access.has_default_user()
    }

    /// Returns how many kinds of hashes the users' passwords would have with this one.
    pub(crate) fn count_kinds_with(&self, hash: &str) -> usize {
        self.access.kinds().count_with(hash)
    }

    pub(crate) fn has_vhost(&self, name: &str) -> bool {
        self.vhost_named(name).is_some()
    }

    fn vhost_named(&self, name: &str) -> Option<VhostKey> {
        self.vhosts.iter().find(|(_, vhost)| *vhost.name == *name).map(|(id, _)| id)
    }

    /// Returns the meter of a virtual host.
    #[inline]
    fn meter_of(&self, vhost: VhostKey) -> Meter {
        self.vhosts.get(vhost).map_or(self.meter, |vhost| vhost.meter.meter())
    }

    fn vhost_name(&self, vhost: VhostKey) -> Name {
        self.vhosts.get(vhost).map_or_else(|| "".into(), |vhost| vhost.name.clone())
    }

    /// Returns the time at which [`Engine::handle_timeout`] must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let paging = self.has_to_page().then_some(self.now);
        let queue_timer = self.queue_timers.first().map(|(at, _)| *at);
        let timeout = self.timeouts.first().map(|(at, _, _)| *at);
        queue_timer.into_iter().chain(paging).chain(timeout).chain(self.growth.poll_timeout()).min()
    }

    /// Expires the messages and queues that are due, as far as the budget of the turn goes: [`Engine::poll_timeout`]
    /// tells whether it must be called again.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        self.begin_timers();
        while let Some(&(at, queue)) = self.queue_timers.first()
            && at <= now
            && self.goes_on()
        {
            // The work that was left may have changed it.
            if self.queue_timers.remove(&(at, queue)) {
                self.handle_queue_timer(queue);
            }
        }
        self.check_delivery_timeouts();
        self.page_out();
        self.end();
    }

    /// Swaps in the connections that have output. Each is returned once for each output.
    pub(crate) fn poll_woken(&mut self, woken: &mut Vec<SessionKey>) {
        std::mem::swap(&mut self.woken, woken);
    }

    /// Notes that a connection has output.
    fn wake(woken: &mut Vec<SessionKey>, id: SessionKey, session: &mut Session) {
        if !session.woken {
            session.woken = true;
            woken.push(id);
        }
    }

    /// Sends a method to a client. Does nothing if the channel was closed in the meantime.
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

    /// Returns the next number of the seed's sequence.
    fn random(&mut self) -> u64 {
        self.random.next()
    }

    /// Returns a name for what the client did not name: `stem` and 22 letters.
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
