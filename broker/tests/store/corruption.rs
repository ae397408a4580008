//! Corruptions of a stopped folder, of every kind and at every class of offset: a file that is missing, emptied, cut,
//! wiped, or has a flipped bit. What a start returns is what was stored, or it refuses; only the end of a folder that
//! was not closed may be dropped, and the start says so.

use std::collections::BTreeSet;

use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;
use crate::seeds;

/// The last run of a folder.
struct Folder {
    files: Vec<(String, Vec<u8>)>,
    /// The states that a start may return: the last one, and without an orderly end those that lack a part of the last
    /// batch of groups.
    allowed: Vec<Model>,
    /// All states.
    states: Vec<Model>,
    newest: String,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// The store was closed in order.
    Closed,
    /// The process was killed.
    Killed,
}

#[derive(Clone, Debug)]
enum Corruption {
    Missing,
    Cut(usize),
    /// Zeros from this byte on.
    Wiped(usize),
    Flipped {
        offset: usize,
        bit: u8,
    },
}

impl Folder {
    fn new(seed: u64, ending: Ending) -> Self {
        let disk = CrashStorage::new();
        let mut workload = Workload::new(seed);
        let mut model = Model::default();
        let (store, mut writer, mut checkpointer, _) = Store::open(disk.clone(), small()).unwrap();
        let mut group = Group::with_large_body(LARGE);
        let (mut allowed, mut states) = (Vec::new(), vec![]);
        for _ in 0..10 + workload.random.below(60) {
            allowed.clear();
            for _ in 0..1 + workload.random.below(3) {
                allowed.push(model.clone());
                states.push(model.clone());
                let steps = workload.group(&model);
                steps.iter().for_each(|step| step.put(&mut group));
                steps.iter().for_each(|step| model.apply(step));
                store.append(&mut group).unwrap();
            }
            writer.turn().unwrap();
            if workload.random.below(4) == 0 {
                checkpointer.turn_eagerly().unwrap();
                checkpointer.turn().unwrap();
            }
        }
        match ending {
            Ending::Closed => {
                allowed.clear();
                writer.close();
            }
            Ending::Killed => drop(writer),
        }
        allowed.push(model);
        let read = |name: String| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.size().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            (name, bytes)
        };
        let files: Vec<_> = disk.list().unwrap().into_iter().map(read).collect();
        let number = |(name, bytes): &&(String, Vec<u8>)| match name.starts_with("log-") {
            true => u64::from_le_bytes(bytes[12..20].try_into().unwrap()),
            false => 0,
        };
        let newest = files.iter().max_by_key(number).unwrap().0.clone();
        Self { files, allowed, states, newest, ending }
    }

    fn corrupted(&self, name: &str, corruption: &Corruption) -> CrashStorage {
        let disk = CrashStorage::new();
        for (known, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if known == name {
                match corruption {
                    Corruption::Missing => continue,
                    Corruption::Cut(len) => bytes.truncate(*len),
                    Corruption::Wiped(from) => bytes[*from..].fill(0),
                    Corruption::Flipped { offset, bit } => bytes[*offset] ^= 1 << bit,
                }
            }
            disk.create(known).unwrap().write_at(&bytes, 0).unwrap();
        }
        disk
    }
}

/// Returns the offsets at which a file of frames has something, and one within each of them; of other files, a few.
fn offsets(name: &str, bytes: &[u8], random: &mut Random) -> BTreeSet<usize> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut offsets: BTreeSet<usize> = [0, 1, 7, 8, 12, 20, 28, 511, 512, used / 2, used.saturating_sub(1)].into();
    if name.starts_with("log-") || name.starts_with("manifest-") {
        let base = bytes.get(20..28).map_or(0, |base| u64::from_le_bytes(base.try_into().unwrap()));
        for at in (512..used).step_by(8) {
            let address = bytes.get(at + 8..at + 16).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            if address == Some(base + at as u64 - 512) {
                offsets.extend([at, at + 4, at + 12, at + 20, at + 24, at + 24 + random.below(200) as usize]);
            }
        }
    } else {
        offsets.extend((0..10).map(|_| random.below(used.max(1) as u64) as usize));
    }
    offsets.into_iter().filter(|offset| *offset < bytes.len()).collect()
}

/// Returns all corruptions of a file that change it.
fn corruptions(name: &str, bytes: &[u8], random: &mut Random) -> Vec<Corruption> {
    let mut all = vec![Corruption::Missing];
    for offset in offsets(name, bytes, random) {
        all.push(Corruption::Cut(offset));
        all.push(Corruption::Flipped { offset, bit: random.below(8) as u8 });
        if bytes[offset..].iter().any(|byte| *byte != 0) {
            all.push(Corruption::Wiped(offset));
        }
    }
    all
}

#[derive(Default, Debug)]
struct Outcomes {
    refused: u64,
    unread: u64,
    whole: u64,
    dropped: u64,
}

/// Opens a corrupted folder and judges the outcome. Returns what is wrong with it.
fn judge(folder: &Folder, name: &str, corruption: &Corruption, outcomes: &mut Outcomes) -> Result<(), String> {
    let disk = folder.corrupted(name, corruption);
    let (store, recovered) = match Store::open(disk, small()) {
        Err(error) => {
            outcomes.refused += 1;
            let text = error.to_string();
            let says = error.kind() == ErrorKind::Damaged && text.contains("salvage") && text.contains('-');
            return if says { Ok(()) } else { Err(format!("the refusal says only: {text}")) };
        }
        Ok((store, _, _, recovered)) => (store, recovered),
    };
    let newest = folder.allowed.last().expect("there is a state");
    let Some(difference) = newest.difference(&store, &recovered) else {
        outcomes.whole += 1;
        return Ok(());
    };
    if folder.allowed.iter().any(|model| model.difference(&store, &recovered).is_none()) {
        outcomes.dropped += 1;
        let told = recovered.torn.is_some() || matches!(corruption, Corruption::Wiped(_));
        return if told { Ok(()) } else { Err(format!("the end was dropped silently: {difference}")) };
    }
    // Zeros in place of all records after one say nothing, unless the process had the time to note where the log ends.
    if folder.ending == Ending::Killed
        && folder.newest == name
        && matches!(corruption, Corruption::Wiped(52..))
        && folder.states.iter().any(|model| model.difference(&store, &recovered).is_none())
    {
        outcomes.dropped += 1;
        return Ok(());
    }
    let mut unread = 0;
    for queue in &recovered.queues {
        for message in &queue.messages {
            match store.read(queue.id, message.position) {
                Ok(content) => {
                    let known =
                        newest.queues.get(&queue.id.0).and_then(|queue| queue.messages.get(&message.position.0));
                    if known.is_none_or(|kept| kept.content != content) {
                        return Err(format!("wrong bytes: {difference}"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Damaged => unread += 1,
                Err(error) => return Err(format!("a read fails with {error:#}")),
            }
        }
    }
    outcomes.unread += 1;
    if unread > 0 { Ok(()) } else { Err(difference) }
}

fn family(ending: Ending) {
    let mut outcomes = Outcomes::default();
    let mut wrong = Vec::new();
    let mut cases = 0;
    seeds(&format!("corruptions of folders, {ending:?}"), |seed| {
        let folder = Folder::new(seed, ending);
        let mut random = Random(seed);
        let mut count = 0;
        for (name, bytes) in &folder.files {
            for corruption in corruptions(name, bytes, &mut random) {
                count += 1;
                if let Err(what) = judge(&folder, name, &corruption, &mut outcomes) {
                    wrong.push(format!("seed {seed}, {ending:?}, {name} {corruption:?}: {what}"));
                }
            }
        }
        cases += count;
        count
    });
    println!("{ending:?}: {outcomes:?}");
    let some: Vec<_> = wrong.iter().take(20).map(|text| text.chars().take(400).collect::<String>()).collect();
    assert!(wrong.is_empty(), "{} of {cases} corruptions are not noticed:\n{}", wrong.len(), some.join("\n"));
}

#[test]
fn a_corrupted_folder_that_was_closed_is_whole_or_refused() {
    family(Ending::Closed);
}

#[test]
fn a_corrupted_folder_of_a_killed_process_is_whole_or_refused_or_lacks_the_told_end() {
    family(Ending::Killed);
}
