//! The attacks in small sizes, beside a well-behaved client. They are judged by counts: the broker's steps between two
//! releases of its lock, and messages lost or refused. Times are judged by `cargo xtask soak`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hopmq_hostile::{Attack, FAMILY, Kind, Mode, Row, Setting, attacks, play};

/// The most steps between two releases of the lock: the budget of a turn, and the last operation in it.
const STEPS: u64 = 4_096;
/// A bound for times that a busy machine keeps too.
const LATENCY: Duration = Duration::from_secs(2);

fn find(name: &str) -> &'static Attack {
    FAMILY.iter().find(|attack| attack.name == name).expect("the family has the attack")
}

/// Plays an attack. One at a time, so that none is slow because of another.
#[track_caller]
fn alone(attack: &Attack, setting: &Setting<'_>) -> Row {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let row = play(attack, setting).expect("broker and client start");
    println!("{}\n{row}", Row::heading());
    row
}

#[track_caller]
fn not_stopped_by(name: &str) {
    let attack = find(name);
    let row = alone(attack, &Setting::new(Kind::Embedded, Mode::Small));
    let mut wrong = row.wrong();
    wrong.extend(row.refused.iter().map(|refused| format!("the attack: {refused}")));
    let most = STEPS + attack.operation * attack.small;
    if row.steps.is_none_or(|steps| steps > most) {
        wrong.push(format!("{:?} steps between two releases of the lock, more than {most}", row.steps));
    }
    if row.neighbour.max() > LATENCY {
        wrong.push(format!("a confirm after {:?}, more than {LATENCY:?}", row.neighbour.max()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! a_client_is_not_stopped_by {
    ($($test:ident: $name:literal;)*) => {
        mod a_client_is_not_stopped_by {$(
            #[test]
            fn $test() {
                super::not_stopped_by($name);
            }
        )*}

        #[test]
        fn each_attack_of_the_family_has_a_test() {
            let tested = [$($name),*];
            let untested = FAMILY.iter().map(|attack| attack.name).filter(|name| !tested.contains(name));
            assert_eq!(untested.collect::<Vec<_>>(), Vec::<&str>::new());
        }
    };
}

a_client_is_not_stopped_by! {
    a_client_that_does_nothing: "nothing, for comparison";
    topics_of_many_hashes: "topics: patterns of many #";
    topics_within_a_narrow_policy: "topics: through a narrow policy";
    bindings_of_many_headers: "headers: 100 bindings of many headers";
    exchanges_bound_twice_to_the_next: "exchanges: each bound twice to the next";
    a_ring_of_dead_letters: "dead letters: a ring with TTL 0";
    a_mesh_of_dead_letters: "dead letters: a mesh with TTL 0";
    messages_that_expire_together: "dead letters: expired together";
    consumers_that_disconnect: "consumers: disconnected";
    more_consumers_that_disconnect: "consumers: a million disconnected";
    consumers_whose_queue_is_deleted: "consumers: their queue is deleted";
    consumers_at_their_limit: "consumers: all at their limit";
    the_end_of_a_queue_with_bindings: "delete: a queue with bindings";
    the_end_of_an_exchange_with_bindings: "delete: an exchange with bindings";
    the_end_of_a_connection_with_queues: "delete: queues of a connection";
    a_large_commit: "transaction: a commit";
    a_large_rollback: "transaction: a rollback";
    a_large_commit_of_acks: "transaction: acks";
    a_requeue_by_nack: "requeue: by nack";
    a_requeue_by_the_end_of_a_channel: "requeue: by the end of the channel";
    requeues_one_by_one: "requeue: one by one, newest first";
    a_requeue_in_a_transaction: "requeue: in a transaction";
    a_fan_out: "fan-out: of 20 messages";
    a_purge: "purge: a queue";
    the_end_of_a_full_queue: "purge: by deleting the queue";
    the_end_of_a_connection_with_a_full_queue: "purge: by the end of the connection";
    output_that_is_not_read: "memory: unread output";
    an_open_transaction: "memory: an open transaction";
    partial_bodies: "memory: partial bodies";
    a_flood_of_messages: "memory: messages";
    a_flood_of_channels: "memory: channels";
    a_flood_of_queues: "memory: queues";
    a_flood_of_bindings: "memory: bindings";
    a_flood_of_consumers: "memory: consumers";
    a_flood_of_connections: "memory: connections";
    a_flood_of_wrong_passwords: "logins: wrong passwords";
    logins_byte_by_byte: "slow: logins byte by byte";
    slow_readers: "slow: readers";
    heartbeats_without_a_pause: "busy: heartbeats";
    clients_that_come_and_go: "busy: clients that come and go";
    refusals_that_are_not_read: "gateway: refusals are not read";
    replies_that_are_not_read: "gateway: replies are not read";
    pipelined_temporary_queues: "gateway: pipelined temporary queues";
    messages_above_the_limit: "gateway: messages above the limit";
    half_open_requests: "gateway: half-open requests";
    pings_without_a_pause: "gateway: pings";
}

#[test]
fn a_damaged_folder_is_refused_or_its_messages_are_right() {
    let outcome = attacks::corruption::play(30).expect("the undamaged folder can be used");
    println!("{outcome}");
    assert!(!outcome.is_wrong(), "{outcome}");
    assert!(outcome.refused > 0, "no damage had an effect: {outcome}");
}

/// The program's memory in MiB when nothing is in it.
const EMPTY: u64 = 32;

#[test]
#[cfg(target_os = "linux")]
fn memory_stays_near_its_limit_however_it_is_filled() {
    let options = ["--memory-limit", "64MiB"];
    let setting =
        Setting { options: &options, time: Duration::from_secs(5), ..Setting::new(Kind::Memory, Mode::Small) };
    let bodies = ["unread output", "an open transaction", "partial bodies", "messages"];
    for name in bodies.map(|way| format!("memory: {way}")) {
        let row = alone(&Attack { small: 4_000, ..*find(&name) }, &setting);
        let [_, peak, _] = row.memory.expect("the system tells it");
        // 400 MB were offered.
        assert!(peak < EMPTY + 128, "{row}");
        // Messages without a consumer raise the alarm, which holds the neighbour's publishes as well.
        if name != "memory: messages" {
            assert_eq!(row.wrong(), Vec::<String>::new());
        }
    }
}
