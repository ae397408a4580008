//! The machine crashes in every call that changes the disk: all that was safe is there, whole groups and in order, and
//! nothing that was settled comes back.

use hopmq_broker::CrashStorage;

use crate::model::*;
use crate::seeds;
use crate::world::World;

/// A life of the store that ends in its `n`-th changing call, its recovery, which may end in a crash as well, and
/// another life. How many changing calls the first life had.
fn case(seed: u64, n: u64, restart: bool) -> u64 {
    let name = format!("seed {seed}, crash at call {n}, restart {restart}");
    let disk = CrashStorage::new();
    disk.crash_at(n);
    let mut workload = Workload::new(seed);
    let Ok((mut world, _)) = World::open(&disk) else {
        // It never was there: it must open as an empty one.
        let (mut again, recovered) = World::open(&disk.power_cut(n)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let store = again.store.clone();
        assert_eq!(again.now.difference(&store, &recovered), None, "{name}");
        again.work(&mut workload, 5).unwrap_or_else(|error| panic!("{name}: {error}"));
        return disk.calls().1;
    };
    let ended = world.work(&mut workload, 60);
    let calls = disk.calls().1;
    assert!(ended.is_ok() || calls >= n, "{name}: {ended:?}");

    let mut disk = disk;
    for life in 0..3 {
        disk = match (restart, life) {
            (true, 0) => {
                disk.restart();
                disk
            }
            _ => disk.power_cut(seed ^ (n << 8) ^ life),
        };
        // The recovery is interrupted, too.
        let crash = 1 + workload.random.below(12);
        if workload.random.below(3) == 0 {
            disk.crash_at(crash);
            let _ = World::open(&disk);
            disk = disk.power_cut(seed ^ (n << 8) ^ (100 + life));
        }
        let (mut again, recovered) = World::open(&disk).unwrap_or_else(|error| panic!("{name}, life {life}: {error}"));
        again.settle_with(&world, &recovered, &format!("{name}, life {life}"));
        if life == 1 {
            disk.crash_at(disk.calls().1 + 1 + workload.random.below(60));
        }
        let _ = again.work(&mut workload, 15);
        world = again;
    }
    calls
}

#[test]
fn nothing_safe_is_lost_wherever_the_machine_crashes() {
    seeds("crashes", |seed| {
        let calls = case(seed, u64::MAX, false);
        for n in 1..=calls {
            case(seed, n, n % 3 == 0);
        }
        calls
    });
}
