//! The store's interface to a disk: a folder of files that are read and written by offset.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A folder of files with flat names, used by one store alone.
///
/// A write survives a crash once [`File::sync`] has returned; the creation or removal of a file, once
/// [`Storage::sync_dir`] has returned. Before that, each write and each name may or may not survive, independently.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Creates an empty file, or empties the file of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Deletes a file. Open handles can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns the names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes the creation and removal of files safe.
    fn sync_dir(&self) -> io::Result<()>;
    /// Returns how many bytes can still be written, `u64::MAX` if that is unknown.
    fn free_space(&self) -> io::Result<u64>;
    /// Returns the folder's path for error messages. The default is `None`, for a storage without a path.
    fn location(&self) -> Option<String> {
        None
    }
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads from `offset` into `buffer`. Returns the number of bytes read, which may be less than the buffer's length;
    /// 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data` at `offset`. The file grows if needed; a gap reads as zeros.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Fills an empty file with `len` bytes of zeros, so that later writes to them need neither space nor a change of
    /// the file's metadata.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes all writes safe.
    fn sync(&self) -> io::Result<()>;
    /// Returns the length of the file in bytes.
    fn size(&self) -> io::Result<u64>;
}
