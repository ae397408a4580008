//! The machine crashes in every call that changes the disk: all that was safe is there, whole groups and in order, and
//! nothing that was settled comes back.

use hopmq_broker::store::*;

use crate::model::*;
use crate::seeds;

/// A store at work, and what should be in it.
struct World {
    disk: CrashStorage,
    store: Store,
    writer: Writer,
    checkpointer: Checkpointer,
    /// What was there at the start, and the groups since then.
    base: Model,
    groups: Vec<(Vec<Step>, Lsn)>,
    now: Model,
    status: Status,
}

impl World {
    fn open(disk: &CrashStorage) -> Result<(Self, Recovered), Error> {
        let (store, writer, checkpointer, recovered) = Store::open(disk.clone(), small())?;
        let (status, now) = (store.status(), Model::default());
        let (base, groups) = (Model::default(), Vec::new());
        Ok((Self { disk: disk.clone(), store, writer, checkpointer, base, groups, now, status }, recovered))
    }

    /// Works until the disk fails, or `steps` are done.
    fn work(&mut self, workload: &mut Workload, steps: usize) -> Result<(), Error> {
        let mut group = Group::with_large_body(LARGE);
        for _ in 0..steps {
            let steps = workload.group(&self.now);
            steps.iter().for_each(|step| step.put(&mut group));
            let lsn = self.store.append(&mut group)?;
            steps.iter().for_each(|step| self.now.apply(step));
            self.groups.push((steps, lsn));
            if workload.random.below(3) == 0 {
                let turned = self.writer.turn();
                self.status = self.store.status();
                turned?;
            }
            if workload.random.below(4) == 0 {
                self.checkpointer.turn()?;
            }
            if workload.random.below(40) == 0 {
                self.checkpointer.turn_eagerly()?;
            }
        }
        Ok(())
    }

    /// Finds how many of the groups are there, and goes on from there. All that were safe must be.
    fn settle_with(&mut self, before: &World, recovered: &Recovered, case: &str) {
        let mut model = before.base.clone();
        let mut found = None;
        let mut groups = before.groups.iter();
        loop {
            let next = groups.as_slice().first();
            if next.is_none_or(|(_, lsn)| *lsn > before.status.synced)
                && model.difference(&self.store, recovered).is_none()
            {
                found = Some(model.clone());
                break;
            }
            let Some((steps, _)) = groups.next() else { break };
            steps.iter().for_each(|step| model.apply(step));
        }
        let Some(found) = found else {
            let mut model = before.base.clone();
            before.groups.iter().filter(|(_, lsn)| *lsn <= before.status.synced).for_each(|(steps, _)| {
                steps.iter().for_each(|step| model.apply(step));
            });
            let what = model.difference(&self.store, recovered);
            panic!("{case}: what is there is no beginning of what was appended. To what was safe: {what:?}");
        };
        self.base = found.clone();
        self.now = found;
    }
}

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
