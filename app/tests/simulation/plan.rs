//! What a run does, drawn from its seed.

use std::time::Duration;

use hopmq_app::{Backoff, DeadLetter, Queue};
use hopmq_broker::Profile;

/// An order, which says how its handling goes.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) customer: u32,
    /// The index of its queue.
    pub(crate) queue: usize,
    pub(crate) fate: Fate,
    /// How long each call takes, in milliseconds.
    pub(crate) millis: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
pub(crate) enum Fate {
    Succeeds,
    FailsFirst {
        calls: u32,
    },
    AlwaysFails,
    Panics,
    IsRejected,
    IsParked,
    IsReleasedFirst,
    /// The first call never ends.
    HangsFirst,
}

/// A queue of a run.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    quorum: bool,
    pub(crate) ordered: bool,
    single: bool,
    pub(crate) backoff: Backoff,
    concurrency: usize,
    prefetch: u16,
    shared_graveyard: bool,
}

pub(crate) struct Plan {
    pub(crate) profile: Profile,
    pub(crate) turn_steps: u32,
    pub(crate) queues: Vec<Route>,
    pub(crate) actions: u64,
    pub(crate) faults: u64,
    /// Whether each fault is a link that falls silent. The broker notices that late, so that only a single active
    /// consumer keeps order then; and it must not cancel the consumer before, with the messages that it holds.
    pub(crate) silent: bool,
    pub(crate) restarts: u64,
}

impl Plan {
    pub(crate) fn new(random: &mut Random) -> Self {
        let queues: Vec<_> = (0..=random.below(3)).map(|number| Route::new(number, random)).collect();
        let calm = random.below(4) == 0;
        let silent = queues.iter().all(|queue| queue.single || !queue.ordered) && random.below(4) == 0;
        Self {
            silent,
            profile: [Profile::RabbitMq3_13, Profile::RabbitMq4_0, Profile::RabbitMq4_3][random.below(3) as usize],
            turn_steps: [1, 3, 2048, 2048][random.below(4) as usize],
            queues,
            actions: 5 + random.below(35),
            faults: if calm { 0 } else { 1 + random.below(6) },
            restarts: if calm { 0 } else { random.below(4) },
        }
    }

    pub(crate) fn order(&self, id: u32, random: &mut Random) -> Order {
        let queue = random.below(self.queues.len() as u64) as usize;
        let ordered = self.queues[queue].ordered;
        let fate = match random.below(20) {
            0..=9 => Fate::Succeeds,
            10..=12 => Fate::FailsFirst { calls: 1 + random.below(3) as u32 },
            13 => Fate::AlwaysFails,
            14 => Fate::Panics,
            15 => Fate::IsRejected,
            16 => Fate::IsParked,
            // These give up their place, or hold the others behind them for long.
            17 | 18 if ordered => Fate::Succeeds,
            17 => Fate::IsReleasedFirst,
            // RabbitMQ 4.3 has no timeout for classic queues.
            18 if self.queues[queue].quorum && random.below(4) == 0 => Fate::HangsFirst,
            _ => Fate::Succeeds,
        };
        let millis = [0, 0, 0, 5, 700][random.below(5) as usize];
        Order { id, customer: random.below(4) as u32, queue, fate, millis }
    }
}

impl Route {
    fn new(number: u64, random: &mut Random) -> Self {
        let ordered = random.below(3) == 0;
        let millis = |list: &[u64]| Backoff::list(list.iter().map(|time| Duration::from_millis(*time)));
        let backoff = match random.below(6) {
            0 => Backoff::never(),
            1 => millis(&[0, 10]),
            2 => millis(&[100, 1000]).jitter(50),
            3 => Backoff::fixed(Duration::from_secs(2)).attempts(3),
            4 => Backoff::exponential(Duration::from_secs(1), 5).attempts(4),
            _ => Backoff::exponential(Duration::from_millis(300), 4).jitter(30).attempts(4),
        };
        Self {
            name: format!("q{number}"),
            quorum: random.below(2) == 0,
            ordered,
            single: ordered && random.below(2) == 0,
            backoff,
            concurrency: 1 + random.below(6) as usize,
            prefetch: [1, 3, 16, 50][random.below(4) as usize],
            shared_graveyard: random.below(4) == 0,
        }
    }

    pub(crate) fn declaration(&self) -> Queue {
        let mut queue = Queue::new(&self.name).bind("shop", format!("{}.*", self.name));
        if self.quorum {
            queue = queue.quorum();
        }
        if self.ordered {
            queue = queue.ordered_by(|message| message.header("customer").and_then(|value| value.as_i64()));
        }
        if self.single {
            queue = queue.single_active_consumer();
        }
        if self.shared_graveyard {
            queue = queue.dead_letter(DeadLetter::To("graveyard".into()));
        }
        queue.retry(self.backoff.clone()).concurrency(self.concurrency).prefetch(self.prefetch)
    }

    /// The queues that are empty in the end.
    pub(crate) fn working_queues(&self) -> Vec<String> {
        let queue = self.declaration();
        let policy = queue.policy();
        let ends = [policy.dead_letter, policy.parked];
        let all = queue.all().into_iter().map(|queue| queue.name().to_owned());
        all.filter(|name| !ends.iter().flatten().any(|end| end == name)).collect()
    }

    /// The queues of the messages that failed.
    pub(crate) fn ends(&self) -> Vec<String> {
        let policy = self.declaration().policy();
        let mut ends: Vec<_> = [policy.dead_letter, policy.parked].into_iter().flatten().collect();
        ends.dedup();
        ends
    }
}

/// Random numbers from a seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws a number below `limit`; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
