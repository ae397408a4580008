//! A store at work on a failing disk, beside a model of it.

use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;

/// A store at work, and its expected state.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) checkpointer: Checkpointer,
    /// The state at the start.
    pub(crate) base: Model,
    /// The groups since the start.
    pub(crate) groups: Vec<(Vec<Step>, Lsn)>,
    pub(crate) now: Model,
    pub(crate) status: Status,
}

impl World {
    pub(crate) fn open(disk: &CrashStorage) -> Result<(Self, Recovered), Error> {
        let (store, writer, checkpointer, recovered) = Store::open(disk.clone(), small())?;
        let status = store.status();
        let base = Model::default();
        let now = Model::default();
        Ok((Self { store, writer, checkpointer, base, groups: Vec::new(), now, status }, recovered))
    }

    /// Works until the disk fails or `steps` groups are appended.
    pub(crate) fn work(&mut self, workload: &mut Workload, steps: usize) -> Result<(), Error> {
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

    /// Finds how many of the earlier groups were recovered, and continues from there. Panics if a safe group is
    /// missing.
    pub(crate) fn resume(&mut self, before: &World, recovered: &Recovered, case: &str) {
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
            panic!(
                "{case}: the recovered state is no prefix of the appended groups; compared with the safe ones: {what:?}"
            );
        };
        self.base = found.clone();
        self.now = found;
    }
}
