//! A data directory's lock and metadata, looked at from outside: nothing is locked, nothing written.
//!
//! What redb would write to open the file (the repair after a kill) goes to memory.
//! Callers: `tools/logdump`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, StorageBackend};
use thiserror::Error;

use super::directory::LOCK_FILE;
use super::store::{
    CACHE_BYTES, LoadedMetadata, MetadataStore, RedbStore, StoreError, database_error,
};

/// Name of the thread that reads a metadata store: who hides its panics knows it by that.
pub const READER_THREAD: &str = "metadata reader";

/// Whether a broker uses a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Nobody holds the lock.
    Free,
    /// A process holds it; its id, as this machine sees it, if it can be told.
    Held(Option<u32>),
    /// The system does not say.
    Unknown,
}

/// Whether a broker uses the directory, without touching its lock: by the system's list.
#[must_use]
pub fn lock_state(dir: &Path) -> LockState {
    let path = dir.join(LOCK_FILE);
    let inode = match fs::metadata(&path) {
        Ok(metadata) => metadata.ino(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return LockState::Free,
        Err(_) => return LockState::Unknown,
    };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return LockState::Unknown };
    let written = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    holder(&locks, inode, written)
}

/// The holder of the lock on `inode` in the system's list; `written`: the process id in the file,
/// which tells files of the same number on two file systems apart.
fn holder(locks: &str, inode: u64, written: Option<u32>) -> LockState {
    for line in locks.lines() {
        // `3: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`; `-> FLOCK …` is one that waits.
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some("FLOCK") {
            continue;
        }
        let (pid, place) = (words.nth(2).and_then(|pid| pid.parse().ok()), words.next());
        let number = place.and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
        if number == Some(inode) && (pid == written || pid.is_none_or(|pid| pid == 0)) {
            return LockState::Held(written);
        }
    }
    LockState::Free
}

/// What a metadata store holds, and in what state it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMetadata {
    /// The image and the commands behind the last snapshot.
    pub loaded: LoadedMetadata,
    /// It was not closed in order (a kill, or a broker has it open): it was put in order in memory,
    /// as the broker does it in the file.
    pub was_open: bool,
    /// Every page that is in use has its checksum.
    pub is_whole: bool,
}

/// Why metadata cannot be read.
#[derive(Debug, Error)]
pub enum InspectError {
    /// As a broker would say it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read at all.
    #[error("metadata store {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its pages make so little sense that redb gave up.
    #[error("metadata store {path} is damaged: its pages cannot be walked")]
    Unwalkable {
        /// Which file.
        path: PathBuf,
    },
}

impl InspectError {
    /// Whether the file is damaged: else it could not be read, or is of a later version.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let of_bytes = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        };
        match self {
            InspectError::Unwalkable { .. } => true,
            InspectError::Io { source, .. } => of_bytes(source),
            InspectError::Store(StoreError::FutureVersion { .. }) => false,
            InspectError::Store(StoreError::Database { source, .. }) => match &**source {
                redb::Error::Io(error) => of_bytes(error),
                redb::Error::UpgradeRequired(_) => false,
                _ => true,
            },
            InspectError::Store(_) => true,
        }
    }
}

/// Reads the metadata store at `path` and checks every page that is in use.
///
/// # Errors
/// It cannot be read, is damaged, or is of a later version.
pub fn read_metadata(path: &Path) -> Result<ReadMetadata, InspectError> {
    let failed = |source| InspectError::Io { path: path.to_owned(), source };
    let backend = Overlay::open(path).map_err(failed)?;
    // redb asserts what it takes for granted of its own pages: a thread ends by it, not the process.
    let owned = path.to_owned();
    let reader = std::thread::Builder::new().name(READER_THREAD.to_owned());
    let reader = reader.spawn(move || read_over(&owned, backend)).map_err(failed)?;
    let unwalkable = |_| InspectError::Unwalkable { path: path.to_owned() };
    Ok(reader.join().map_err(unwalkable)??)
}

fn read_over(path: &Path, backend: Overlay) -> Result<ReadMetadata, StoreError> {
    let was_open = Arc::new(AtomicBool::new(false));
    let note = was_open.clone();
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_repair_callback(move |_| note.store(true, Ordering::Relaxed));
    let failed = |error: redb::DatabaseError| database_error(path, error.into());
    let mut database = builder.create_with_backend(backend).map_err(failed)?;
    let is_whole = database.check_integrity().map_err(failed)?;
    let store = RedbStore::of(path, database);
    store.check_version()?;
    let loaded = store.load()?;
    Ok(ReadMetadata { loaded, was_open: was_open.load(Ordering::Relaxed), is_whole })
}

/// Bytes of one piece of what was "written".
const PIECE_BYTES: u64 = 4096;

/// A file that is only read, and what was "written" over it.
#[derive(Debug)]
struct Overlay {
    file: fs::File,
    file_len: u64,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn open(path: &Path) -> io::Result<Overlay> {
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() == 0 {
            let what = if metadata.is_file() { "it is empty" } else { "it is not a regular file" };
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let len = metadata.len();
        let over = Mutex::new(Over { len, pieces: BTreeMap::new() });
        Ok(Overlay { file, file_len: len, over })
    }

    /// Piece `number` as it is in the file, with zeros behind the file's end.
    fn piece(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE_BYTES as usize];
        let begin = number * PIECE_BYTES;
        let there = self.file_len.saturating_sub(begin).min(PIECE_BYTES) as usize;
        self.file.read_exact_at(&mut piece[..there], begin)?;
        Ok(piece)
    }
}

/// The parts of `offset..offset + len` in each piece: the piece, where in it, and where in the whole.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PIECE_BYTES) as usize;
        let count = (PIECE_BYTES as usize - within).min(len - done);
        let range = done..done + count;
        done += count;
        (count > 0).then_some((at / PIECE_BYTES, within, range))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, range) in parts(offset, out.len()) {
            let count = range.len();
            let into = &mut out[range];
            match over.pieces.get(&number) {
                Some(piece) => into.copy_from_slice(&piece[within..within + count]),
                None => into.copy_from_slice(&self.piece(number)?[within..within + count]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, within, range) in parts(offset, data.len()) {
            let count = range.len();
            let piece = match over.pieces.entry(number) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(free) => free.insert(self.piece(number)?),
            };
            piece[within..within + count].copy_from_slice(&data[range]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::command::MetadataCommand;
    use crate::cluster::image::MetadataImage;

    /// A store with a few commands, as a killed broker leaves it, and what is in it.
    fn killed(dir: &Path) -> (PathBuf, MetadataImage) {
        let path = dir.join("metadata.redb");
        let mut store = RedbStore::open(&path).unwrap();
        let mut image = MetadataImage::default();
        for count in 1..=5 {
            let command = MetadataCommand::StartBroker { start_count: count };
            let index = image.last_index() + 1;
            image.apply(&command).unwrap();
            image.set_last(index, 1);
            store.append(index, 1, &[command]).unwrap();
        }
        let left = dir.join("left.redb");
        fs::copy(&path, &left).unwrap();
        (left, image)
    }

    #[test]
    fn a_store_that_was_not_closed_is_read_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, image) = killed(dir.path());
        let before = fs::read(&path).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let read = read_metadata(&path).unwrap();
        assert_eq!(read.loaded.image, image);
        assert!(read.was_open && read.is_whole);
        assert!(fs::read(&path).unwrap() == before, "not a byte was changed");
    }

    #[test]
    fn a_store_that_a_broker_has_open_is_read_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let mut store = RedbStore::open(&path).unwrap();
        store.append(1, 1, &[MetadataCommand::StartBroker { start_count: 1 }]).unwrap();
        assert_eq!(read_metadata(&path).unwrap().loaded.image.start_count(), 1);
        drop(store);
        let read = read_metadata(&path).unwrap();
        assert!(!read.was_open, "now it is closed");
    }

    #[test]
    fn damaged_short_and_foreign_stores_end_in_an_error_or_a_note_and_never_in_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let (path, image) = killed(dir.path());
        let whole = fs::read(&path).unwrap();
        let other = dir.path().join("other.redb");
        let mut noticed = 0;
        for at in (0..whole.len()).step_by(whole.len() / 60) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xFF;
            fs::write(&other, &bytes).unwrap();
            match read_metadata(&other) {
                Ok(read) if read.loaded.image == image => {}
                Ok(_) | Err(_) => noticed += 1,
            }
            fs::write(&other, &whole[..at]).unwrap();
            assert!(read_metadata(&other).is_err(), "cut at {at}");
        }
        assert!(noticed > 0, "some of the bytes are in use");
        fs::write(&other, vec![0x5A; 20_000]).unwrap();
        assert!(read_metadata(&other).unwrap_err().is_damage());
        assert!(!read_metadata(&dir.path().join("none")).unwrap_err().is_damage());
    }

    #[test]
    fn the_holder_of_the_lock_is_found_in_the_systems_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 fd:01:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4 fd:01:9 0 EOF\n";
        assert_eq!(holder(locks, 5678, Some(1234)), LockState::Held(Some(1234)));
        assert_eq!(holder(locks, 5678, Some(9)), LockState::Free, "a file of another system");
        assert_eq!(holder(locks, 99, Some(77)), LockState::Free, "a lock of another kind");
        assert_eq!(holder("", 5678, None), LockState::Free);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock_state(dir.path()), LockState::Free);
        let path = dir.path().join(LOCK_FILE);
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        let file = fs::File::open(&path).unwrap();
        assert!(crate::io::sys::try_lock(&file).unwrap());
        assert_eq!(lock_state(dir.path()), LockState::Held(Some(std::process::id())));
        drop(file);
        assert_eq!(lock_state(dir.path()), LockState::Free);
    }
}
