//! Folders that a small program of operations made, with arbitrary changes to their files: a start refuses them, or
//! returns a state that the store was in, and never wrong bytes. The fuzz target `store` runs this with its inputs.
//!
//! ```text
//! input     = how it ends u8 (odd: closed), number of operations u8, operations, changes
//! operation = kind u8, argument u8
//! change    = kind u8, file u8, offset u16, value u8
//! ```

use std::collections::{BTreeMap, BTreeSet};

use hopmq_broker::store::*;

/// Bytes from which on a body gets its own file.
const LARGE: usize = 200;
const OPERATIONS: usize = 64;
const CHANGES: usize = 8;

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    queues: BTreeMap<u64, BTreeSet<u64>>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn settings() -> Settings {
    Settings { log_file_size: 1500, log_limit: 2000, segment_size: 1500, min_free: 0, ..Settings::default() }
}

fn content(position: u64) -> Content {
    let len = [0, 30, 90, LARGE as u64 + 50][(position % 4) as usize];
    let body = (0..len).map(|at| (at * 7 + position) as u8).collect::<Vec<u8>>();
    Content { head: position.to_le_bytes().to_vec().into(), body: body.into() }
}

impl State {
    fn of(recovered: &Recovered) -> Self {
        let positions = |queue: &RecoveredQueue| queue.messages.iter().map(|message| message.position.0).collect();
        Self {
            queues: recovered.queues.iter().map(|queue| (queue.id.0, positions(queue))).collect(),
            metadata: recovered.metadata.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect(),
        }
    }
}

/// Runs the program. Returns the state after each group.
fn run(storage: &MemoryStorage, operations: &[u8], closed: bool) -> Vec<State> {
    let (store, mut writer, mut checkpointer, _) = Store::open(storage.clone(), settings()).expect("a new folder");
    let mut group = Group::with_large_body(LARGE);
    let mut state = State::default();
    let mut states = vec![state.clone()];
    let mut position = 0;
    for operation in operations.chunks_exact(2) {
        let (kind, argument) = (operation[0], u64::from(operation[1]));
        let id = 1 + argument % 3;
        match kind % 8 {
            0..3 => {
                position += 1;
                let Content { head, body } = content(position);
                let targets = (1..=3).filter(|id| argument >> id & 1 == 1).map(|id| Target {
                    queue: QueueId(id),
                    position: Position(position),
                    expires: None,
                });
                let targets: Vec<_> = targets.filter(|target| state.queues.contains_key(&target.queue.0)).collect();
                group.publish(&Message { priority: 1, head: &head, body: &body }, &targets);
                targets.iter().for_each(|target| {
                    state.queues.get_mut(&target.queue.0).map(|queue| queue.insert(position));
                });
            }
            3 => {
                let Some(queue) = state.queues.get_mut(&id) else { continue };
                let settled: Vec<u64> = queue.iter().copied().take((argument / 3) as usize % 6).collect();
                queue.retain(|position| !settled.contains(position));
                group.settle(QueueId(id), settled.into_iter().map(Position));
            }
            4 => {
                group.declare_queue(QueueId(id), b"a queue");
                state.queues.entry(id).or_default();
            }
            5 => {
                let key = vec![argument as u8 % 4];
                let value = vec![argument as u8; 40];
                group.put(&key, &value);
                state.metadata.insert(key, value);
            }
            6 => drop(writer.turn().expect("a disk in memory")),
            _ => drop(checkpointer.turn_eagerly().expect("a disk in memory")),
        }
        if !group.is_empty() && store.append(&mut group).is_ok() {
            states.push(state.clone());
        }
    }
    writer.turn().expect("a disk in memory");
    if closed {
        writer.close();
    }
    states
}

/// Changes a file.
fn change(storage: &MemoryStorage, change: &[u8]) {
    let names = storage.list().expect("a disk in memory");
    let Some(name) = names.get(usize::from(change[1]) % names.len().max(1)) else { return };
    let mut bytes = contents(storage, name);
    let at = usize::from(u16::from_le_bytes([change[2], change[3]])) % bytes.len().max(1);
    match change[0] % 6 {
        0 => drop(storage.remove(name)),
        1 => bytes.truncate(at),
        2 => bytes[at..].fill(0),
        3 => bytes.iter_mut().skip(at).take(usize::from(change[4])).for_each(|byte| *byte = !*byte),
        4 => {
            // Another file in its place.
            bytes = contents(storage, &names[usize::from(change[4]) % names.len()]);
        }
        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= change[4]),
    }
    if !change[0].is_multiple_of(6) {
        storage.create(name).and_then(|file| file.write_at(&bytes, 0)).expect("a disk in memory");
    }
}

fn contents(storage: &MemoryStorage, name: &str) -> Vec<u8> {
    let file = storage.open(name).expect("a disk in memory");
    let mut bytes = vec![0; file.size().expect("a disk in memory") as usize];
    file.read_at(&mut bytes, 0).expect("a disk in memory");
    bytes
}

/// Reads all messages. A content must be right.
fn read(store: &Store, recovered: &Recovered) {
    for queue in &recovered.queues {
        let positions: Vec<Position> = queue.messages.iter().map(|message| message.position).collect();
        for (position, found) in positions.iter().zip(store.read_many(queue.id, &positions)) {
            match found {
                Ok(found) => assert_eq!(found, content(position.0), "message {position:?} of {:?}", queue.id),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error:#}"),
            }
        }
    }
}

fn copy(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new();
    for name in storage.list().expect("a disk in memory") {
        let bytes = contents(storage, &name);
        copy.create(&name).and_then(|file| file.write_at(&bytes, 0)).expect("a disk in memory");
    }
    copy
}

/// Makes a folder, changes it, and opens it.
pub(crate) fn store(input: &[u8]) {
    let [ends, count, rest @ ..] = input else { return };
    let closed = ends % 2 == 1;
    let (operations, changes) = rest.split_at(rest.len().min(usize::from(*count) % OPERATIONS * 2));
    let storage = MemoryStorage::new();
    let states = run(&storage, operations, closed);
    let changes = changes.chunks_exact(5).take(CHANGES);
    let changed = changes.map(|bytes| change(&storage, bytes)).count() > 0;

    let salvaged = copy(&storage);
    if let Ok((store, _, _, recovered)) = Store::open(salvaged, Settings { salvage: true, ..settings() }) {
        read(&store, &recovered);
    }
    let (store, recovered) = match Store::open(storage.clone(), settings()) {
        Ok((store, _, _, recovered)) => (store, recovered),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error:#}");
            assert!(changed, "{error:#}");
            return;
        }
    };
    let state = State::of(&recovered);
    let newest = states.last().expect("there is the first state");
    // A folder without any file is a new one.
    assert!(
        state == *newest || !closed && states.contains(&state) || state == State::default(),
        "{state:?} is none of the states; the last is {newest:?}"
    );
    assert!(changed || state == *newest);
    read(&store, &recovered);
    drop(store);
    let (store, _, _, again) = Store::open(storage, settings()).expect("the folder was opened before");
    assert_eq!(State::of(&again), state);
    read(&store, &again);
}
