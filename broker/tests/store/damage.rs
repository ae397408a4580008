//! Damaged disks: a flipped bit makes the store refuse to open, or fails the read of the message. It is never returned
//! as data.

use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;
use crate::seeds;

/// Fills a folder with all kinds of files and closes it in order. Returns the folder, its state without its last group,
/// and its state.
fn folder(seed: u64) -> (CrashStorage, Model, Model) {
    let disk = CrashStorage::new();
    let mut workload = Workload::new(seed);
    let mut model = Model::default();
    let (store, mut writer, mut checkpointer, _) = Store::open(disk.clone(), small()).unwrap();
    let mut group = Group::with_large_body(LARGE);
    let mut before = Model::default();
    let count = 40 + workload.random.below(60);
    for nth in 0..count {
        let steps = workload.group(&model);
        steps.iter().for_each(|step| step.put(&mut group));
        if !group.is_empty() {
            before = model.clone();
        }
        steps.iter().for_each(|step| model.apply(step));
        store.append(&mut group).unwrap();
        writer.turn().unwrap();
        if nth + 2 < count && workload.random.below(4) == 0 {
            checkpointer.turn_eagerly().unwrap();
            checkpointer.turn().unwrap();
        }
    }
    (disk, before, model)
}

/// Draws a file and a byte in it, among those up to a few bytes after its last byte that is not zero.
fn somewhere(disk: &CrashStorage, random: &mut Random) -> (String, u64) {
    let names = disk.list().unwrap();
    loop {
        let name = &names[random.below(names.len() as u64) as usize];
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
        return (name.clone(), random.below((last as u64 + 8).min(bytes.len() as u64)));
    }
}

/// Reads all messages of the model. A content must be right; returns the errors.
fn read_all(model: &Model, store: &Store, name: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    for (id, queue) in &model.queues {
        for (position, kept) in &queue.messages {
            match store.read(QueueId(*id), Position(*position)) {
                Ok(content) => assert_eq!(content, kept.content, "{name}"),
                Err(error) => errors.push(error),
            }
        }
    }
    errors
}

#[test]
fn a_flipped_bit_is_never_returned_as_data() {
    let [mut refused, mut unread, mut harmless, mut tail] = [0; 4];
    seeds("flipped bits", |seed| {
        for nth in 0..30 {
            let (disk, before, model) = folder(seed);
            let mut random = Random(seed ^ (nth << 32));
            let (file, offset) = somewhere(&disk, &mut random);
            disk.flip(&file, offset, random.below(8) as u8);
            let name = format!("seed {seed}, bit of {file} at byte {offset}");
            match Store::open(disk.clone(), small()) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
                    let names_the_file =
                        ["log-", "segment-", "manifest"].iter().any(|file| error.to_string().contains(file));
                    assert!(names_the_file, "{name}: {error}");
                    refused += 1;
                    salvage(&disk, &model, &name);
                }
                Ok((store, _, _, recovered)) => {
                    let errors = read_all(&model, &store, &name);
                    if model.difference(&store, &recovered).is_none() {
                        harmless += 1;
                    } else if before.difference(&store, &recovered).is_none() {
                        // The last record has no later one that says that it was safe.
                        assert!(recovered.torn.is_some(), "{name}");
                        tail += 1;
                    } else {
                        assert!(!errors.is_empty(), "{name}: {:?}", model.difference(&store, &recovered));
                        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Damaged), "{name}: {errors:?}");
                        unread += 1;
                    }
                }
            }
        }
        30
    });
    println!("{refused} refused, {unread} found by a read, {harmless} harmless, {tail} taken for an incomplete end");
    let one_seed = std::env::var_os("HOPMQ_SEED").is_some();
    assert!(one_seed || (refused > 10 && unread > 0), "too few flipped bits had an effect");
}

/// Opens a damaged folder with [`Settings::salvage`]: undamaged messages can be read, and the next start needs no
/// salvage.
fn salvage(disk: &CrashStorage, model: &Model, name: &str) {
    let settings = Settings { salvage: true, ..small() };
    let opened = Store::open(disk.clone(), settings);
    let Ok((store, mut writer, mut checkpointer, recovered)) = opened else {
        // Salvage needs a manifest.
        let error = opened.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("manifest"), "{name}: {error}");
        return;
    };
    assert!(!recovered.damages.is_empty(), "{name}");
    let known = |queue: &RecoveredQueue| queue.messages.iter().map(|message| message.position).collect::<Vec<_>>();
    for queue in &recovered.queues {
        let Some(expected) = model.queues.get(&queue.id.0) else { continue };
        for (position, content) in known(queue).iter().zip(store.read_many(queue.id, &known(queue))) {
            // A message whose settling record was lost is there again: the model does not know it.
            if let (Some(kept), Ok(content)) = (expected.messages.get(&position.0), content) {
                assert_eq!(content, kept.content, "{name}");
            }
        }
    }
    writer.turn().unwrap();
    while checkpointer.turn_eagerly().unwrap() {
        writer.turn().unwrap();
    }
    let before: Vec<_> = recovered.queues.iter().map(known).collect();
    drop((store, writer, checkpointer));
    let (.., again) = Store::open(disk.clone(), small()).unwrap_or_else(|error| panic!("{name}, salvaged: {error}"));
    assert_eq!(again.queues.iter().map(known).collect::<Vec<_>>(), before, "{name}");
}

#[test]
fn a_missing_file_is_refused() {
    seeds("missing files", |seed| {
        let (disk, _, model) = folder(seed);
        let names = disk.list().unwrap();
        let file = &names[Random(seed).below(names.len() as u64) as usize];
        disk.remove(file).unwrap();
        match Store::open(disk.clone(), small()) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "seed {seed}, {file}: {error}");
                salvage(&disk, &model, &format!("seed {seed}, {file}"));
            }
            // It was a spare log file.
            Ok((store, _, _, recovered)) => {
                assert_eq!(model.difference(&store, &recovered), None, "seed {seed}, {file}");
            }
        }
        1
    });
}
