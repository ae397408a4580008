//! What an operation costs does not grow with the number of entities that recovery keeps.
//!
//! Only the processor's times on one machine are compared, and the least of several rounds, so a busy machine fails
//! nothing. With a list in place of an index, some costs grow twentyfold.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use hopmq::{Connection, Consumer, Event, Queue, Recovery, Request};

use crate::common::{World, seconds};

const FEW: usize = 200;
const MANY: usize = 20 * FEW;
/// Bindings of each queue.
const BINDINGS: usize = 5;
const CHANNELS: usize = 20;
/// Requests in flight.
const WINDOW: usize = 200;
/// How much more an operation may cost among many entities.
const FACTOR: f64 = 6.0;
const ROUNDS: usize = 6;

const STEPS: [&str; 7] = ["declare", "bind", "consume", "recover", "cancel", "unbind", "delete"];

/// Returns for how long this thread has had a processor; where the system does not say so, a moment.
fn cpu_time() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = schedule.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| BEGIN.elapsed(), Duration::from_nanos)
}

/// Makes a request for each item. Returns the seconds that one takes, and the replies.
fn all<I, T>(world: &mut World, items: &[I], mut request: impl FnMut(&I) -> Request<T>) -> (f64, Vec<T>) {
    let begin = cpu_time();
    let mut replies = Vec::with_capacity(items.len());
    for items in items.chunks(WINDOW) {
        let requests: Vec<Request<T>> = items.iter().map(&mut request).collect();
        replies.extend(requests.into_iter().map(|request| world.run(request).unwrap()));
        world.server.forget();
    }
    ((cpu_time() - begin).as_secs_f64() / items.len() as f64, replies)
}

/// Returns the seconds that each step takes for one of `count` queues.
fn measure(count: usize, named_by_broker: bool) -> [f64; STEPS.len()] {
    let mut world = World::new();
    let builder = Connection::builder().heartbeat(Duration::ZERO).recovery(Recovery::new().seed(1));
    let (connection, channel) = world.open_lasting(&builder);
    let channels: Vec<_> = (0..CHANNELS).map(|_| world.run(connection.channel()).unwrap()).collect();
    world.run(channel.exchange("events").topic().auto_delete().declare()).unwrap();
    let name = |number: &usize| if named_by_broker { String::new() } else { format!("q{number}") };
    let numbers: Vec<usize> = (0..count).collect();
    let (declare, queues) = all(&mut world, &numbers, |number| channel.queue(&name(number)).declare());
    let bindings = queues.iter().flat_map(|queue| (0..BINDINGS).map(move |number| (queue, format!("key-{number}"))));
    let bindings: Vec<(&Queue, String)> = bindings.collect();
    let (bind, _) = all(&mut world, &bindings, |(queue, key)| queue.bind("events", key));
    let (consume, consumers) =
        all(&mut world, &numbers, |number| channels[number % CHANNELS].consume(queues[*number].name()).start());
    let recover = recover(&mut world, &connection, named_by_broker) / (count * (2 + BINDINGS)) as f64;
    let (cancel, _) = all(&mut world, &consumers, Consumer::cancel);
    let most: Vec<&(&Queue, String)> = bindings.iter().filter(|(_, key)| key != "key-0").collect();
    let (unbind, _) = all(&mut world, &most, |(queue, key)| queue.unbind("events", key));
    let (delete, _) = all(&mut world, &queues, |queue| queue.delete().delete());
    [declare, bind, consume, recover, cancel, unbind, delete]
}

/// Returns the seconds that an outage takes. The broker loses what it named.
fn recover(world: &mut World, connection: &Connection, named_by_broker: bool) -> f64 {
    let mut events = connection.events();
    if named_by_broker {
        world.server.broker.delete_all_queues();
    }
    let begin = cpu_time();
    world.server.wire.cut();
    world.run(async {
        while let Some(event) = events.next().await {
            match event {
                Event::Recovered { replayed, .. } => return assert_eq!(replayed.failures, 0),
                Event::NotRestored { error, .. } | Event::Closed { error } => panic!("{error}"),
                _ => {}
            }
        }
    });
    let elapsed = (cpu_time() - begin).as_secs_f64();
    world.advance(seconds(1));
    world.server.forget();
    elapsed
}

fn least(one: [f64; STEPS.len()], other: [f64; STEPS.len()]) -> [f64; STEPS.len()] {
    std::array::from_fn(|step| one[step].min(other[step]))
}

#[track_caller]
fn costs_do_not_grow(named_by_broker: bool) {
    let (mut few, mut many) = ([f64::MAX; STEPS.len()], [f64::MAX; STEPS.len()]);
    for _ in 0..ROUNDS {
        // The clock may be coarse: both measurements take about the same time.
        let rounds: Vec<_> = (0..MANY / FEW).map(|_| measure(FEW, named_by_broker)).collect();
        let mean = |step: usize| rounds.iter().map(|costs| costs[step]).sum::<f64>() / rounds.len() as f64;
        few = least(few, std::array::from_fn(mean));
        many = least(many, measure(MANY, named_by_broker));
        if (0..STEPS.len()).all(|step| many[step] < FACTOR * few[step]) {
            return;
        }
    }
    let micros = |costs: [f64; STEPS.len()]| costs.map(|seconds| (seconds * 1e7).round() / 10.0);
    let (few, many) = (micros(few), micros(many));
    panic!("microseconds for each of {STEPS:?}, of {FEW} queues: {few:?}, of {MANY}: {many:?}");
}

#[test]
fn no_operation_costs_more_among_many_queues() {
    costs_do_not_grow(false);
}

#[test]
fn no_operation_costs_more_among_many_queues_that_the_broker_named() {
    costs_do_not_grow(true);
}
