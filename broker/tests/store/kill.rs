//! Kills a process with a store on a real disk, several times. `HOPMQ_ROUNDS=200` sets how often.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hopmq_broker::store::*;

use crate::model::*;

const QUEUE: QueueId = QueueId(1);
/// Messages that are not settled, at most.
const WINDOW: u64 = 50;
/// If this variable is set, the test runs as the process that is killed, on the folder that the variable names.
const FOLDER: &str = "HOPMQ_STORE_FOLDER";
const TEST: &str = "kill::safe_messages_survive_a_killed_process";

fn body(position: u64) -> Bytes {
    let len = if position.is_multiple_of(31) { LARGE as u64 + position % 700 } else { position % 300 };
    (0..len).map(|at| (at ^ position) as u8).collect::<Vec<u8>>().into()
}

/// Publishes for ever, and prints which message is safe. The process that is killed runs this.
fn publish_for_ever(folder: &Path) -> ! {
    let (store, writer, checkpointer, recovered) =
        Store::open(DiskStorage::open(folder).expect("the folder"), small()).expect("the store");
    let mut position = recovered.queues.first().map_or(1, |queue| queue.next.0);
    let ends: Arc<Mutex<Vec<(Lsn, u64)>>> = Arc::default();
    let pending_ends = ends.clone();
    let notified = store.clone();
    let _threads = writer.spawn(checkpointer, move || {
        let synced = notified.status().synced;
        let mut ends = pending_ends.lock().expect("no thread panics with the lock");
        let safe = ends.partition_point(|(end, _)| *end <= synced);
        if let Some((_, position)) = ends.drain(..safe).next_back() {
            println!("safe {position}");
            std::io::stdout().flush().expect("the parent process reads");
        }
    });
    let mut group = Group::with_large_body(LARGE);
    if position == 1 {
        group.declare_queue(QUEUE, b"");
    }
    loop {
        let target = Target { queue: QUEUE, position: Position(position), expires: None };
        group.publish(&Message { priority: 0, head: &position.to_le_bytes(), body: &body(position) }, &[target]);
        group.settle(QUEUE, position.checked_sub(WINDOW).map(Position));
        let mut ends = ends.lock().expect("no thread panics with the lock");
        ends.push((store.append(&mut group).expect("the disk works"), position));
        drop(ends);
        position += 1;
        while store.status().pending > 100_000 {
            std::thread::yield_now();
        }
    }
}

/// Starts the process, kills it after `lines` lines of output, and returns the last position that was safe.
fn run_and_kill(folder: &Path, lines: u64) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]);
    let mut child = command.env(FOLDER, folder).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let safe = output.map_while(Result::ok).filter_map(|line| line.strip_prefix("safe ")?.parse().ok());
    let safe: Vec<u64> = safe.take(lines as usize).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    *safe.last().expect("the process prints a line")
}

#[test]
fn safe_messages_survive_a_killed_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        publish_for_ever(Path::new(&folder));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-killed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let rounds =
        std::env::var("HOPMQ_ROUNDS").ok().map_or(5, |rounds| rounds.parse().expect("HOPMQ_ROUNDS is a number"));
    let mut random = Random(rounds);
    for round in 0..rounds {
        let safe = run_and_kill(&folder, 1 + random.below(30));
        let (store, _, _, recovered) = Store::open(DiskStorage::open(&folder).unwrap(), small()).unwrap();
        let found: Vec<u64> = recovered.queues[0].messages.iter().map(|message| message.position.0).collect();
        let last = recovered.queues[0].next.0 - 1;
        assert!(last >= safe, "round {round}: {safe} was safe, {last} is the last");
        assert_eq!(found, (last.saturating_sub(WINDOW - 1).max(1)..=last).collect::<Vec<_>>(), "round {round}");
        for position in found {
            let content = store.read(QUEUE, Position(position)).unwrap();
            assert_eq!(content, Content { head: position.to_le_bytes().to_vec().into(), body: body(position) });
        }
    }
    println!("killed {rounds} times");
    std::fs::remove_dir_all(folder).unwrap();
}
