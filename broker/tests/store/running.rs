//! Damage to files in use: a read of the damaged message fails, and no other does; a checkpoint that meets the damage
//! tells of it, and neither loses the message nor ends the store.

use bytes::Bytes;
use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::{LARGE, Random, small};

const QUEUE: QueueId = QueueId(1);

fn body(position: u64) -> Bytes {
    let len = if position.is_multiple_of(4) { LARGE as u64 + 100 } else { 150 };
    (0..len).map(|at| (at ^ (position * 37)) as u8).collect::<Vec<u8>>().into()
}

/// Publishes messages, some of them several in a group, and closes the file that they are in.
fn publish(store: &Store, writer: &mut Writer, count: u64) {
    let mut group = Group::with_large_body(LARGE);
    group.declare_queue(QUEUE, b"orders");
    for position in 1..=count {
        let target = Target { queue: QUEUE, position: Position(position), expires: None };
        group.publish(&Message { priority: 0, head: b"head", body: &body(position) }, &[target]);
        if !position.is_multiple_of(3) {
            store.append(&mut group).unwrap();
        }
    }
    store.append(&mut group).unwrap();
    for nth in 0..40_u8 {
        group.put(b"key", &[nth; 400]);
        store.append(&mut group).unwrap();
        writer.turn().unwrap();
    }
}

/// Returns which messages after the settled ones can be read. A content must be right.
fn readable(store: &Store, (settled, count): (u64, u64), name: &str) -> Vec<u64> {
    let read = |position: &u64| match store.read(QUEUE, Position(*position)) {
        Ok(content) => {
            assert_eq!(content, Content { head: b"head"[..].into(), body: body(*position) }, "{name}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
            false
        }
    };
    (settled + 1..=count).filter(read).collect()
}

/// Flips a bit of the messages in the log or in a segment, then moves them. Returns how many could no longer be read.
fn case(in_segment: bool, seed: u64) -> usize {
    let name = format!("in a segment: {in_segment}, seed {seed}");
    let mut random = Random(seed);
    let disk = CrashStorage::new();
    let (store, mut writer, mut checkpointer, _) = Store::open(disk.clone(), small()).unwrap();
    let count = if in_segment { 40 } else { 12 };
    publish(&store, &mut writer, count);
    if in_segment {
        while checkpointer.turn_eagerly().unwrap() {}
    }
    let file = if in_segment { "segment-0" } else { "log-0" };
    let size = disk.open(file).unwrap().size().unwrap();
    let offset = if in_segment { random.below(size) } else { 512 + random.below(1800) };
    assert!(disk.flip(file, offset, random.below(8) as u8), "{name}");
    let mut settled = 0;
    let mut before = readable(&store, (settled, count), &name);
    let turn = |writer: &mut Writer, checkpointer: &mut Checkpointer| {
        writer.turn().unwrap();
        while checkpointer.turn_eagerly().unwrap_or_else(|error| panic!("{name}: {error}")) {
            writer.turn().unwrap();
        }
    };
    turn(&mut writer, &mut checkpointer);
    // A segment is copied once few enough of its messages are left.
    while in_segment && disk.open(file).is_ok() {
        settled += 1;
        before.retain(|position| *position > settled);
        let mut group = Group::new();
        group.settle(QUEUE, [Position(settled)]);
        store.append(&mut group).unwrap();
        turn(&mut writer, &mut checkpointer);
    }
    // A segment is copied by its index: the damage within a message is told when the message is read.
    let told = !store.damages().is_empty();
    let whole = before.len() as u64 == count - settled;
    assert!(told || whole || in_segment, "{name}: nothing was told");
    assert_eq!(readable(&store, (settled, count), &name), before, "{name}");
    drop((store, checkpointer));
    writer.close();

    let (store, mut writer, _, recovered) =
        Store::open(disk.clone(), small()).unwrap_or_else(|error| panic!("{name}, opened again: {error}"));
    let positions: Vec<u64> = recovered.queues[0].messages.iter().map(|message| message.position.0).collect();
    assert_eq!(positions, (settled + 1..=count).collect::<Vec<_>>(), "{name}");
    assert_eq!(readable(&store, (settled, count), &name), before, "{name}, opened again");
    let mut group = Group::new();
    group.settle(QUEUE, (1..=count).map(Position));
    store.append(&mut group).unwrap();
    writer.turn().unwrap();
    drop(store);
    writer.close();
    let (.., recovered) = Store::open(disk, small()).unwrap();
    assert!(recovered.queues[0].messages.is_empty(), "{name}");
    (count - settled) as usize - before.len()
}

#[test]
fn a_checkpoint_that_meets_damage_in_the_log_tells_and_keeps_each_message() {
    let unread: usize = (0..300).map(|seed| case(false, seed)).sum();
    assert!(unread > 50, "{unread}");
}

#[test]
fn a_checkpoint_that_meets_damage_in_a_segment_tells_and_keeps_each_message() {
    let unread: usize = (0..300).map(|seed| case(true, seed)).sum();
    assert!(unread > 10, "{unread}");
}
