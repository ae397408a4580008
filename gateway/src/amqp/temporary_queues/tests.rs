use super::*;

fn exclusive(queue: &str, nowait: bool) -> queue::Declare<'_> {
    queue::Declare { queue, exclusive: true, nowait, ..Default::default() }
}

fn auto_delete(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue, auto_delete: true, ..Default::default() }
}

#[test]
fn pipelined_declarations_are_counted_before_their_replies() {
    let mut queues = TemporaryQueues::new(256);
    let passed = (0..1000).filter(|_| queues.declare(1, &exclusive("", false)).is_ok()).count();
    assert_eq!((passed, queues.count()), (256, 256));
}

#[test]
fn declarations_without_replies_are_counted() {
    let mut queues = TemporaryQueues::new(256);
    let passed = (0..1000).filter(|_| queues.declare(1, &exclusive("", true)).is_ok()).count();
    assert_eq!((passed, queues.count()), (256, 256));
    let mut queues = TemporaryQueues::new(256);
    let passed = (0..1000).filter(|n| queues.declare(1, &exclusive(&n.to_string(), true)).is_ok()).count();
    assert_eq!((passed, queues.count()), (256, 256));
    // A queue that is counted may be declared again, and others may be declared that are not temporary.
    queues.declare(1, &exclusive("7", true)).unwrap();
    queues.declare(1, &queue::Declare { queue: "lasting", durable: true, ..Default::default() }).unwrap();
    assert_eq!(queues.count(), 256);
}

#[test]
fn a_refused_declaration_is_not_counted() {
    let mut queues = TemporaryQueues::new(2);
    queues.declare(1, &exclusive("", false)).unwrap();
    queues.reply(1, Reply::Declared { queue: "amq.gen-1" });
    queues.declare(1, &exclusive("taken", false)).unwrap();
    assert!(queues.declare(1, &exclusive("other", false)).is_err());
    queues.refused(1);
    assert_eq!(queues.count(), 1);
    queues.declare(1, &exclusive("other", false)).unwrap();
}

#[test]
fn a_queue_is_freed_when_its_deletion_is_confirmed() {
    for nowait in [false, true] {
        let mut queues = TemporaryQueues::new(1);
        queues.declare(1, &exclusive("", false)).unwrap();
        queues.reply(1, Reply::Declared { queue: "amq.gen-1" });
        queues.delete(1, "", nowait);
        assert_eq!(queues.count(), 1);
        if nowait {
            queues.closed(1);
        } else {
            queues.reply(1, Reply::Deleted);
        }
        assert_eq!((queues.count(), queues.named().len()), (0, 0));
    }
}

#[test]
fn a_deletion_that_may_have_failed_frees_nothing() {
    let mut queues = TemporaryQueues::new(1);
    queues.declare(1, &exclusive("a", false)).unwrap();
    queues.reply(1, Reply::Declared { queue: "a" });
    queues.delete(1, "a", true);
    queues.refused(1);
    assert_eq!(queues.count(), 1);
    queues.delete(2, "a", false);
    queues.reply(2, Reply::Deleted);
    assert_eq!(queues.count(), 0);
}

#[test]
fn a_queue_that_is_declared_again_behind_its_deletion_is_counted() {
    let mut queues = TemporaryQueues::new(2);
    queues.declare(1, &exclusive("a", true)).unwrap();
    queues.delete(1, "a", false);
    queues.declare(1, &exclusive("a", true)).unwrap();
    queues.reply(1, Reply::Deleted);
    assert_eq!(queues.count(), 1);
}

#[test]
fn a_queue_is_freed_with_its_last_consumer() {
    type Ending = fn(&mut TemporaryQueues);
    let endings: [Ending; 4] = [
        |queues| {
            queues.cancel(1, "ctag", false);
            queues.reply(1, Reply::Cancelled);
        },
        |queues| queues.closed(1),
        |queues| queues.refused(1),
        |queues| queues.cancelled(1, "ctag"),
    ];
    for ending in endings {
        let mut queues = TemporaryQueues::new(1);
        queues.declare(1, &auto_delete("room")).unwrap();
        queues.reply(1, Reply::Declared { queue: "room" });
        queues.consume(1, "room", "", false);
        queues.reply(1, Reply::Consumed { tag: "ctag" });
        queues.consume(2, "room", "other", true);
        queues.closed(2);
        assert_eq!(queues.count(), 1, "one consumer is left");
        ending(&mut queues);
        assert_eq!((queues.count(), queues.consumers), (0, 0));
    }
}

#[test]
fn the_empty_name_means_the_queue_that_was_declared_last() {
    let mut queues = TemporaryQueues::new(9);
    queues.declare(1, &exclusive("", false)).unwrap();
    queues.declare(1, &exclusive("", false)).unwrap();
    assert_eq!(queues.last(1), Some(""));
    queues.reply(1, Reply::Declared { queue: "first" });
    assert_eq!(queues.last(1), Some(""));
    queues.reply(1, Reply::Declared { queue: "second" });
    assert_eq!(queues.last(1), Some("second"));
}

#[test]
fn many_pending_replies_saturate_the_connection() {
    let mut queues = TemporaryQueues::new(9);
    for _ in 0..PENDING_MAX {
        assert!(!queues.is_saturated());
        queues.declare(1, &queue::Declare { queue: "q", passive: true, ..Default::default() }).unwrap();
    }
    assert!(queues.is_saturated());
    queues.reply(1, Reply::Declared { queue: "q" });
    assert!(!queues.is_saturated());
}

/// A broker that is as simple as possible, and the operations that are under way to it.
mod model {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use super::*;

    const CHANNELS: u16 = 3;
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Declare {
            name: usize,
            auto_delete: bool,
            nowait: bool,
        },
        Delete {
            name: usize,
            if_unused: bool,
            nowait: bool,
        },
        Consume {
            name: usize,
            tag: u8,
            nowait: bool,
        },
        Cancel {
            tag: u8,
            nowait: bool,
        },
        Close,
        /// Closes the channel with an error.
        Fault,
    }

    #[derive(Debug)]
    enum FromBroker {
        Reply(Op),
        CloseOk,
        Close,
    }

    #[derive(Default)]
    struct Broker {
        /// Whether each is deleted after its last consumer, and its consumers.
        queues: BTreeMap<usize, (bool, BTreeSet<(u16, u8)>)>,
        /// Operations under way, and whether the channel ignores what comes before its client answers a close.
        channels: BTreeMap<u16, (VecDeque<Op>, bool)>,
        answers: VecDeque<(u16, FromBroker)>,
    }

    impl Broker {
        fn end_consumers(&mut self, ended: impl Fn(&(u16, u8)) -> bool) {
            self.queues.retain(|_, (is_auto_delete, consumers)| {
                let before = consumers.len();
                consumers.retain(|consumer| !ended(consumer));
                !(*is_auto_delete && consumers.is_empty() && before > 0)
            });
        }

        /// Executes the next operation of a channel.
        fn step(&mut self, channel: u16) {
            let Some((operations, is_closed)) = self.channels.get_mut(&channel) else { return };
            let Some(op) = operations.pop_front() else { return };
            if *is_closed {
                return;
            }
            let reply = match op {
                Op::Declare { name, auto_delete, nowait } => {
                    self.queues.entry(name).or_insert((auto_delete, BTreeSet::new()));
                    Some(nowait)
                }
                Op::Delete { name, if_unused, nowait } => match self.queues.get(&name) {
                    Some((_, consumers)) if if_unused && !consumers.is_empty() => None,
                    _ => {
                        self.queues.remove(&name);
                        Some(nowait)
                    }
                },
                Op::Consume { name, tag, nowait } => {
                    let is_taken = self.queues.values().any(|(_, consumers)| consumers.contains(&(channel, tag)));
                    self.queues.get_mut(&name).filter(|_| !is_taken).map(|(_, consumers)| {
                        consumers.insert((channel, tag));
                        nowait
                    })
                }
                Op::Cancel { tag, nowait } => {
                    self.end_consumers(|consumer| *consumer == (channel, tag));
                    Some(nowait)
                }
                Op::Close => {
                    self.end_consumers(|consumer| consumer.0 == channel);
                    self.answers.push_back((channel, FromBroker::CloseOk));
                    return;
                }
                Op::Fault => None,
            };
            match reply {
                Some(true) => {}
                Some(false) => self.answers.push_back((channel, FromBroker::Reply(op))),
                None => {
                    self.end_consumers(|consumer| consumer.0 == channel);
                    self.answers.push_back((channel, FromBroker::Close));
                    if let Some((_, is_closed)) = self.channels.get_mut(&channel) {
                        *is_closed = true;
                    }
                }
            }
        }
    }

    fn pass_on(queues: &mut TemporaryQueues, channel: u16, op: Op) -> bool {
        match op {
            Op::Declare { name, auto_delete, nowait } => {
                let declare = queue::Declare {
                    queue: NAMES[name],
                    exclusive: !auto_delete,
                    auto_delete,
                    nowait,
                    ..Default::default()
                };
                return queues.declare(channel, &declare).is_ok();
            }
            Op::Delete { name, nowait, .. } => queues.delete(channel, NAMES[name], nowait),
            Op::Consume { name, tag, nowait } => queues.consume(channel, NAMES[name], &tag.to_string(), nowait),
            Op::Cancel { tag, nowait } => queues.cancel(channel, &tag.to_string(), nowait),
            Op::Close | Op::Fault => {}
        }
        true
    }

    fn take(queues: &mut TemporaryQueues, channel: u16, answer: &FromBroker) {
        match answer {
            FromBroker::Reply(Op::Declare { name, .. }) => {
                queues.reply(channel, Reply::Declared { queue: NAMES[*name] });
            }
            FromBroker::Reply(Op::Delete { .. }) => queues.reply(channel, Reply::Deleted),
            FromBroker::Reply(Op::Consume { tag, .. }) => {
                queues.reply(channel, Reply::Consumed { tag: &tag.to_string() });
            }
            FromBroker::Reply(_) => queues.reply(channel, Reply::Cancelled),
            FromBroker::CloseOk => queues.closed(channel),
            FromBroker::Close => queues.refused(channel),
        }
    }

    fn run(seed: u64) {
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut queues = TemporaryQueues::new(3);
        let mut broker = Broker::default();
        // The channels that the browser has closed.
        let mut closing = BTreeSet::new();
        let mut history = Vec::new();
        for _ in 0..200 {
            let channel = random(u64::from(CHANNELS)) as u16;
            match random(3) {
                0 if !closing.contains(&channel) => {
                    let (name, tag) = (random(4) as usize, random(3) as u8);
                    let nowait = random(2) == 0;
                    let op = match random(12) {
                        0..4 => Op::Declare { name, auto_delete: random(2) == 0, nowait },
                        4..6 => Op::Delete { name, if_unused: random(2) == 0, nowait },
                        6..8 => Op::Consume { name, tag, nowait },
                        8..10 => Op::Cancel { tag, nowait },
                        10 => Op::Close,
                        _ => Op::Fault,
                    };
                    if pass_on(&mut queues, channel, op) {
                        history.push(format!("passed on {channel}: {op:?}"));
                        broker.channels.entry(channel).or_default().0.push_back(op);
                        if matches!(op, Op::Close) {
                            closing.insert(channel);
                        }
                    }
                }
                1 => {
                    broker.step(channel);
                    history.push(format!("executed on {channel}"));
                }
                _ => {
                    if let Some((channel, answer)) = broker.answers.pop_front() {
                        take(&mut queues, channel, &answer);
                        history.push(format!("answered {channel}: {answer:?}"));
                        if matches!(answer, FromBroker::Close | FromBroker::CloseOk) {
                            closing.remove(&channel);
                            broker.channels.remove(&channel);
                        }
                    }
                }
            }
            for name in broker.queues.keys().map(|name| NAMES[*name]) {
                assert!(queues.queues.contains_key(name), "seed {seed}: {name} is not counted: {history:#?}");
            }
        }
    }

    #[test]
    fn no_sequence_of_operations_leaves_a_queue_that_is_not_counted() {
        for seed in 0..2000 {
            run(seed);
        }
    }
}
