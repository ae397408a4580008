//! Random sequences of calls, over a network that slices at random, with futures dropped at random: every call ends,
//! nothing panics, and the broker gets back all undelivered messages.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_lite::{StreamExt, future};
use hopmq::{Channel, Connection, Consumer, Delivery, Result};

use crate::common::{Random, Slice, Started, World, seconds};

/// A user of the client, which makes random calls on a channel.
struct User {
    connection: Connection,
    channel: Channel,
    consumers: Vec<Consumer>,
    deliveries: Vec<Delivery>,
    random: Random,
}

impl User {
    async fn act(&mut self) -> Result<()> {
        let queue = ["a", "b", "c"][self.random.below(3)];
        let step = self.random.below(20);
        let name = [
            "publish",
            "publish",
            "publish",
            "confirm",
            "confirm",
            "later",
            "mandatory",
            "declare",
            "purge",
            "get",
            "consume",
            "cancel",
            "take",
            "take",
            "take",
            "settle",
            "settle",
            "pipeline",
            "channel",
            "missing",
        ][step];
        let size = if self.random.one_in(10) { self.random.below(20_000) } else { self.random.below(300) };
        let body = vec![b'x'; size];
        match name {
            "publish" => self.channel.publish("", queue, body).send().await?,
            "confirm" => self.channel.publish("", queue, body).confirm().await?,
            "later" => {
                let first = self.channel.publish("", queue, "1").confirm_later().await?;
                let second = self.channel.publish("", queue, "2").confirm_later().await?;
                second.await?;
                first.await?;
            }
            "mandatory" => {
                let returned = self.channel.publish("", "nowhere", body).mandatory().confirm().await;
                assert!(returned.is_err(), "the queue does not exist");
            }
            "declare" => drop(self.channel.queue(queue).declare().await?),
            "purge" => drop(self.channel.queue_purge(queue).await?),
            "get" => self.deliveries.extend(self.channel.get(queue).await?),
            "consume" => {
                let prefetch = self.random.below(20) as u16;
                let consumer = self.channel.consume(queue).prefetch(prefetch).start().await?;
                self.consumers.push(consumer);
            }
            "cancel" => {
                if let Some(consumer) = self.consumers.pop()
                    && self.random.one_in(2)
                {
                    consumer.cancel().await?;
                }
            }
            "take" => {
                if let Some(consumer) = self.consumers.last_mut() {
                    // Takes a delivery that has arrived, without waiting for one.
                    let next = async { consumer.next().await.transpose() };
                    if let Some(delivery) = future::or(next, async { Ok(None) }).await? {
                        self.deliveries.push(delivery);
                    }
                }
            }
            "settle" => self.settle()?,
            "pipeline" => {
                let first = self.channel.queue(queue).declare();
                let second = self.channel.get(queue);
                drop(self.channel.get(queue));
                let third = self.channel.queue_purge(queue);
                third.await?;
                self.deliveries.extend(second.await?);
                first.await?;
            }
            "channel" => self.renew().await?,
            _ => {
                assert!(self.channel.queue("missing").declare_passive().await.is_err());
                self.renew().await?;
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if self.deliveries.is_empty() {
            return Ok(());
        }
        let delivery = self.deliveries.swap_remove(self.random.below(self.deliveries.len()));
        let settled = match self.random.below(4) {
            0 => delivery.ack(),
            1 => delivery.nack(true),
            2 => delivery.reject(false),
            _ => delivery.ack(),
        };
        // Deliveries of a closed channel can't be settled.
        if self.channel.is_open() { settled.map(drop).or(Ok(())) } else { Ok(()) }
    }

    /// Opens a channel, and retries: consumers that take nothing may hold up the replies for a while.
    async fn begin(&mut self) -> Result<()> {
        while let Err(error) = self.renew().await {
            if !self.connection.is_open() {
                return Err(error);
            }
            assert!(error.is_timeout(), "{error}");
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<()> {
        self.channel = self.connection.channel().await?;
        for queue in ["a", "b", "c"] {
            drop(self.channel.queue(queue).declare().await?);
        }
        Ok(())
    }
}

/// Starts three users, which make 60 calls each or stop when the connection has ended.
fn begin(world: &mut World, connection: &Connection, seed: u64) -> Vec<Started<Result<()>>> {
    let channel = world.run(connection.channel()).unwrap();
    let mut users = Vec::new();
    for number in 0..3 {
        let connection = connection.clone();
        let time = world.time.clone();
        let channel = channel.clone();
        let mut random = Random::new(seed ^ (100 + number));
        users.push(world.start(async move {
            let own = Random::new(random.next());
            let mut user = User { connection, channel, consumers: Vec::new(), deliveries: Vec::new(), random: own };
            user.begin().await?;
            for _ in 0..60 {
                let delay = std::time::Duration::from_millis(random.next() % 3);
                let result = if random.one_in(3) {
                    // The call is dropped at once or after a while, at any await.
                    let polls = random.below(4);
                    let give_up = async {
                        for _ in 0..polls {
                            future::yield_now().await;
                        }
                        time.sleep(delay).await;
                        Ok(())
                    };
                    future::or(user.act(), give_up).await
                } else {
                    user.act().await
                };
                if let Err(error) = result {
                    if !user.connection.is_open() {
                        return Err(error);
                    }
                    // A consumer that takes nothing may hold up the reply, and the channel may have been closed.
                    assert!(error.is_timeout() || error.is_closed(), "{error}");
                    user.consumers.clear();
                    user.begin().await?;
                }
            }
            Ok(())
        }));
    }
    users
}

/// Runs random calls on a connection that breaks in a random way at a random time.
fn calls_until_the_link_breaks(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::with_capacity([64, 1000, 65_536][random.below(3)]);
    world.server.wire.slice(&Slice::Random(Random::new(seed ^ 1)));
    let builder = Connection::builder().high_water_mark(1 + random.below(5000)).heartbeat(seconds(5)).frame_max(4096);
    let connection = world.connect_by(&builder).unwrap();
    let mut events = connection.events();
    let users = begin(&mut world, &connection, seed);
    for _ in 0..random.below(30) {
        world.advance(std::time::Duration::from_millis(1));
    }
    match random.below(8) {
        0 => world.server.wire.cut(),
        1 => world.server.wire.reset(),
        2 => world.server.wire.fail_writes(std::io::ErrorKind::BrokenPipe),
        3 => world.server.silent = true,
        4 => world.server.deaf = true,
        5 => world.server.refuse(320, "CONNECTION_FORCED"),
        6 => world.server.raw(&[random.next() as u8; 30]),
        _ => world.drop_tasks(),
    }
    let broken = world.time.now();
    for user in users {
        // Dropped tasks never end.
        if !world.is_idle() {
            let _ = world.wait(&user);
        }
    }
    let reason = world.run(connection.closed());
    assert!(world.time.now() - broken < seconds(120), "{:?} until {reason}", world.time.now() - broken);
    let last = world.run(async {
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        last
    });
    assert!(matches!(last, Some(hopmq::Event::Closed { error }) if error.to_string() == reason.to_string()));
}

/// Runs random calls on a connection that stays up.
fn calls(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::with_capacity([64, 1000, 65_536][random.below(3)]);
    world.server.wire.slice(&Slice::Random(Random::new(seed ^ 1)));
    world.server.broker.nack_every = None;
    let builder = Connection::builder()
        .high_water_mark(1 + random.below(5000))
        .receive_limit(random.below(5000))
        .frame_max(4096)
        .connection_name("user");
    let connection = world.connect_by(&builder).unwrap();
    let users = begin(&mut world, &connection, seed);
    for user in users {
        world.wait(&user).unwrap();
    }
    assert!(world.server.violation.is_none(), "{:?}", world.server.violation);
    // The users have ended and dropped everything.
    world.settle();
    assert_eq!(world.server.broker.channels(), 0, "channels are left: {:?}", world.server.seen());
    let channel = world.run(connection.channel()).unwrap();
    for queue in ["a", "b", "c"] {
        world.run(channel.queue(queue).declare()).unwrap();
        let ready = world.server.broker.ready(queue);
        assert_eq!(world.run(channel.queue_purge(queue)).unwrap() as usize, ready);
    }
    assert_eq!(world.server.broker.unacked(), 0);
    world.run(connection.close()).unwrap();
    let stats = connection.stats();
    assert_eq!(stats.nacked, 0);
    assert!(world.time.now().since_epoch() < seconds(3600), "it took {:?}", world.time.now());
}

/// Runs `scenario` with as many seeds as `HOPMQ_SEEDS` says, or with the one seed in `HOPMQ_SEED`.
fn with_seeds(scenario: fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, count) = match number("HOPMQ_SEED") {
        Some(seed) => (seed, 1),
        None => (1, number("HOPMQ_SEEDS").unwrap_or(50)),
    };
    for seed in first..first + count {
        if catch_unwind(AssertUnwindSafe(|| scenario(seed))).is_err() {
            panic!("seed {seed}: run it alone with HOPMQ_SEED={seed}");
        }
    }
}

#[test]
fn random_calls_and_drops_all_end_and_leave_nothing_behind() {
    with_seeds(calls);
}

#[test]
fn random_calls_and_drops_end_with_one_reason_when_the_link_breaks() {
    with_seeds(calls_until_the_link_breaks);
}
