//! Where the metadata log is kept: commands by index with their terms, and now and then a snapshot
//! that lets the commands behind it go. Never the image's own tables, so that a single node's log
//! can become the first voter's.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

use super::command::MetadataCommand;
use super::encoding::DecodeError;
use super::image::{ApplyError, MetadataImage};
use crate::config::exit::Exit;

const COMMANDS: TableDefinition<'_, u64, (u64, &[u8])> = TableDefinition::new("commands");
const SNAPSHOTS: TableDefinition<'_, u64, (u64, &[u8])> = TableDefinition::new("snapshots");
const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
const FORMAT_KEY: &str = "version";
const FORMAT_VERSION: u64 = 1;

/// Pages that redb may keep in memory; the log is read once, at the start.
pub(super) const CACHE_BYTES: usize = 8 << 20;

/// Why metadata cannot be read or stored.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The database failed; after this the store takes nothing more.
    #[error("metadata store {path}: {source}")]
    Database {
        /// Which file.
        path: PathBuf,
        /// What redb says.
        source: Box<redb::Error>,
    },
    /// The file is of a later version of this program.
    #[error("{path} has format version {found}; this build reads up to {FORMAT_VERSION}")]
    FutureVersion {
        /// Which file.
        path: PathBuf,
        /// The version that it names.
        found: u64,
    },
    /// A stored command or snapshot is damaged or of a later version.
    #[error("metadata entry {index}: {source}")]
    Entry {
        /// Index of the entry.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The stored commands do not follow each other.
    #[error("metadata entry {index} is missing")]
    Gap {
        /// The index that is not there.
        index: u64,
    },
    /// A stored command does not fit those before it.
    #[error("metadata entry {index} does not fit: {source}")]
    Apply {
        /// Index of the entry.
        index: u64,
        /// Why not.
        source: ApplyError,
    },
}

impl StoreError {
    /// How a start ends with it. While the broker runs, a failed write is [`Exit::Storage`].
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            StoreError::Database { source, .. }
                if matches!(**source, redb::Error::DatabaseAlreadyOpen) =>
            {
                Exit::Locked
            }
            _ => Exit::Directory,
        }
    }
}

/// What a store held at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedMetadata {
    /// The image that all of it adds up to.
    pub image: MetadataImage,
    /// Commands behind the last snapshot.
    pub command_count: usize,
}

/// The metadata log of one node, and what a node that starts needs from it.
pub trait MetadataStore: Send {
    /// The image that snapshot and commands add up to.
    ///
    /// # Errors
    /// Unreadable, damaged, or of a later version.
    fn load(&self) -> Result<LoadedMetadata, StoreError>;

    /// Appends commands at `first_index` and the indexes after it, in one durable step: all of
    /// them or, after a crash, possibly none.
    ///
    /// # Errors
    /// Not stored, or not known to be stored: the caller must not go on with this store.
    fn append(
        &mut self,
        first_index: u64,
        term: u64,
        commands: &[MetadataCommand],
    ) -> Result<(), StoreError>;

    /// Keeps the image and, in the same step, drops the commands that it contains and older
    /// snapshots.
    ///
    /// # Errors
    /// As for [`MetadataStore::append`].
    fn save_snapshot(&mut self, image: &MetadataImage) -> Result<(), StoreError>;
}

/// The metadata log in a redb file.
pub struct RedbStore {
    path: PathBuf,
    database: Database,
}

impl RedbStore {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// Unreadable, in use by another process, or of a later version.
    pub fn open(path: &Path) -> Result<RedbStore, StoreError> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| database_error(path, error.into()))?;
        let store = RedbStore { path: path.to_owned(), database };
        let found = store.run(|| store.read_or_write_version())?;
        if found > FORMAT_VERSION {
            return Err(StoreError::FutureVersion { path: store.path, found });
        }
        Ok(store)
    }

    /// A store over an open database that nobody means to change.
    pub(super) fn of(path: &Path, database: Database) -> RedbStore {
        RedbStore { path: path.to_owned(), database }
    }

    /// The format version that the database names, if it names one.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        let read = || {
            let table = self.database.begin_read()?.open_table(FORMAT)?;
            Ok(table.get(FORMAT_KEY)?.map(|version| version.value()))
        };
        match self.run(read)? {
            Some(found) if found > FORMAT_VERSION => {
                Err(StoreError::FutureVersion { path: self.path.clone(), found })
            }
            _ => Ok(()),
        }
    }

    fn run<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
        work().map_err(|error| database_error(&self.path, error))
    }

    fn read_or_write_version(&self) -> Result<u64, redb::Error> {
        let read = self.database.begin_read()?;
        match read.open_table(FORMAT) {
            Ok(table) => {
                if let Some(version) = table.get(FORMAT_KEY)? {
                    return Ok(version.value());
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let write = self.database.begin_write()?;
        write.open_table(FORMAT)?.insert(FORMAT_KEY, FORMAT_VERSION)?;
        write.open_table(COMMANDS)?;
        write.open_table(SNAPSHOTS)?;
        write.commit()?;
        Ok(FORMAT_VERSION)
    }

    fn read_all(&self) -> Result<StoredEntries, redb::Error> {
        let read = self.database.begin_read()?;
        let mut entries = StoredEntries::default();
        if let Some(last) = read.open_table(SNAPSHOTS)?.last()? {
            entries.snapshot = Some((last.0.value(), last.1.value().1.to_vec()));
        }
        let first = entries.snapshot.as_ref().map_or(0, |(index, _)| index + 1);
        for entry in read.open_table(COMMANDS)?.range(first..)? {
            let (index, value) = entry?;
            let (term, bytes) = value.value();
            entries.commands.push((index.value(), term, bytes.to_vec()));
        }
        Ok(entries)
    }
}

#[derive(Default)]
struct StoredEntries {
    snapshot: Option<(u64, Vec<u8>)>,
    commands: Vec<(u64, u64, Vec<u8>)>,
}

impl StoredEntries {
    fn replay(self) -> Result<LoadedMetadata, StoreError> {
        let command_count = self.commands.len();
        let mut image = match self.snapshot {
            None => MetadataImage::default(),
            Some((index, bytes)) => MetadataImage::decode(&bytes)
                .map_err(|source| StoreError::Entry { index, source })?,
        };
        for (index, term, bytes) in self.commands {
            let expected = image.last_index() + 1;
            if index != expected {
                return Err(StoreError::Gap { index: expected });
            }
            let command = MetadataCommand::decode(&bytes)
                .map_err(|source| StoreError::Entry { index, source })?;
            image.apply(&command).map_err(|source| StoreError::Apply { index, source })?;
            image.set_last(index, term);
        }
        Ok(LoadedMetadata { image, command_count })
    }
}

impl MetadataStore for RedbStore {
    fn load(&self) -> Result<LoadedMetadata, StoreError> {
        self.run(|| self.read_all())?.replay()
    }

    fn append(
        &mut self,
        first_index: u64,
        term: u64,
        commands: &[MetadataCommand],
    ) -> Result<(), StoreError> {
        let mut entries = Vec::with_capacity(commands.len());
        for (index, command) in (first_index..).zip(commands) {
            let bytes = command.encode().map_err(|source| StoreError::Entry { index, source })?;
            entries.push((index, bytes));
        }
        self.run(|| {
            let write = self.database.begin_write()?;
            {
                let mut table = write.open_table(COMMANDS)?;
                for (index, bytes) in &entries {
                    table.insert(index, (term, bytes.as_slice()))?;
                }
            }
            write.commit()?;
            Ok(())
        })
    }

    fn save_snapshot(&mut self, image: &MetadataImage) -> Result<(), StoreError> {
        let index = image.last_index();
        let bytes = image.encode().map_err(|source| StoreError::Entry { index, source })?;
        self.run(|| {
            let write = self.database.begin_write()?;
            {
                let mut snapshots = write.open_table(SNAPSHOTS)?;
                snapshots.retain_in(..index, |_, _| false)?;
                snapshots.insert(index, (image.last_term(), bytes.as_slice()))?;
                write.open_table(COMMANDS)?.retain_in(..=index, |_, _| false)?;
            }
            write.commit()?;
            Ok(())
        })
    }
}

pub(super) fn database_error(path: &Path, error: redb::Error) -> StoreError {
    StoreError::Database { path: path.to_owned(), source: Box::new(error) }
}

/// A metadata log in memory: for tests and simulated nodes. Clones share the log, so that a test
/// can "restart" a node on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    log: std::sync::Arc<std::sync::Mutex<MemoryLog>>,
}

#[derive(Debug, Default)]
struct MemoryLog {
    snapshot: Option<Vec<u8>>,
    snapshot_index: u64,
    commands: Vec<(u64, u64, Vec<u8>)>,
    is_failing: bool,
}

impl MemoryStore {
    /// From now on every write fails, as on a broken disk.
    pub fn fail(&self) {
        self.lock().is_failing = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MemoryLog> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn writable(&self) -> Result<std::sync::MutexGuard<'_, MemoryLog>, StoreError> {
        let log = self.lock();
        if log.is_failing {
            let error = redb::Error::Io(std::io::Error::other("simulated failure"));
            return Err(database_error(Path::new("memory"), error));
        }
        Ok(log)
    }
}

impl MetadataStore for MemoryStore {
    fn load(&self) -> Result<LoadedMetadata, StoreError> {
        let log = self.lock();
        let snapshot = log.snapshot.clone().map(|bytes| (log.snapshot_index, bytes));
        StoredEntries { snapshot, commands: log.commands.clone() }.replay()
    }

    fn append(
        &mut self,
        first_index: u64,
        term: u64,
        commands: &[MetadataCommand],
    ) -> Result<(), StoreError> {
        let mut log = self.writable()?;
        for (index, command) in (first_index..).zip(commands) {
            let bytes = command.encode().map_err(|source| StoreError::Entry { index, source })?;
            log.commands.push((index, term, bytes));
        }
        Ok(())
    }

    fn save_snapshot(&mut self, image: &MetadataImage) -> Result<(), StoreError> {
        let mut log = self.writable()?;
        let index = image.last_index();
        let bytes = image.encode().map_err(|source| StoreError::Entry { index, source })?;
        log.snapshot = Some(bytes);
        log.snapshot_index = index;
        log.commands.retain(|(at, _, _)| *at > index);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(store: &mut RedbStore, image: &mut MetadataImage, command: MetadataCommand) {
        let index = image.last_index() + 1;
        image.apply(&command).unwrap();
        image.set_last(index, 1);
        store.append(index, 1, &[command]).unwrap();
    }

    fn started(count: i32) -> MetadataCommand {
        MetadataCommand::StartBroker { start_count: count }
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let mut image = MetadataImage::default();
        let mut store = RedbStore::open(&path).unwrap();
        assert_eq!(store.load().unwrap().image, image);
        for count in 1..=5 {
            append(&mut store, &mut image, started(count));
        }
        drop(store);
        assert_eq!(RedbStore::open(&path).unwrap().load().unwrap().image, image);
    }

    #[test]
    fn a_snapshot_replaces_the_commands_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let mut image = MetadataImage::default();
        let mut store = RedbStore::open(&path).unwrap();
        for count in 1..=3 {
            append(&mut store, &mut image, started(count));
        }
        store.save_snapshot(&image).unwrap();
        append(&mut store, &mut image, started(4));
        store.save_snapshot(&image).unwrap();
        append(&mut store, &mut image, started(5));
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        let entries = store.read_all().unwrap();
        assert_eq!(entries.snapshot.as_ref().unwrap().0, 4);
        assert_eq!(entries.commands.len(), 1);
        assert_eq!(store.load().unwrap().image, image);
    }

    #[test]
    fn what_was_appended_is_there_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let mut image = MetadataImage::default();
        let mut store = RedbStore::open(&path).unwrap();
        for count in 1..=3 {
            append(&mut store, &mut image, started(count));
            // A copy of the open file is what a killed process leaves.
            let left = dir.path().join(format!("left-{count}.redb"));
            std::fs::copy(&path, &left).unwrap();
            assert_eq!(RedbStore::open(&left).unwrap().load().unwrap().image, image);
        }
    }

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let store = RedbStore::open(&path).unwrap();
        let write = store.database.begin_write().unwrap();
        write.open_table(FORMAT).unwrap().insert(FORMAT_KEY, FORMAT_VERSION + 1).unwrap();
        write.commit().unwrap();
        drop(store);
        let error = RedbStore::open(&path).err().unwrap();
        assert!(matches!(error, StoreError::FutureVersion { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_missing_or_damaged_entry_is_an_error_and_not_a_shorter_log() {
        let command = started(1).encode().unwrap();
        let gap = StoredEntries { snapshot: None, commands: vec![(2, 1, command.clone())] };
        assert!(matches!(gap.replay(), Err(StoreError::Gap { index: 1 })));
        let mut damaged = command.clone();
        damaged[9] ^= 1;
        let damaged = StoredEntries { snapshot: None, commands: vec![(1, 1, damaged)] };
        assert!(matches!(damaged.replay(), Err(StoreError::Entry { index: 1, .. })));
        let twice = vec![(1, 1, command.clone()), (2, 1, command)];
        let twice = StoredEntries { snapshot: None, commands: twice };
        assert!(matches!(twice.replay(), Err(StoreError::Apply { index: 2, .. })));
    }

    #[test]
    fn a_file_that_is_in_use_is_not_opened_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.redb");
        let _store = RedbStore::open(&path).unwrap();
        let error = RedbStore::open(&path).err().unwrap();
        assert_eq!(error.exit(), Exit::Locked, "{error}");
    }
}
