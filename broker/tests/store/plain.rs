//! The store without faults.

use hopmq_broker::store::*;

use crate::model::*;
use crate::seeds;

#[test]
fn a_store_behaves_as_a_map_over_restarts() {
    seeds("restarts", |seed| {
        let storage = MemoryStorage::new();
        let mut workload = Workload::new(seed);
        let mut model = Model::default();
        for _ in 0..4 {
            let (store, mut writer, mut checkpointer, recovered) = Store::open(storage.clone(), small()).unwrap();
            assert_eq!(model.difference(&store, &recovered), None, "seed {seed}");
            let mut group = Group::with_large_body(LARGE);
            for _ in 0..60 {
                for step in workload.group(&model) {
                    step.put(&mut group);
                    model.apply(&step);
                }
                store.append(&mut group).unwrap();
                if workload.random.below(2) == 0 {
                    writer.turn().unwrap();
                }
                if workload.random.below(4) == 0 {
                    checkpointer.turn_eagerly().unwrap();
                }
                read_some(&store, &model, &mut workload.random);
            }
            writer.turn().unwrap();
        }
        1
    });
}

/// Reads a random message of each queue, wherever it is stored at the moment.
fn read_some(store: &Store, model: &Model, random: &mut Random) {
    for (id, queue) in &model.queues {
        let Some((position, kept)) = queue.messages.iter().nth(random.below(20) as usize) else { continue };
        assert_eq!(store.read(QueueId(*id), Position(*position)).unwrap(), kept.content);
    }
}
