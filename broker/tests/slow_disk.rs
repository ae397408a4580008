//! A disk that is slower than the publishers slows them down. The broker sends no `connection.blocked`: no resource is
//! low.

use std::io;
use std::sync::{Arc, Mutex};

use hopmq_blocking::{Connection, Recovery};
use hopmq_broker::Broker;
use hopmq_broker::store::{File, MemoryStorage, Settings, Storage};

/// A folder in memory whose syncs wait while the test holds the lock.
#[derive(Clone, Debug, Default)]
struct Gated(MemoryStorage, Arc<Mutex<()>>);

#[derive(Debug)]
struct GatedFile(Arc<dyn File>, Arc<Mutex<()>>);

impl Storage for Gated {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.0.create(name)?, self.1.clone())))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.0.open(name)?, self.1.clone())))
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
        self.0.free_space()
    }
}

impl File for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(data, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.1.lock());
        self.0.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

#[test]
fn a_slow_disk_slows_publishers_without_connection_blocked() {
    let disk = Gated::default();
    let settings = Settings { pending_limit: 100_000, ..Settings::small() };
    let broker = Broker::builder().store(settings).open(disk.clone()).unwrap();
    let connection = Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap();
    let queue = connection.channel().unwrap().queue("q").durable().declare().unwrap();
    let gate = disk.1.lock().unwrap();
    let confirms: Vec<_> =
        (0..200).map(|_| queue.publish(&[7; 10_000][..]).persistent().confirm_later().unwrap()).collect();
    broker.wait_until(|inspector| inspector.connections()[0].blocked);
    assert!(broker.inspect().queue("q").unwrap().ready < 200);
    drop(gate);
    confirms.into_iter().for_each(|confirm| confirm.wait().unwrap());
    assert_eq!(broker.inspect().queue("q").unwrap().ready, 200);
    broker.wait_until(|inspector| !inspector.connections()[0].blocked);
    let frames: Vec<String> = broker.transcript().iter().map(ToString::to_string).collect();
    assert!(!frames.iter().any(|line| line.contains("blocked") && !line.contains("start")), "{frames:#?}");
    connection.close().unwrap();
}
