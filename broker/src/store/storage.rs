//! What the store asks of a disk: a folder of files that are read and written by offset.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A folder. The store alone uses it; names are flat.
///
/// What was written to a file survives a crash after [`File::sync`], that a file was created or removed after
/// [`Storage::sync_dir`]. Before that, each write and each name may survive or not, on its own.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// A new, empty file; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// A file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Deletes a file. Whoever has it open may go on reading.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes safe which files there are.
    fn sync_dir(&self) -> io::Result<()>;
    /// How many bytes can still be written. `u64::MAX` where nobody knows.
    fn free_space(&self) -> io::Result<u64>;
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Fills `buffer` from `offset` on, as far as there is something. Returns how many bytes that are.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data`. The file grows where it has to; a gap is zeros.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves `len` bytes of zeros for a file that is empty, so that writing to them later needs no space, and no
    /// change but of the bytes.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes safe what was written.
    fn sync(&self) -> io::Result<()>;
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;
}
