//! A storage that loses unsynced data, for tests of the store and of brokers.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::random::Random;
use crate::store::{File, Storage, memory};

/// Bytes that reach the disk as a whole or not at all.
const SECTOR: usize = 512;

/// A folder in memory that crashes, fails or fills up on request. Clones share one folder.
///
/// ```
/// use hopmq_broker::CrashStorage;
/// use hopmq_broker::store::*;
///
/// let disk = CrashStorage::new();
/// let (store, mut writer, _, _) = Store::open(disk.clone(), Settings::default())?;
/// let mut group = Group::new();
/// group.put(b"user guest", b"safe");
/// store.append(&mut group)?;
/// writer.turn()?;
/// group.put(b"user guest", b"not yet");
/// store.append(&mut group)?;
/// drop((store, writer));
///
/// let (.., recovered) = Store::open(disk.power_cut(7), Settings::default())?;
/// assert_eq!(recovered.metadata[0].1, "safe");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CrashStorage(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<String, Arc<Mutex<Inode>>>,
    synced_names: BTreeMap<String, Arc<Mutex<Inode>>>,
    /// Files created (`Some`) and removed (`None`) since the last sync of the folder.
    changes: Vec<(String, Option<Arc<Mutex<Inode>>>)>,
    calls: u64,
    changing_calls: u64,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    capacity: Option<u64>,
    dead: bool,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync.
    writes: Vec<(u64, Vec<u8>)>,
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashStorage,
    inode: Arc<Mutex<Inode>>,
}

/// The effect of a call on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Reads,
    Changes,
}

/// The outcome of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    /// The machine crashes during this call.
    Crashes,
}

impl CrashStorage {
    /// Creates an empty folder without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of calls so far, and how many of them could change the disk.
    pub fn calls(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.calls, disk.changing_calls)
    }

    /// Crashes during the `n`-th call that changes the disk, counted as in [`CrashStorage::calls`]. That call fails,
    /// though its change may survive, and so do all later calls.
    pub fn crash_at(&self, n: u64) {
        self.disk().crash_at = Some(n);
    }

    /// Fails the `n`-th call with an error. After a failed sync, a crash loses the unsynced data even if a later sync
    /// succeeds, as on Linux.
    pub fn fail_at(&self, n: u64) {
        self.disk().fail_at = Some(n);
    }

    /// Limits the bytes of all files together; `None` removes the limit.
    pub fn limit(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Ends the requested crash and failure, as if only the process had died: all written data is still there, synced
    /// or not.
    pub fn restart(&self) {
        let mut disk = self.disk();
        disk.crash_at = None;
        disk.fail_at = None;
        disk.dead = false;
    }

    /// Returns the folder after a power cut: the synced data, and those unsynced sectors that `seed` selects.
    pub fn power_cut(&self, seed: u64) -> Self {
        let disk = self.disk();
        let mut random = Random(seed);
        let mut names = disk.synced_names.clone();
        // The changes to one name survive up to some point.
        let mut gone = Vec::new();
        for (name, inode) in &disk.changes {
            if gone.contains(&name) {
                continue;
            }
            if random.below(2) == 0 {
                gone.push(name);
            } else if let Some(inode) = inode {
                names.insert(name.clone(), inode.clone());
            } else {
                names.remove(name);
            }
        }
        // None, few, half, most or all of the unsynced sectors survive.
        let (odds, of) = [(0, 1), (1, 8), (1, 2), (7, 8), (1, 1)][random.below(5) as usize];
        let after = names.into_iter().map(|(name, inode)| {
            let inode = lock(&inode).after_crash(|| random.below(of) < odds);
            (name, Arc::new(Mutex::new(inode)))
        });
        let names: BTreeMap<_, _> = after.collect();
        let disk = Disk { names: names.clone(), synced_names: names, capacity: disk.capacity, ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Inverts one bit of a file, as a bad disk would. Returns whether the file has such a byte.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> bool {
        let Some(inode) = self.disk().names.get(name).cloned() else { return false };
        let mut inode = lock(&inode);
        let inode = &mut *inode;
        for bytes in [&mut inode.bytes, &mut inode.synced] {
            let Some(byte) = bytes.get_mut(offset as usize) else { return false };
            *byte ^= 1 << (bit % 8);
        }
        true
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    fn call(&self, call: Call) -> io::Result<Fate> {
        let mut disk = self.disk();
        disk.calls += 1;
        disk.changing_calls += u64::from(call == Call::Changes);
        if disk.dead {
            return Err(io::Error::other("the simulated machine has crashed; open power_cut(), or call restart()"));
        }
        if disk.fail_at == Some(disk.calls) {
            return Err(io::Error::other("simulated failure of the disk, requested with fail_at()"));
        }
        if call == Call::Changes && disk.crash_at == Some(disk.changing_calls) {
            disk.dead = true;
            return Ok(Fate::Crashes);
        }
        Ok(Fate::Lives)
    }

    fn rename(&self, name: &str, inode: Option<Arc<Mutex<Inode>>>) -> io::Result<()> {
        let fate = self.call(Call::Changes)?;
        let mut disk = self.disk();
        match &inode {
            Some(inode) => drop(disk.names.insert(name.to_owned(), inode.clone())),
            None => drop(disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?),
        }
        disk.changes.push((name.to_owned(), inode));
        fate.end()
    }
}

impl Fate {
    fn end(self) -> io::Result<()> {
        if self == Self::Crashes { Err(io::Error::other("simulated crash, requested with crash_at()")) } else { Ok(()) }
    }
}

impl Disk {
    fn free(&self) -> u64 {
        let used: u64 = self.names.values().map(|inode| lock(inode).bytes.len() as u64).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }
}

impl Inode {
    fn write(&mut self, data: &[u8], offset: u64) {
        memory::write(&mut self.bytes, data, offset);
        self.writes.push((offset, data.to_vec()));
    }

    fn after_crash(&self, mut survives: impl FnMut() -> bool) -> Self {
        let mut bytes = self.synced.clone();
        for (offset, data) in &self.writes {
            let mut from = 0;
            while from < data.len() {
                let at = *offset as usize + from;
                let to = data.len().min(from + SECTOR - at % SECTOR);
                if survives() {
                    memory::write(&mut bytes, &data[from..to], at as u64);
                }
                from = to;
            }
        }
        Self { synced: bytes.clone(), bytes, writes: Vec::new() }
    }
}

impl Storage for CrashStorage {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let inode = Arc::<Mutex<Inode>>::default();
        self.rename(name, Some(inode.clone()))?;
        Ok(Arc::new(CrashFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.call(Call::Reads)?;
        let inode = self.disk().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(CrashFile { disk: self.clone(), inode }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.rename(name, None)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.call(Call::Reads)?;
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call(Call::Changes)?.end()?;
        let mut disk = self.disk();
        disk.synced_names = disk.names.clone();
        disk.changes.clear();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        self.call(Call::Reads)?;
        Ok(self.disk().free())
    }
}

impl CrashFile {
    /// Fails unless there is space for the file up to `end`.
    fn grow(&self, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(lock(&self.inode).bytes.len() as u64);
        if more > 0 && more > self.disk.disk().free() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl File for CrashFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call(Call::Reads)?;
        Ok(memory::read(&lock(&self.inode).bytes, buffer, offset))
    }

    /// Writes half of the data if there is not enough space for all of it.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let fate = self.disk.call(Call::Changes)?;
        if let Err(error) = self.grow(offset + data.len() as u64) {
            let half = &data[..data.len() / 2];
            if self.grow(offset + half.len() as u64).is_ok() {
                lock(&self.inode).write(half, offset);
            }
            return Err(error);
        }
        lock(&self.inode).write(data, offset);
        fate.end()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let fate = self.disk.call(Call::Changes)?;
        self.grow(len)?;
        lock(&self.inode).write(&vec![0; len as usize], 0);
        fate.end()
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.disk.call(Call::Changes).and_then(Fate::end);
        let dead = self.disk.disk().dead;
        let mut inode = lock(&self.inode);
        if !dead {
            let writes = std::mem::take(&mut inode.writes);
            if synced.is_ok() {
                writes.iter().for_each(|(offset, data)| memory::write(&mut inode.synced, data, *offset));
            }
        }
        synced
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.call(Call::Reads)?;
        Ok(lock(&self.inode).bytes.len() as u64)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
