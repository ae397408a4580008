//! Measures the store: CPU time and bytes written per message, and how long a start with a million messages takes.
//!
//! ```sh
//! cargo run --release -p hopmq-broker --example measure_store -- [FOLDER]
//! ```
//! The folder is created, and removed at the end: choose one on the disk that you want to measure. CPU time and bytes
//! come from Linux' /proc, and are zero elsewhere. The rates depend on how long the disk takes for an fdatasync.

use std::collections::VecDeque;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hopmq_broker::store::*;

const QUEUE: QueueId = QueueId(1);
/// Messages in one commit.
const COMMIT: u64 = 100;
/// Messages that are not settled, or not safe, at most.
const WINDOW: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().map_or("target/measure-store", String::as_str));
    if arguments.len() > 1 {
        return start(folder);
    }
    for (count, size) in [(300_000, 1024), (1_000_000, 100)] {
        commits(folder, count, size)?;
        window(folder, count, size)?;
    }
    backlog(folder, 1_000_000, 100)?;
    // A separate process, so that its memory is that of the start only.
    let status = Command::new(std::env::current_exe()?).arg(folder).arg("start").status()?;
    fs::remove_dir_all(folder)?;
    if status.success() { Ok(()) } else { Err("the start failed".into()) }
}

/// The resources that this process has used so far.
struct Used {
    at: Instant,
    cpu_ns: u64,
    written: u64,
}

impl Used {
    fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let stat = threads.map(|thread| fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default());
        let cpu_ns = stat.map(|text| text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)).sum();
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0);
        Self { at: Instant::now(), cpu_ns, written }
    }

    fn print(&self, what: &str, count: u64, size: usize) {
        let now = Self::now();
        let seconds = now.at.duration_since(self.at).as_secs_f64();
        println!(
            "{what}: {:.2} µs of CPU and {:.0} bytes written per message ({:.2} × payload), {:.0} messages/s",
            (now.cpu_ns - self.cpu_ns) as f64 / 1e3 / count as f64,
            (now.written - self.written) as f64 / count as f64,
            (now.written - self.written) as f64 / (count as f64 * size as f64),
            count as f64 / seconds,
        );
    }
}

/// Publishes a message in its own group, as if each came from another publisher.
fn publish(store: &Store, group: &mut Group, position: u64, body: &Bytes) -> Result<Lsn, hopmq_broker::store::Error> {
    let target = Target { queue: QUEUE, position: Position(position), expires: None };
    group.publish(&Message { priority: 0, head: b"amq.direct/orders/properties", body }, &[target]);
    store.append(group)
}

/// Settles random messages until at most [`WINDOW`] are left.
fn settle(store: &Store, group: &mut Group, unsettled: &mut VecDeque<u64>) -> Result<(), hopmq_broker::store::Error> {
    while unsettled.len() > WINDOW {
        let any = (unsettled[0].wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % unsettled.len();
        let position = unsettled.swap_remove_front(any).expect("the index is below the length");
        group.settle(QUEUE, [Position(position)]);
        store.append(group)?;
    }
    Ok(())
}

/// Measures one thread that waits for each commit.
fn commits(folder: &Path, count: u64, size: usize) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_dir_all(folder);
    let (store, mut writer, mut checkpointer, _) = Store::open(DiskStorage::open(folder)?, Settings::default())?;
    let mut group = Group::new();
    let body = Bytes::from(vec![7; size]);
    let mut unsettled = VecDeque::new();
    group.declare_queue(QUEUE, b"orders");
    let mut used = Used::now();
    for position in 1..=2 * count {
        if position == count {
            // From here on the store reuses its log files.
            used = Used::now();
        }
        publish(&store, &mut group, position, &body)?;
        unsettled.push_back(position);
        if position % COMMIT == 0 {
            writer.turn()?;
            settle(&store, &mut group, &mut unsettled)?;
            checkpointer.turn()?;
        }
    }
    used.print(&format!("{size} B, {COMMIT} per commit, settled at random"), count, size);
    drop((store, writer, checkpointer));
    Ok(fs::remove_dir_all(folder)?)
}

/// Measures the store's own threads with a publisher that has at most [`WINDOW`] messages unconfirmed.
fn window(folder: &Path, count: u64, size: usize) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_dir_all(folder);
    let (store, writer, checkpointer, _) = Store::open(DiskStorage::open(folder)?, Settings::default())?;
    let changed = Arc::new((Mutex::new(()), Condvar::new()));
    let wake = changed.clone();
    let threads = writer.spawn(checkpointer, move || {
        drop(wake.0.lock());
        wake.1.notify_one();
    })?;
    let mut group = Group::new();
    let body = Bytes::from(vec![7; size]);
    let mut unsettled = VecDeque::new();
    group.declare_queue(QUEUE, b"orders");
    let mut unconfirmed = VecDeque::new();
    let mut used = Used::now();
    let last = 2 * count;
    for position in 1..=last {
        if position == count {
            used = Used::now();
        }
        unconfirmed.push_back(publish(&store, &mut group, position, &body)?);
        unsettled.push_back(position);
        if unconfirmed.len() == WINDOW || position == last {
            let mut guard = changed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let until = if position == last { unconfirmed.back().copied() } else { unconfirmed.front().copied() };
            while until.is_some_and(|until| store.status().synced < until) {
                guard = changed.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            drop(guard);
            let synced = store.status().synced;
            while unconfirmed.front().is_some_and(|lsn| *lsn <= synced) {
                unconfirmed.pop_front();
            }
            settle(&store, &mut group, &mut unsettled)?;
        }
    }
    used.print(&format!("{size} B, {WINDOW} unconfirmed, settled at random"), count, size);
    drop(store);
    drop(threads);
    Ok(fs::remove_dir_all(folder)?)
}

/// Measures publishes without settles, and leaves the messages for [`start`].
fn backlog(folder: &Path, count: u64, size: usize) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_dir_all(folder);
    let (store, mut writer, mut checkpointer, _) = Store::open(DiskStorage::open(folder)?, Settings::default())?;
    let mut group = Group::new();
    let body = Bytes::from(vec![7; size]);
    group.declare_queue(QUEUE, b"orders");
    let used = Used::now();
    for position in 1..=count {
        publish(&store, &mut group, position, &body)?;
        if position % COMMIT == 0 {
            writer.turn()?;
            checkpointer.turn()?;
        }
    }
    used.print(&format!("{size} B, {COMMIT} per commit, not settled"), count, size);
    Ok(())
}

/// Measures a start with the messages of [`backlog`], which are partly in segments and partly in the log; then reads
/// and settles all of them.
fn start(folder: &Path) -> Result<(), Box<dyn Error>> {
    let before = resident();
    let start = Instant::now();
    let (store, _writer, _checkpointer, recovered) = Store::open(DiskStorage::open(folder)?, Settings::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let queue = &recovered.queues[0];
    let count = queue.messages.len() as u64;
    let size = queue.messages[0].body_len;
    let with_list = resident().saturating_sub(before) / count;
    let list = size_of::<RecoveredMessage>();
    println!(
        "start with {count} messages of {size} B: {seconds:.2} s, {with_list} bytes of memory per message, \
         {list} of them for the list that the broker takes"
    );
    drop(recovered);
    let positions: Vec<Position> = (1..=count).map(Position).collect();
    let start = Instant::now();
    for chunk in positions.chunks(500) {
        assert!(store.read_many(QUEUE, chunk).iter().all(Result::is_ok));
    }
    println!("reading them, 500 at once: {:.2} µs per message", start.elapsed().as_secs_f64() * 1e6 / count as f64);
    let mut group = Group::new();
    let start = Instant::now();
    for position in positions {
        group.settle(QUEUE, [position]);
        store.append(&mut group)?;
    }
    println!("settling them one by one: {:.2} µs per message", start.elapsed().as_secs_f64() * 1e6 / count as f64);
    Ok(())
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}
