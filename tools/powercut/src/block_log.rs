//! The one order of things: block writes and flushes as the device got them, and promises as
//! clients got them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::promises::Mark;
use crate::shell::during;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// `len` bytes at `pos` of the device; they stand at `at` of the log's own file.
    Write { pos: u64, len: usize, at: u64 },
    /// Every write before is on the medium.
    Flush,
    /// A client was told, or asked, something.
    Mark(Mark),
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    bytes: u64,
    closed: bool,
}

/// Shared between the device and the clients.
pub struct BlockLog {
    state: Mutex<State>,
    content: File,
    /// What the device holds now.
    device: File,
}

impl BlockLog {
    /// A log of an empty device of `bytes`, with its files in `dir`.
    pub fn new(dir: &Path, bytes: u64) -> Result<BlockLog, String> {
        let make = |name: &str| {
            let options =
                File::options().read(true).write(true).create(true).truncate(true).clone();
            options.open(dir.join(name)).map_err(during(name))
        };
        let (content, device) = (make("writes")?, make("device")?);
        device.set_len(bytes).map_err(during("the device's length"))?;
        Ok(BlockLog { state: Mutex::default(), content, device })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self, pos: u64, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = self.lock();
        self.content.write_all_at(bytes, state.bytes)?;
        self.device.write_all_at(bytes, pos)?;
        let entry = Entry::Write { pos, len: bytes.len(), at: state.bytes };
        state.bytes += bytes.len() as u64;
        if !state.closed {
            state.entries.push(entry);
        }
        Ok(())
    }

    pub fn read(&self, pos: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.device.read_exact_at(into, pos)
    }

    pub fn flush(&self) {
        self.push(Entry::Flush);
    }

    pub fn mark(&self, mark: Mark) {
        self.push(Entry::Mark(mark));
    }

    fn push(&self, entry: Entry) {
        let mut state = self.lock();
        if !state.closed {
            state.entries.push(entry);
        }
    }

    /// Number of entries until now.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Writes, flushes and marks.
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.lock();
        let count = |what: fn(&Entry) -> bool| state.entries.iter().filter(|it| what(it)).count();
        (
            count(|it| matches!(it, Entry::Write { .. })),
            count(|it| matches!(it, Entry::Flush)),
            count(|it| matches!(it, Entry::Mark(_))),
        )
    }

    /// Ends the record: all that happened. What the device is asked from now on is not noted.
    pub fn close(&self) -> Vec<Entry> {
        let mut state = self.lock();
        state.closed = true;
        state.entries.clone()
    }

    /// The bytes of a write.
    pub fn content(&self, len: usize, at: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.content.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}
