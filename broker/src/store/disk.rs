//! The storage of a store on disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::storage::{File, Storage};
use super::{Error, ErrorKind};

/// The name of the file that is locked while a broker has the folder open.
const LOCK: &str = "lock";
/// Zeros per write. The page cache keeps a file in pieces as large as the writes that made it, and Linux may count, or
/// write back, a whole piece when a few of its bytes change.
const ZEROS: usize = 4 << 10;

/// A folder on disk, for one broker at a time.
///
/// ```no_run
/// use hopmq_broker::store::{DiskStorage, Settings, Store};
/// let (store, writer, checkpointer, recovered) = Store::open(DiskStorage::open("data")?, Settings::default())?;
/// let threads = writer.spawn(checkpointer, || println!("the status has changed"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DiskStorage {
    folder: PathBuf,
    /// Locked while open; the system unlocks it when the process ends.
    _lock: fs::File,
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl DiskStorage {
    /// Creates the folder if it does not exist, and locks it until the store is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if another broker has the folder open, in this process or another; [`ErrorKind::Io`] if
    /// the folder can't be created or opened.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref().to_owned();
        let failed = |what: &str| {
            let what = format!("{what} {}", folder.display());
            move |error| Error::disk(what, error)
        };
        fs::create_dir_all(&folder).map_err(failed("creating the folder"))?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(folder.join(LOCK));
        let lock = lock.map_err(failed("opening the lock file in"))?;
        match fs4::FileExt::try_lock(&lock) {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(fs4::TryLockError::WouldBlock) => {
                let what = format!("another broker has the folder {} open; stop it first", folder.display());
                Err(Error::new(ErrorKind::Locked, what))
            }
            Err(fs4::TryLockError::Error(error)) => Err(failed("locking")(error)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Storage for DiskStorage {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    /// Does nothing where the system offers no such sync, as on Windows.
    fn sync_dir(&self) -> io::Result<()> {
        if cfg!(unix) { fs::File::open(&self.folder)?.sync_all() } else { Ok(()) }
    }

    fn free_space(&self) -> io::Result<u64> {
        fs4::available_space(&self.folder)
    }

    fn location(&self) -> Option<String> {
        Some(self.folder.display().to_string())
    }
}

impl File for DiskFile {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, data, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        while !data.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_write(&self.0, data, offset)?;
            data = &data[count..];
            offset += count as u64;
        }
        Ok(())
    }

    /// Writes the zeros: the first write to a block that was only reserved changes the file's metadata, which makes the
    /// next sync slower.
    fn allocate(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let mut offset = 0;
        while offset < len {
            let count = (len - offset).min(ZEROS as u64);
            self.write_at(&zeros[..count as usize], offset)?;
            offset += count;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
