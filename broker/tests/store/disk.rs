//! A store on a real disk, and with its own threads.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::Bytes;
use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;

/// Returns the path of a folder that does not exist yet.
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
fn a_damaged_file_is_refused_with_the_folder_and_the_next_step() {
    let folder = folder("damaged");
    drop(Store::open(DiskStorage::open(&folder).unwrap(), small()).unwrap());
    let log = folder.join("log-0");
    std::fs::write(&log, "not a log file").unwrap();
    let error = Store::open(DiskStorage::open(&folder).unwrap(), small()).unwrap_err();
    let expected = format!(
        "the store in {}: log-0 is damaged at byte 0: it has another format, or was written by another version; no \
         file was changed; restore the folder from a backup, or copy it and start once with --salvage (in Rust, \
         store::Settings::salvage), which drops the damaged part",
        folder.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(std::fs::read(&log).unwrap(), b"not a log file");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_error_prints_its_source_only_when_asked() {
    let file = folder("file");
    std::fs::write(&file, "").unwrap();
    let error = DiskStorage::open(&file).unwrap_err();
    let source = std::error::Error::source(&error).expect("the system's error").to_string();
    assert!(!error.to_string().contains(&source), "{error}");
    assert!(format!("{error:#}").contains(&source), "{error:#}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_store_on_disk_behaves_as_a_map() {
    let folder = folder("map");
    let mut workload = Workload::new(1);
    let mut model = Model::default();
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

/// Several publishers. Each waits until its messages are safe, settles half of them, and reads one.
#[test]
fn messages_that_the_threads_made_safe_survive_a_restart() {
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
    let wait_until_safe = |store: &Store, lsn: Lsn| {
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
            let store = store.clone();
            let wait_until_safe = &wait_until_safe;
            scope.spawn(move || {
                let mut group = Group::new();
                for position in 1..=MESSAGES {
                    let body = Bytes::from(format!("{queue} {position}"));
                    let target = Target { queue: QueueId(queue), position: Position(position), expires: None };
                    group.publish(&Message { priority: 0, head: &[0; 100], body: &body }, &[target]);
                    let lsn = store.append(&mut group).unwrap();
                    if position % 10 == 0 {
                        wait_until_safe(&store, lsn);
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
fn a_failed_disk_ends_the_threads_and_is_notified() {
    let disk = CrashStorage::new();
    let (store, writer, checkpointer, _) = Store::open(disk.clone(), small()).unwrap();
    let (sender, notified) = std::sync::mpsc::channel();
    let threads = writer
        .spawn(checkpointer, move || {
            let _ = sender.send(());
        })
        .unwrap();
    disk.crash_at(disk.calls().1 + 1);
    let mut group = Group::new();
    group.put(b"key", b"value");
    let lsn = store.append(&mut group).unwrap();
    while store.status().failed.is_none() {
        notified.recv().unwrap();
    }
    assert!(store.status().synced < lsn);
    group.put(b"key", b"value");
    assert_eq!(store.append(&mut group).unwrap_err().kind(), ErrorKind::Io);
    drop(threads);
}
