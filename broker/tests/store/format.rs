//! The format of the files: earlier versions are read, later ones are refused, and what a message costs.

use bytes::Bytes;
use hopmq_broker::CrashStorage;
use hopmq_broker::store::*;

use crate::model::*;

const QUEUE: QueueId = QueueId(1);

fn publish(store: &Store, position: u64) -> Lsn {
    let mut group = Group::new();
    let target = Target { queue: QUEUE, position: Position(position), expires: None };
    let body = Bytes::from(vec![7; 100]);
    group.publish(&Message { priority: 0, head: b"head", body: &body }, &[target]);
    store.append(&mut group).unwrap()
}

/// Returns a folder with a few log files.
fn folder() -> CrashStorage {
    let disk = CrashStorage::new();
    let (store, mut writer, ..) = Store::open(disk.clone(), small()).unwrap();
    let mut group = Group::new();
    group.declare_queue(QUEUE, b"orders");
    store.append(&mut group).unwrap();
    for position in 1..=60 {
        publish(&store, position);
        writer.turn().unwrap();
    }
    disk
}

/// Rewrites the header of each file of frames.
fn change_headers(disk: &CrashStorage, change: impl Fn(&mut [u8; 512])) {
    for name in disk.list().unwrap() {
        let file = disk.open(&name).unwrap();
        let mut header = [0; 512];
        file.read_at(&mut header, 0).unwrap();
        if header.starts_with(b"HOPMQ") {
            change(&mut header);
            file.write_at(&header, 0).unwrap();
        }
    }
}

#[test]
fn a_folder_of_the_first_format_is_read_and_from_then_on_as_safe_as_others() {
    let disk = folder();
    change_headers(&disk, |header| {
        header[7] = b'1';
        header[28..].fill(0);
        let crc = crc32c::crc32c(&header[12..]);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
    });
    let (.., recovered) = Store::open(disk.clone(), small()).unwrap();
    assert_eq!(recovered.queues[0].messages.len(), 60);
    let number = |name: &String| name.strip_prefix("log-").and_then(|number| number.parse::<u64>().ok());
    let newest = disk.list().unwrap().into_iter().max_by_key(number).unwrap();
    disk.remove(&newest).unwrap();
    let error = Store::open(disk, small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("is missing or empty: at most"), "{error}");
}

#[test]
fn a_folder_of_a_later_format_is_refused_also_with_salvage() {
    let disk = folder();
    change_headers(&disk, |header| {
        header[7] = b'3';
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..8]), &header[12..]);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
    });
    for salvage in [false, true] {
        let error = Store::open(disk.clone(), Settings { salvage, ..small() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Version);
        assert_eq!(
            error.to_string(),
            "manifest-1 has format 3, which a later version of this broker wrote; no file was changed; open the folder \
             with that version"
        );
    }
}

#[test]
fn a_message_costs_one_write_one_sync_and_no_more_bytes_than_its_frame() {
    let disk = CrashStorage::new();
    let (store, mut writer, ..) = Store::open(disk.clone(), Settings::default()).unwrap();
    let mut group = Group::new();
    group.declare_queue(QUEUE, b"orders");
    let start = store.append(&mut group).unwrap();
    writer.turn().unwrap();
    let (_, calls) = disk.calls();
    let mut end = start;
    for position in 1..=1000 {
        end = publish(&store, position);
        writer.turn().unwrap();
    }
    assert_eq!(disk.calls().1 - calls, 2 * 1000);
    // A frame's head has 24 bytes, a parcel's 12; the rest is the operation, the content and the alignment.
    assert_eq!((end.0 - start.0) / 1000, 152);
}
