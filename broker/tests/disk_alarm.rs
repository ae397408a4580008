//! Low disk space: who is blocked, and what is logged.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hopmq_blocking::{Connection, Recovery};
use hopmq_broker::Broker;
use hopmq_broker::store::{File, MemoryStorage, Settings, Storage};
use serde_json::Value;

/// A folder in memory on a disk with this free space.
#[derive(Clone, Debug, Default)]
struct Disk(MemoryStorage, Arc<AtomicU64>);

impl Storage for Disk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn free_space(&self) -> io::Result<u64> {
        Ok(self.1.load(Ordering::SeqCst))
    }
}

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn low_disk_space_is_logged_with_figures_when_it_begins_and_when_it_ends() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().json().with_writer(move || writer.clone()).init();
    let disk = Disk::default();
    disk.1.store(1_000, Ordering::SeqCst);
    let settings = Settings { min_free: 2_000, ..Settings::small() };
    let broker = Broker::builder().store(settings).open(disk.clone()).unwrap();
    let connection = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap();
    let queue = connection.channel().unwrap().queue("q").durable().declare().unwrap();
    let confirm = queue.publish("a pizza").persistent().confirm_later().unwrap();
    broker.wait_until(|inspector| inspector.connections()[0].blocked);
    disk.1.store(3_000, Ordering::SeqCst);
    confirm.wait().unwrap();
    connection.close().unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let fields = |message: &str| -> Value {
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut found = lines.map(|line| line["fields"].clone()).filter(|fields| fields["message"] == message);
        found.next().unwrap_or_else(|| panic!("no {message:?} in {log}"))
    };
    let raised = fields("alarm raised: publishers are blocked until it ends");
    let cleared = fields("alarm cleared: publishers continue");
    assert_eq!([&raised["alarm"], &cleared["alarm"]], ["low on disk", "low on disk"]);
    assert_eq!([&raised["free_bytes"], &raised["limit_bytes"]], [1_000, 2_000]);
    assert_eq!([&cleared["free_bytes"], &cleared["limit_bytes"]], [3_000, 2_000]);
    let blocked = broker.transcript().iter().any(|frame| frame.to_string().contains("low on disk"));
    assert!(blocked, "the client is told the reason");
}
