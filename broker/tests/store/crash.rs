//! Crashes in every call that changes the disk: all safe groups are recovered, whole and in order, and no settled
//! message is redelivered.

use hopmq_broker::CrashStorage;

use crate::model::*;
use crate::seeds;
use crate::world::World;

/// Runs a store until it crashes in its `n`-th changing call, then recovers and runs it again three times; a recovery
/// may crash as well. Returns the number of changing calls of the first run.
fn case(seed: u64, n: u64, process_only: bool) -> u64 {
    let name = format!("seed {seed}, crash at call {n}, of the process only: {process_only}");
    let disk = CrashStorage::new();
    disk.crash_at(n);
    let mut workload = Workload::new(seed);
    let Ok((mut world, _)) = World::open(&disk) else {
        // The crash was in the first open: the folder must open as an empty store.
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
    for nth in 0..3 {
        disk = match (process_only, nth) {
            (true, 0) => {
                disk.restart();
                disk
            }
            _ => disk.power_cut(seed ^ (n << 8) ^ nth),
        };
        // Some recoveries crash as well.
        let crash = 1 + workload.random.below(12);
        if workload.random.below(3) == 0 {
            disk.crash_at(crash);
            let _ = World::open(&disk);
            disk = disk.power_cut(seed ^ (n << 8) ^ (100 + nth));
        }
        let (mut again, recovered) =
            World::open(&disk).unwrap_or_else(|error| panic!("{name}, restart {nth}: {error}"));
        again.resume(&world, &recovered, &format!("{name}, restart {nth}"));
        if nth == 1 {
            disk.crash_at(disk.calls().1 + 1 + workload.random.below(60));
        }
        let _ = again.work(&mut workload, 15);
        world = again;
    }
    calls
}

#[test]
fn a_crash_in_any_call_loses_nothing_safe() {
    seeds("crashes", |seed| {
        let calls = case(seed, u64::MAX, false);
        for n in 1..=calls {
            case(seed, n, n % 3 == 0);
        }
        calls
    });
}
