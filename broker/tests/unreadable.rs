//! Stored messages that can't be read while the broker runs: clients get an error, not fewer messages; the message
//! stays in its queue; an operator sees it; other queues go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hopmq_blocking::{Channel, Connection, Error, Recovery};
use hopmq_broker::inspect::Message;
use hopmq_broker::store::{File, Settings, Storage};
use hopmq_broker::{Broker, Clock, CrashStorage};

fn connect(broker: &Broker) -> Connection {
    Connection::builder().uri(&broker.uri()).recovery(Recovery::off()).open().unwrap()
}

fn open(storage: impl Storage) -> Broker {
    Broker::builder().store(Settings::small()).open(storage).unwrap()
}

/// Returns a folder with messages that are in the store only once a broker has opened it.
fn folder() -> CrashStorage {
    let disk = CrashStorage::new();
    let broker = open(disk.clone());
    let channel = connect(&broker).channel().unwrap();
    for queue in ["orders", "others"] {
        channel.queue(queue).durable().declare().unwrap();
        for body in ["the first", "the second", "the third"] {
            channel.publish("", queue, body).persistent().confirm().unwrap();
        }
    }
    drop(broker);
    disk
}

/// Flips a bit of the first body with these bytes. Doing so again repairs it.
fn flip(disk: &CrashStorage, body: &str) -> impl Fn() {
    for name in disk.list().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        if let Some(at) = bytes.windows(body.len()).position(|window| window == body.as_bytes()) {
            let disk = disk.clone();
            let flip = move || assert!(disk.flip(&name, at as u64, 3));
            flip();
            return flip;
        }
    }
    panic!("no file holds {body:?}");
}

fn get(channel: &Channel) -> Result<Option<String>, Error> {
    Ok(channel.get_no_ack("orders")?.map(|delivery| String::from_utf8_lossy(delivery.body()).into_owned()))
}

#[track_caller]
fn assert_refused(error: &Error) {
    assert_eq!(error.code(), Some(541), "{error}");
    let text = "the next message of queue 'orders' in vhost '/' can't be read from the store.";
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn a_get_of_a_damaged_message_is_refused_until_the_message_can_be_read_again() {
    let disk = folder();
    let broker = open(disk.clone());
    let repair = flip(&disk, "the second");
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    assert_eq!(get(&channel).unwrap().as_deref(), Some("the first"));
    for _ in 0..2 {
        assert_refused(&get(&connection.channel().unwrap()).unwrap_err());
        assert_eq!(channel.queue("orders").declare_passive().unwrap().message_count(), 2);
    }
    let queue = broker.inspect().queue("orders").unwrap();
    assert_eq!((queue.ready, queue.unreadable), (2, true));
    let counts = broker.inspect().counts();
    assert_eq!((counts.unreadable, counts.failed_reads), (1, 2));
    // Other queues, and publishes to this one, go on.
    assert_eq!(channel.get_no_ack("others").unwrap().unwrap().body(), b"the first");
    channel.publish("", "orders", "the fourth").persistent().confirm().unwrap();

    repair();
    for body in ["the second", "the third", "the fourth"] {
        assert_eq!(get(&channel).unwrap().as_deref(), Some(body));
    }
    assert_eq!(get(&channel).unwrap(), None);
    assert_eq!(broker.inspect().counts().unreadable, 0);
}

#[test]
fn a_consumer_of_a_damaged_message_gets_an_error_and_a_purge_ends_that() {
    let disk = folder();
    let broker = open(disk.clone());
    let _ = flip(&disk, "the second");
    let connection = connect(&broker);
    let mut others =
        connection.channel().unwrap().queue("others").declare_passive().unwrap().consume().start().unwrap();
    for _ in 0..2 {
        for _ in 0..3 {
            let channel = connection.channel().unwrap();
            let queue = channel.queue("orders").declare_passive().unwrap();
            let mut consumer = queue.consume().start().unwrap();
            let delivery = consumer.next().unwrap().unwrap();
            assert_eq!(delivery.body(), b"the first");
            assert_refused(&consumer.next().unwrap().unwrap_err());
        }
        assert_eq!(broker.inspect().queue("orders").unwrap().consumers, 0);
    }
    for body in ["the first", "the second", "the third"] {
        assert_eq!(others.next().unwrap().unwrap().body(), body.as_bytes());
    }
    assert!(broker.inspect().queue("orders").unwrap().unreadable);
    let channel = connection.channel().unwrap();
    assert_eq!(channel.queue("orders").declare_passive().unwrap().purge().unwrap(), 3);
    let queue = broker.inspect().queue("orders").unwrap();
    assert_eq!((queue.ready, queue.unreadable), (0, false));
    assert_eq!(broker.inspect().counts().unreadable, 0);
    channel.publish("", "orders", "the next").persistent().confirm().unwrap();
    assert_eq!(get(&channel).unwrap().as_deref(), Some("the next"));
}

#[test]
fn a_damaged_message_that_expires_stays_in_the_store_for_its_dead_letter() {
    let (clock, disk) = (Clock::manual(), CrashStorage::new());
    let start = || Broker::builder().clock(&clock).store(Settings::small()).open(disk.clone()).unwrap();
    let broker = start();
    let channel = connect(&broker).channel().unwrap();
    channel.queue("dead").durable().declare().unwrap();
    let declare = channel.queue("orders").durable().argument("x-message-ttl", 1000);
    declare.argument("x-dead-letter-exchange", "").argument("x-dead-letter-routing-key", "dead").declare().unwrap();
    channel.publish("", "orders", "the first").persistent().confirm().unwrap();
    drop(broker);
    let broker = start();
    let repair = flip(&disk, "the first");
    broker.advance("2s");
    let inspect = broker.inspect();
    assert_eq!((inspect.queue("orders").unwrap().ready, inspect.queue("dead").unwrap().ready), (0, 0));
    assert_eq!(inspect.counts().failed_reads, 1);
    drop(broker);
    repair();
    let broker = start();
    broker.advance("2s");
    let dead = broker.inspect().ready("dead");
    assert_eq!(dead.iter().map(Message::text).collect::<Vec<_>>(), ["the first"]);
}

/// A storage whose reads fail on request.
#[derive(Debug, Clone)]
struct Flaky(CrashStorage, Arc<AtomicBool>);

#[derive(Debug)]
struct FlakyFile(Arc<dyn File>, Arc<AtomicBool>);

impl Storage for Flaky {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FlakyFile(self.0.create(name)?, self.1.clone())))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FlakyFile(self.0.open(name)?, self.1.clone())))
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

impl File for FlakyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the sector can't be read")),
            false => self.0.read_at(buffer, offset),
        }
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

#[test]
fn a_read_that_fails_is_tried_again() {
    let fails = Arc::new(AtomicBool::new(false));
    let broker = open(Flaky(folder(), fails.clone()));
    let connection = connect(&broker);
    fails.store(true, Ordering::SeqCst);
    assert_refused(&get(&connection.channel().unwrap()).unwrap_err());
    assert!(broker.inspect().queue("orders").unwrap().unreadable);
    fails.store(false, Ordering::SeqCst);
    let channel = connection.channel().unwrap();
    for body in ["the first", "the second", "the third"] {
        assert_eq!(get(&channel).unwrap().as_deref(), Some(body));
    }
    let counts = broker.inspect().counts();
    assert_eq!((counts.unreadable, counts.failed_reads), (0, 1));
}
