//! A crash between the parts of an operation that takes several turns.

use std::time::Duration;

use hopmq_broker::store::Settings;
use hopmq_broker::{Broker, Clock, CrashStorage};

#[test]
fn a_dead_letter_is_in_one_of_its_queues_whenever_the_broker_crashes() {
    let mut cut = 0;
    for seed in 0..12 {
        let (clock, disk) = (Clock::manual(), CrashStorage::new());
        let broker = Broker::builder().clock(&clock).turn_steps(1).store(Settings::small()).open(disk.clone()).unwrap();
        let connection = hopmq_blocking::Connection::open(&broker.uri()).unwrap();
        let channel = connection.channel().unwrap();
        channel.queue("dead").durable().declare().unwrap();
        let queue = channel.queue("q").durable().message_ttl(Duration::from_secs(1));
        let queue = queue.dead_letter_exchange("").dead_letter_routing_key("dead").declare().unwrap();
        for number in 0..COUNT {
            queue.publish(number.to_string()).persistent().confirm().unwrap();
        }
        clock.advance(Duration::from_secs(1));
        // The crash comes between two of the turns in which the messages expire.
        while broker.inspect().ready("dead").len() < seed {}
        broker.faults().crash(|| disk.power_cut(seed as u64)).unwrap();
        cut += usize::from(broker.inspect().ready("dead").len() < COUNT);
        broker.wait_until(|inspector| inspector.ready("q").is_empty());
        let mut found: Vec<usize> =
            broker.inspect().ready("dead").iter().map(|message| message.text().parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, (0..COUNT).collect::<Vec<_>>(), "seed {seed}");
        drop(connection);
    }
    // All but those for which another thread was quick.
    assert!(cut > 0, "no crash came between two parts");
}

const COUNT: usize = 100;
