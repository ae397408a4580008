//! On a real disk, with the store's own threads.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::Bytes;
use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn two_brokers_cannot_open_one_folder() {
    let folder = folder("locked");
    let first = DiskStorage::open(&folder).unwrap();
    let error = DiskStorage::open(&folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("stop it first"), "{error}");
    drop(first);
    drop(DiskStorage::open(&folder).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_store_on_disk_is_what_a_map_would_be() {
    let folder = folder("map");
    let (mut workload, mut model) = (Workload::new(1), Model::default());
    for _ in 0..3 {
        let storage = DiskStorage::open(&folder).unwrap();
        let (store, mut writer, mut checkpointer, recovered) = Store::open(storage, small()).unwrap();
        assert_eq!(model.difference(&store, &recovered), None);
        let mut group = Group::with_large_body(LARGE);
        for _ in 0..50 {
            for step in workload.group(&model) {
                step.put(&mut group);
                model.apply(&step);
            }
            store.append(&mut group).unwrap();
            writer.turn().unwrap();
            checkpointer.turn_eagerly().unwrap();
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Several publishers, each of which waits for its confirms and settles half of what it published, while another reads.
#[test]
fn what_the_threads_make_safe_is_there_after_a_restart() {
    const PUBLISHERS: u64 = 3;
    const MESSAGES: u64 = 400;
    let folder = folder("threads");
    let open = || Store::open(DiskStorage::open(&folder).unwrap(), small()).unwrap();
    let (store, writer, checkpointer, _) = open();
    let changed = Arc::new((Mutex::new(()), Condvar::new()));
    let wake = changed.clone();
    let threads = writer.spawn(checkpointer, move || {
        let _held = wake.0.lock().unwrap();
        wake.1.notify_all();
    });
    let threads = threads.unwrap();
    let safe = |store: &Store, lsn: Lsn| {
        let mut held = changed.0.lock().unwrap();
        while store.status().synced < lsn {
            held = changed.1.wait(held).unwrap();
        }
    };
    let mut group = Group::new();
    (0..PUBLISHERS).for_each(|queue| group.declare_queue(QueueId(queue), b""));
    store.append(&mut group).unwrap();
    thread::scope(|scope| {
        for queue in 0..PUBLISHERS {
            let (store, safe) = (store.clone(), &safe);
            scope.spawn(move || {
                let mut group = Group::new();
                for position in 1..=MESSAGES {
                    let body = Bytes::from(format!("{queue} {position}"));
                    let target = Target { queue: QueueId(queue), position: Position(position), expires: None };
                    group.publish(&Message { priority: 0, head: &[0; 100], body: &body }, &[target]);
                    let lsn = store.append(&mut group).unwrap();
                    if position % 10 == 0 {
                        safe(&store, lsn);
                        group.settle(QueueId(queue), (position - 9..=position - 5).map(Position));
                        store.append(&mut group).unwrap();
                        assert_eq!(store.read(QueueId(queue), Position(position)).unwrap().body, body);
                    }
                }
            });
        }
    });
    drop(store);
    drop(threads);

    let (store, _, _, recovered) = open();
    let left = |position: &u64| (position - 1) % 10 >= 5;
    for queue in recovered.queues {
        let positions: Vec<Position> = queue.messages.iter().map(|message| message.position).collect();
        assert_eq!(positions, (1..=MESSAGES).filter(left).map(Position).collect::<Vec<_>>());
        for (content, position) in store.read_many(queue.id, &positions).into_iter().zip(positions) {
            assert_eq!(content.unwrap().body, format!("{} {}", queue.id.0, position.0));
        }
    }
    drop(store);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_failed_disk_ends_the_threads_and_tells() {
    let disk = CrashStorage::new();
    let (store, writer, checkpointer, _) = Store::open(disk.clone(), small()).unwrap();
    let (told, hear) = std::sync::mpsc::channel();
    let threads = writer
        .spawn(checkpointer, move || {
            let _ = told.send(());
        })
        .unwrap();
    disk.crash_at(disk.calls().1 + 1);
    let mut group = Group::new();
    group.put(b"key", b"value");
    let lsn = store.append(&mut group).unwrap();
    while store.status().failed.is_none() {
        hear.recv().unwrap();
    }
    assert!(store.status().synced < lsn);
    group.put(b"key", b"value");
    assert_eq!(store.append(&mut group).unwrap_err().kind(), ErrorKind::Io);
    drop(threads);
}
