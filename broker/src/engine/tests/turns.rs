//! How many steps others must wait for an operation, however large it is, and that they have their turns beside it.
//!
//! Each attack runs twice: on an engine without a budget, where it takes one turn of many steps, and on one with the
//! default budget.

use std::time::Duration;

use hopmq_proto::method::{basic, exchange, queue, tx};
use hopmq_proto::{FieldTable, Time};

use crate::engine::tests::world::{BATCH, Peer, World};
use crate::engine::{Pace, Spenders};

/// The most steps of a turn: the budget, and an operation that begins before it is spent. A commit may take a whole
/// budget more.
const MOST: u32 = 2 * 2048 + 300;
/// Prepares an attack, and returns what starts it.
type Attack = fn(&mut World, &mut Peer) -> Box<dyn FnOnce(&mut World, &mut Peer)>;

/// Returns the most steps of a turn in an attack.
fn most(attack: Attack, budget: Option<u32>) -> u32 {
    let mut world = World::new(budget);
    let mut peer = world.connect();
    let start = attack(&mut world, &mut peer);
    world.engine.take_most_steps();
    start(&mut world, &mut peer);
    while world.work() {}
    if !world.engine.is_gone(peer.session) {
        world.flow(&mut peer);
    }
    world.engine.take_most_steps()
}

#[track_caller]
fn check(attack: Attack, at_least: u32) {
    let before = most(attack, Some(u32::MAX));
    let after = most(attack, None);
    println!("{before} steps at once without a budget, {after} with it");
    assert!(before >= at_least, "{before}");
    assert!(after <= MOST, "{after}");
}

const COUNT: usize = 12_000;

fn dead_lettering() -> FieldTable {
    FieldTable::new().with("x-dead-letter-exchange", "").with("x-dead-letter-routing-key", "dead")
}

#[test]
fn a_purge_is_cut() {
    check(
        |world, peer| {
            peer.fill(world, "q", &FieldTable::new(), COUNT);
            Box::new(|world, peer| {
                peer.client.request(1, &queue::Purge { queue: "q", nowait: false }, Some(1)).unwrap();
                let answers = peer.answers;
                while peer.answers == answers {
                    world.turn(peer);
                    world.work();
                }
            })
        },
        COUNT as u32,
    );
}

#[test]
fn the_deletion_of_a_queue_is_cut() {
    check(
        |world, peer| {
            peer.fill(world, "q", &FieldTable::new(), COUNT);
            (0..COUNT).for_each(|key| peer.bind("q", "amq.topic", &format!("{key}.#")));
            (0..1_000).for_each(|tag| peer.consume("q", &format!("c{tag}")));
            world.flow(peer);
            Box::new(|world, peer| {
                peer.client.request(1, &queue::Delete { queue: "q", ..Default::default() }, Some(1)).unwrap();
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

#[test]
fn the_deletion_of_an_exchange_is_cut() {
    check(
        |world, peer| {
            let declare = exchange::Declare { exchange: "e", kind: "direct", ..Default::default() };
            peer.client.request(1, &declare, None).unwrap();
            peer.declare("q", false, &FieldTable::new());
            (0..COUNT).for_each(|key| peer.bind("q", "e", &key.to_string()));
            world.flow(peer);
            Box::new(|world, peer| {
                peer.client.request(1, &exchange::Delete { exchange: "e", ..Default::default() }, None).unwrap();
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

fn disconnect(world: &mut World, peer: &mut Peer) {
    world.engine.start_turn();
    world.engine.disconnect(world.now, peer.session);
    assert!(world.engine.is_gone(peer.session));
    world.engine.start_turn();
}

#[test]
fn a_disconnect_with_unacked_deliveries_is_cut() {
    check(
        |world, peer| {
            peer.hold(world, &FieldTable::new(), COUNT);
            Box::new(disconnect)
        },
        // A few of them come first.
        COUNT as u32 - 100,
    );
}

#[test]
fn a_disconnect_with_consumers_and_exclusive_queues_is_cut() {
    check(
        |world, peer| {
            peer.declare("q", false, &FieldTable::new());
            (0..COUNT / 4).for_each(|tag| peer.consume("q", &format!("c{tag}")));
            (0..COUNT).for_each(|number| peer.declare(&format!("q{number}"), true, &FieldTable::new()));
            world.flow(peer);
            Box::new(disconnect)
        },
        COUNT as u32,
    );
}

#[test]
fn a_requeue_is_cut() {
    check(
        |world, peer| {
            peer.hold(world, &FieldTable::new(), COUNT);
            Box::new(|world, peer| {
                peer.client.nack(1, COUNT as u64, true, true).unwrap();
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

#[test]
fn a_recovery_is_cut() {
    check(
        |world, peer| {
            peer.hold(world, &FieldTable::new(), COUNT);
            Box::new(|world, peer| {
                peer.client.request(1, &basic::Recover { requeue: true }, None).unwrap();
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

#[test]
fn an_ack_of_many_deliveries_is_cut() {
    check(
        |world, peer| {
            peer.hold(world, &FieldTable::new(), COUNT);
            Box::new(|world, peer| {
                peer.client.ack(1, COUNT as u64, true).unwrap();
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

#[test]
fn a_rejection_with_dead_letters_is_cut() {
    check(
        |world, peer| {
            peer.declare("dead", false, &FieldTable::new());
            peer.hold(world, &dead_lettering(), COUNT);
            Box::new(|world, peer| {
                peer.client.nack(1, COUNT as u64, true, false).unwrap();
                world.flow(peer);
            })
        },
        5 * COUNT as u32,
    );
}

#[test]
fn a_commit_and_a_rollback_are_cut() {
    check(
        |world, peer| {
            peer.hold(world, &FieldTable::new(), COUNT);
            peer.client.tx_select(1, None).unwrap();
            peer.declare("other", false, &FieldTable::new());
            world.flow(peer);
            Box::new(|world, peer| {
                for (_, end) in [(0, false), (1, true)] {
                    (0..COUNT).for_each(|_| peer.publish("", "other", b"x"));
                    peer.client.ack(1, COUNT as u64, true).unwrap();
                    match end {
                        true => peer.client.request(1, &tx::Commit {}, None).unwrap(),
                        false => peer.client.request(1, &tx::Rollback {}, None).unwrap(),
                    };
                    world.flow(peer);
                }
            })
        },
        2 * COUNT as u32,
    );
}

#[test]
fn the_expiry_of_many_messages_at_once_is_cut() {
    check(
        |world, peer| {
            peer.declare("dead", false, &FieldTable::new());
            peer.fill(world, "q", &dead_lettering().with("x-message-ttl", 1000), COUNT);
            Box::new(|world, _| world.now = world.now + Duration::from_secs(1))
        },
        5 * COUNT as u32,
    );
}

#[test]
fn a_message_that_pushes_out_many_is_cut() {
    check(
        |world, peer| {
            peer.fill(world, "q", &FieldTable::new().with("x-max-length-bytes", COUNT as i64), COUNT);
            Box::new(|world, peer| {
                peer.publish("", "q", &vec![0; COUNT]);
                world.flow(peer);
            })
        },
        COUNT as u32,
    );
}

#[test]
fn a_fan_out_is_cut() {
    check(
        |world, peer| {
            for number in 0..10_000 {
                peer.declare(&format!("q{number}"), false, &FieldTable::new());
                peer.bind(&format!("q{number}"), "amq.fanout", "");
            }
            peer.client.confirm_select(1).unwrap();
            world.flow(peer);
            Box::new(|world, peer| {
                peer.publish("amq.fanout", "", b"x");
                world.flow(peer);
                assert_eq!(peer.confirmed, 1);
            })
        },
        10_000,
    );
}

#[test]
fn a_match_of_headers_with_many_bindings_is_cut() {
    check(
        |world, peer| {
            peer.declare_headers(&["q"]);
            (0..COUNT).for_each(|number| peer.bind_headers("q", &FieldTable::new().with("number", number as i64)));
            peer.client.confirm_select(1).unwrap();
            peer.consume("q", "c");
            world.flow(peer);
            Box::new(|world, peer| {
                peer.publish_headers(&FieldTable::new().with("number", 7));
                peer.publish_headers(&FieldTable::new().with("number", COUNT as i64 - 1));
                world.flow(peer);
                assert_eq!((peer.confirmed, peer.deliveries), (2, 2));
            })
        },
        2 * COUNT as u32 / 4,
    );
}

#[test]
fn bindings_that_change_during_a_match_count_each_for_itself() {
    let mut world = World::new(None);
    let (mut publisher, mut other) = (world.connect(), world.connect());
    let wanted = |number: usize| FieldTable::new().with("x-match", "any").with("a", 1).with("number", number as i64);
    let queues = ["first", "gone", "kept"];
    publisher.declare_headers(&queues);
    for queue in queues {
        (0..COUNT).for_each(|number| publisher.bind_headers(queue, &wanted(number)));
    }
    publisher.client.confirm_select(1).unwrap();
    world.flow(&mut publisher);
    publisher.publish_headers(&FieldTable::new().with("a", 1));
    world.turn(&mut publisher);
    assert!(world.engine.is_held(publisher.session) && publisher.confirmed == 0);
    // The match goes on between the turns of what removes its bindings.
    other.client.request(1, &queue::Delete { queue: "gone", ..Default::default() }, Some(1)).unwrap();
    while publisher.confirmed == 0 {
        world.turn(&mut other);
        world.work();
        world.turn(&mut publisher);
    }
    world.flow(&mut other);
    world.flow(&mut publisher);
    let vhost = world.engine.vhost_named("/").unwrap();
    let ready = |queue| world.engine.inspect_queue_named(vhost, queue).map(|queue| queue.ready);
    assert_eq!([ready("first"), ready("gone"), ready("kept")], [Some(1), None, Some(1)]);
    // So it does between those of what removes its exchange.
    publisher.publish_headers(&FieldTable::new().with("a", 1));
    world.turn(&mut publisher);
    assert!(world.engine.is_held(publisher.session));
    other.client.request(1, &exchange::Delete { exchange: "h", ..Default::default() }, None).unwrap();
    world.flow(&mut other);
    world.flow(&mut publisher);
    assert_eq!(publisher.confirmed, 2);
}

#[test]
fn a_connection_that_leaves_during_a_match_takes_its_message_along() {
    let mut world = World::new(None);
    let mut peer = world.connect();
    peer.declare_headers(&["q"]);
    (0..5 * COUNT).for_each(|number| peer.bind_headers("q", &FieldTable::new().with("number", number as i64)));
    world.flow(&mut peer);
    peer.publish_headers(&FieldTable::new().with("number", 7));
    world.turn(&mut peer);
    world.work();
    assert!(world.engine.is_held(peer.session));
    disconnect(&mut world, &mut peer);
    while world.work() {}
    let vhost = world.engine.vhost_named("/").unwrap();
    assert_eq!(world.engine.inspect_queue_named(vhost, "q").unwrap().ready, 0);
}

#[test]
fn a_batch_of_expensive_publishes_is_cut() {
    check(
        |world, peer| {
            for number in 0..200 {
                peer.declare(&format!("q{number}"), false, &FieldTable::new());
                peer.bind(&format!("q{number}"), "amq.fanout", "");
            }
            world.flow(peer);
            Box::new(|world, peer| {
                (0..BATCH).for_each(|_| peer.publish("amq.fanout", "", b"x"));
                // Without a budget, the server's batch is one turn.
                world.flow(peer);
            })
        },
        // The engine can't end the server's turn between two inputs: only the budget can.
        BATCH as u32 * 200,
    );
}

#[test]
fn dead_letters_that_multiply_come_to_an_end() {
    check(
        |world, peer| {
            let arguments = FieldTable::new().with("x-dead-letter-exchange", "amq.fanout").with("x-message-ttl", 0);
            // Without an end, one message makes 200! dead letters.
            for number in 0..200 {
                peer.declare(&format!("q{number}"), false, &arguments);
                peer.bind(&format!("q{number}"), "amq.fanout", "");
            }
            peer.client.confirm_select(1).unwrap();
            world.flow(peer);
            Box::new(|world, peer| {
                peer.publish("", "q0", b"x");
                world.flow(peer);
                assert_eq!(peer.confirmed, 1);
            })
        },
        40_000,
    );
}

#[test]
fn the_budget_follows_the_time_that_steps_take() {
    // A purge whose steps take this long each, after a turn that took as long as given. Returns the times of its turns.
    let purge = |first: Duration, step: Duration| {
        let mut world = World::new(None);
        let mut peer = world.connect();
        peer.fill(&mut world, "q", &FieldTable::new(), COUNT);
        peer.client.request(1, &queue::Purge { queue: "q", nowait: false }, Some(1)).unwrap();
        world.turn(&mut peer);
        world.engine.start_turn();
        world.engine.work(world.now);
        world.engine.end_turn(|| first);
        let mut times = Vec::new();
        while world.engine.has_work() {
            world.engine.start_turn();
            world.engine.work(world.now);
            let time = step * world.engine.steps();
            world.engine.end_turn(|| time);
            times.push(time);
        }
        times
    };
    let cheap = Duration::from_nanos(100);
    let steady = purge(Duration::ZERO, cheap).len();
    assert!(steady <= COUNT / 2048, "{steady} turns");
    // It is halved from turn to turn, and then stays: the last one only does the rest.
    let dear = purge(Duration::from_secs(1), Duration::from_micros(5));
    let settled = &dear[5..dear.len() - 1];
    assert!(settled.iter().all(|time| (400..=600).contains(&time.as_micros())), "{dear:?}");
    // A thread that was stopped for a second has shorter turns after it, but few.
    let stopped = purge(Duration::from_secs(1), cheap).len();
    assert!(stopped <= steady + 2, "{stopped} turns");
}

#[test]
fn turns_are_short_at_first_and_while_many_connections_spend_theirs() {
    let mut world = World::new(None);
    let (now, mut spenders) = (world.now, Spenders::default());
    // The steps of a turn of a connection that spends all it gets.
    let mut spend = |now: Time, pace: &mut Pace, spenders: &mut Spenders| {
        world.engine.start_turn();
        pace.begin(now, &mut world.engine, *spenders);
        while !world.engine.is_spent() {
            world.engine.count_step();
        }
        assert!(pace.end(now, &world.engine, spenders));
        world.engine.steps()
    };
    let mut alone = Pace::new();
    let steps: Vec<_> = (0..7).map(|_| spend(now, &mut alone, &mut spenders)).collect();
    assert_eq!(steps, [64, 128, 256, 512, 1024, 2048, 2048]);
    let mut crowd = vec![Pace::new(); 999];
    for round in 0..10 {
        let all: u32 = crowd.iter_mut().map(|pace| spend(now, pace, &mut spenders)).sum();
        // A turn of the whole crowd takes as long as thirty whole ones at most.
        assert!(all <= 30 * 2048, "{all} steps in round {round}");
    }
    assert!(spend(now, &mut alone, &mut spenders) <= 2048 / 60);
    crowd.iter_mut().for_each(|pace| pace.leave(&mut spenders));
    assert_eq!(spend(now, &mut alone, &mut spenders), 2048);
    let rested = now + Duration::from_millis(6);
    assert_eq!(spend(rested, &mut alone, &mut spenders), 64);
}

#[test]
fn others_have_their_turns_beside_a_large_operation() {
    let mut world = World::new(None);
    let mut large = world.connect();
    let mut small = world.connect();
    large.declare("dead", false, &FieldTable::new());
    large.hold(&mut world, &dead_lettering(), 5 * COUNT);
    large.client.nack(1, 5 * COUNT as u64, true, false).unwrap();
    world.turn(&mut large);
    assert!(world.engine.is_held(large.session));
    small.fill_unheard("r", 10);
    let mut turns = 0;
    while small.answers == 0 {
        assert!(world.work(), "the large operation is done before the small one");
        world.turn(&mut small);
        turns += 1;
    }
    assert!(turns <= 4, "{turns}");
    let mut rest = 0;
    while world.work() {
        rest += 1;
    }
    assert!(rest > 50, "{rest}");
    assert!(!world.engine.is_held(large.session));
}

#[test]
fn large_operations_beside_each_other_share_the_turns() {
    let mut world = World::new(None);
    let mut peers: Vec<Peer> = (0..4).map(|_| world.connect()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        // The last one has a tenth of the others' work.
        let count = if number == 3 { COUNT / 10 } else { COUNT };
        peer.fill(&mut world, &format!("q{number}"), &FieldTable::new(), count);
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.client.request(1, &queue::Purge { queue: &format!("q{number}"), nowait: false }, Some(1)).unwrap();
        world.turn(peer);
        // A purged queue is empty from the first step on.
        let name = format!("q{number}");
        let vhost = world.engine.vhost_named("/").unwrap();
        assert_eq!(world.engine.inspect_queue_named(vhost, &name).unwrap().ready, 0);
    }
    while world.engine.is_held(peers[3].session) {
        world.work();
    }
    assert!(peers[..3].iter().all(|peer| world.engine.is_held(peer.session)));
    while world.work() {}
    assert!(peers.iter().all(|peer| !world.engine.is_held(peer.session)));
}
