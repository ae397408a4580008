//! Failing calls and full disks.

use bytes::Bytes;
use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;
use crate::seeds;
use crate::world::World;

/// Runs a store in which the `n`-th call fails, then recovers it twice. Returns the number of calls of the first run.
fn case(seed: u64, n: u64, power_cut: bool) -> u64 {
    let name = format!("seed {seed}, failure of call {n}, power cut {power_cut}");
    let disk = CrashStorage::new();
    disk.fail_at(n);
    let mut workload = Workload::new(seed);
    let Ok((mut world, _)) = World::open(&disk) else {
        disk.restart();
        let (mut again, _) = World::open(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
        again.work(&mut workload, 5).unwrap_or_else(|error| panic!("{name}: {error}"));
        return 0;
    };
    let ended = world.work(&mut workload, 60);
    let calls = disk.calls().0;
    if let Err(error) = ended {
        // From then on nothing is confirmed, and all calls fail with the same error.
        let synced = world.store.status().synced;
        assert_eq!(world.store.status().failed.map(|error| error.to_string()), Some(error.to_string()), "{name}");
        assert_eq!(world.work(&mut workload, 1).map_err(|again| again.to_string()), Err(error.to_string()), "{name}");
        assert!(world.writer.turn().is_err() && world.checkpointer.turn().is_err(), "{name}");
        assert_eq!(world.store.status().synced, synced, "{name}");
    }
    // What a restart recovers must survive a later power cut.
    disk.restart();
    let mut disk = if power_cut { disk.power_cut(seed ^ (n << 8)) } else { disk };
    for restart in 0..2 {
        let (mut again, recovered) =
            World::open(&disk).unwrap_or_else(|error| panic!("{name}, restart {restart}: {error}"));
        again.resume(&world, &recovered, &format!("{name}, restart {restart}"));
        again.work(&mut workload, 10).unwrap_or_else(|error| panic!("{name}, restart {restart}: {error}"));
        world = again;
        disk = disk.power_cut(seed ^ (n << 8) ^ 1);
    }
    calls
}

#[test]
fn a_failing_disk_loses_nothing_safe_and_ends_the_store() {
    seeds("failures", |seed| {
        let calls = case(seed, u64::MAX, false);
        for n in 1..=calls {
            case(seed, n, n % 2 == 0);
        }
        calls
    });
}

fn publish(store: &Store, group: &mut Group, position: u64) -> Result<Lsn, Error> {
    let body = Bytes::from(vec![position as u8; 500]);
    let target = Target { queue: QueueId(1), position: Position(position), expires: None };
    group.publish(&Message { priority: 0, head: b"", body: &body }, &[target]);
    store.append(group)
}

#[test]
fn a_full_disk_stops_publishers_until_there_is_space() {
    seeds("full disks", |seed| {
        let disk = CrashStorage::new();
        let mut random = Random(seed);
        disk.limit(Some(20_000 + random.below(20_000)));
        let reserve = seed % 2 * 12_000;
        let settings = Settings { min_free: reserve, ..small() };
        let (store, mut writer, mut checkpointer, _) = Store::open(disk.clone(), settings.clone()).unwrap();
        let mut group = Group::new();
        group.declare_queue(QueueId(1), b"orders");
        let mut position = 0;
        for round in 0..3 {
            while store.status().room == Room::Open {
                position += 1;
                publish(&store, &mut group, position).unwrap();
                writer.turn().unwrap();
                checkpointer.turn().unwrap();
            }
            assert_eq!(store.status().room, Room::DiskFull, "seed {seed}, round {round}");
            // One more publish arrives before the publishers are blocked.
            position += 1;
            let lsn = publish(&store, &mut group, position).unwrap();
            match round {
                0 => disk.limit(Some(100_000)),
                1 => disk.limit(Some(200_000)),
                // Consumers free space, unless the disk was filled to the last byte.
                _ => {
                    group.settle(QueueId(1), (1..=position).map(Position));
                    store.append(&mut group).unwrap();
                    disk.limit(Some(if reserve > 0 { 200_000 } else { 206_000 }));
                }
            }
            let mut turns = 0;
            while store.status().room != Room::Open || store.status().synced < lsn {
                writer.turn().unwrap();
                checkpointer.turn().unwrap();
                turns += 1;
                assert!(turns < 200, "seed {seed}, round {round}: {:?}", store.status());
            }
        }
        let (_, _, _, recovered) = Store::open(disk.power_cut(seed), settings).unwrap();
        assert!(recovered.queues[0].messages.is_empty(), "seed {seed}");
        1
    });
}

#[test]
fn a_store_far_behind_refuses_publishes_but_not_settles() {
    let settings = Settings { pending_limit: 10_000, ..small() };
    let (store, mut writer, _, _) = Store::open(CrashStorage::new(), settings).unwrap();
    let mut group = Group::new();
    group.declare_queue(QueueId(1), b"orders");
    let mut position = 0;
    let error = loop {
        position += 1;
        if let Err(error) = publish(&store, &mut group, position) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(!group.is_empty());
    assert_eq!(store.status().room, Room::Behind);
    let mut settle = Group::new();
    settle.settle(QueueId(1), [Position(1)]);
    store.append(&mut settle).unwrap();
    writer.turn().unwrap();
    assert_eq!(store.status().room, Room::Open);
    store.append(&mut group).unwrap();
}
