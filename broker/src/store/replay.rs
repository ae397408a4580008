//! Recovery of the log: which files it has, where it ends, and whether all that was safe is there.
//!
//! A log file ends where the next one begins. The last one ends at the first unreadable frame, unless that frame was
//! safe, as far as it is known: by a later frame, the file's header, or the manifest. Then it is damaged, as is a log
//! without the file that a header or the manifest names, or with one that is shorter than its header says.
//!
//! The end of a file was read, but may not be on the disk: it is written again and synced before the store relies on
//! it. A sync alone is not enough: after a failed sync, Linux still returns data that it never wrote.

use std::sync::Arc;

use super::frame::{self, BadHeader, Frames, HEADER, Use};
use super::index::{Index, Span};
use super::log::{self, LogFile, Named};
use super::manifest::{Known, Manifest};
use super::recover::{Messages, Recovery};
use super::shared::State;
use super::storage::File;
use super::writer::{self, sync_error};
use super::{Error, QueueId, RecoveredMessage, Torn};

/// A file with the end that was read but may not be on the disk.
#[derive(Debug)]
pub(super) struct End {
    pub(super) named: Named,
    pub(super) purpose: Use,
    pub(super) header: frame::Header,
    /// The addresses between which the frames may not be on the disk.
    pub(super) from: u64,
    pub(super) until: u64,
}

/// A log file in order of use.
pub(super) type Numbered = (Named, frame::Header);

/// How far a file of the log was read.
#[derive(Debug, Clone, Copy)]
struct Replayed {
    /// The address after its last frame.
    end: u64,
    /// The address up to which the log was safe when that frame was encoded.
    safe: u64,
}

impl Recovery<'_> {
    /// Reads the log and applies it to the index.
    pub(super) fn log(
        &mut self,
        files: &[Numbered],
        known: &mut Known,
        messages: &mut Messages,
    ) -> Result<(State, Option<End>), Error> {
        let mut state = State { next_log: self.names.logs.last().map_or(0, |last| last + 1), ..State::default() };
        let index = &mut known.index;
        let mut read = Replayed { end: known.start.base, safe: 0 };
        for (nth, (named, header)) in files.iter().enumerate() {
            index.spans.push_back(Span { seq: header.seq, base: header.base, live: 0 });
            let next = files.get(nth + 1).map(|(_, header)| header.base);
            let published = |queue, message| messages.entry(queue).or_default().push(message);
            let safe = header.safe.max(known.reached);
            read = self.replay(named, header.base, next, safe, index, published)?;
            let len = named.file.size().map_err(|error| Error::io(format!("reading {}", named.name), error))?;
            let capacity = if next.is_some() { len } else { HEADER + read.end - header.base };
            let file = Some(named.clone());
            state.log.files.push_back(LogFile { seq: header.seq, base: header.base, capacity, file });
        }
        let Replayed { end, safe } = read;
        let last = files.last().map(|(named, header)| {
            let header = frame::Header { next: 0, ..*header };
            End { named: named.clone(), purpose: Use::Log, header, from: safe.max(header.base), until: end }
        });
        state.log.next_seq = files.last().map_or(known.start.seq, |(_, header)| header.seq + 1);
        state.log.end = end;
        state.log.synced = end;
        Ok((state, last))
    }

    /// Makes the end of the log safe, and notes that it is, and that its last file exists.
    pub(super) fn note_log(&self, files: &[Numbered], end: &End) -> Result<(), Error> {
        end.rewrite()?;
        if !self.damages.is_empty() {
            return Ok(());
        }
        let Named { name, file } = &end.named;
        let size = file.size().map_err(|error| Error::io(format!("reading {name}"), error))?;
        let header = frame::Header { size, safe: end.until, ..end.header };
        if header != end.header {
            End { named: end.named.clone(), header, from: end.until, ..*end }.rewrite()?;
        }
        match files {
            [.., (before, known), _] if known.next == 0 => writer::link(before, *known, &header),
            _ => Ok(()),
        }
    }

    /// Opens the files of the log, in order, from where it begins.
    pub(super) fn log_files(&mut self, known: &Known) -> Result<Vec<Numbered>, Error> {
        let mut files: Vec<Numbered> = Vec::new();
        for number in self.names.logs.clone() {
            let name = log::file_name(number);
            let file = self.open(&name)?;
            match Use::Log.read(file.as_ref()).map_err(|error| Error::io(format!("reading {name}"), error))? {
                Ok(Some(header)) if header.seq >= known.start.seq => files.push((Named { name, file }, header)),
                Ok(_) => {}
                Err(BadHeader::Damaged(what)) => self.damaged(&name, 0, what)?,
                Err(BadHeader::Later(version)) => return Err(Self::later(&name, version)),
            }
        }
        files.sort_by_key(|(_, header)| header.seq);
        let mut expected = known.start.seq;
        let mut base = known.start.base;
        for (Named { name, .. }, header) in &files {
            if header.seq != expected || header.base < base || (header.seq == known.start.seq && header.base != base) {
                let what = format!("this is file {} of the log, but file {expected} is missing", header.seq);
                self.damaged(name, 0, what)?;
            }
            (expected, base) = (header.seq + 1, header.base);
        }
        if files.is_empty() && known.start.exists {
            let name = Manifest::name(self.names.manifests.last().copied().unwrap_or_default());
            let what = format!("file {expected} of the log is missing or empty: all that it held is lost");
            self.damaged(&name, 0, what)?;
        }
        if let Some((Named { name, file }, header)) = files.last() {
            let size = file.size().map_err(|error| Error::io(format!("reading {name}"), error))?;
            if header.next > 0 {
                let lost = header.next.saturating_sub(HEADER);
                let what = format!(
                    "file {expected} of the log, which follows it, is missing or empty: at most {lost} bytes of \
                     records are lost"
                );
                self.damaged(name, size, what)?;
            } else if size < header.size {
                let lost = header.size - size;
                let what = format!("the file was cut to {size} bytes: at most {lost} bytes of records are lost");
                self.damaged(name, size, what)?;
            }
        }
        Ok(files)
    }

    /// Applies a file of the log. All up to the address `next`, where the next file begins, and up to `safe` was safe.
    fn replay(
        &mut self,
        named: &Named,
        base: u64,
        next: Option<u64>,
        known: u64,
        index: &mut Index,
        mut published: impl FnMut(QueueId, RecoveredMessage),
    ) -> Result<Replayed, Error> {
        let failed = |error| Error::io(format!("reading {}", named.name), error);
        let mut frames = Frames::new(named.file.as_ref(), base, next).map_err(failed)?;
        let mut safe = 0;
        loop {
            let at = frames.at();
            let offset = frames.offset();
            if let Some(frame) = frames.next().map_err(failed)? {
                safe = frame.synced;
                if let Err(malformed) = index.apply(frame.payload, frame.start, &mut published) {
                    self.damaged(&named.name, offset, malformed.0)?;
                }
                continue;
            }
            if next == Some(at) {
                return Ok(Replayed { end: at, safe });
            }
            let mut bytes = frames.remains().map_err(failed)?;
            let later = frames.skip().map_err(failed)?;
            let mut was_safe = next.unwrap_or(known) > at;
            if later.is_some() && !was_safe {
                let (synced, end) = rest(&named.file, base, frames.at()).map_err(failed)?;
                was_safe = synced > at;
                bytes = end - at;
            }
            if !was_safe {
                let torn = Torn { file: named.name.clone(), offset, bytes };
                self.torn = Some(torn).filter(|torn| torn.bytes > 0);
                return Ok(Replayed { end: at, safe });
            }
            let until = if later.is_some() { frames.at() } else { next.unwrap_or(known) };
            let what = format!("a record that was safe can't be read: {} bytes of records are lost", until - at);
            self.damaged(&named.name, offset, what)?;
            if later.is_none() {
                return Ok(Replayed { end: next.unwrap_or(at), safe });
            }
        }
    }
}

/// Reads the frames at and after the address `from`. Returns up to where the log was safe by what they say, and the
/// address after the last one.
fn rest(file: &Arc<dyn File>, base: u64, from: u64) -> std::io::Result<(u64, u64)> {
    let mut frames = Frames::new(file.as_ref(), base, None)?;
    frames.seek(from);
    let mut synced = 0;
    loop {
        while let Some(frame) = frames.next()? {
            synced = synced.max(frame.synced);
        }
        let end = frames.at();
        if frames.skip()?.is_none() {
            return Ok((synced, end));
        }
    }
}

impl End {
    /// Writes the header and the end again, and syncs them.
    pub(super) fn rewrite(&self) -> Result<(), Error> {
        let Self { named: Named { name, file }, purpose, header, from, until } = self;
        let rewritten = || {
            let mut bytes = vec![0; (until - from) as usize];
            let offset = HEADER + from - header.base;
            frame::read_full(file.as_ref(), &mut bytes, offset)?;
            file.write_at(&purpose.encode(*header), 0)?;
            file.write_at(&bytes, offset)
        };
        rewritten().map_err(|error| Error::io(format!("rewriting {name}"), error))?;
        file.sync().map_err(|error| sync_error(&format!("syncing {name}"), error))
    }
}
