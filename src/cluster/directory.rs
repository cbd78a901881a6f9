//! The data directories of a broker: whose they are, who uses them, where the metadata is.
//!
//! Each holds `.lock` (held with `flock` while a broker runs, with its process id) and
//! `thalweg.meta`, one fixed structure of 64 bytes: magic, version, CRC, cluster, directory, node.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zerocopy::little_endian::{I32, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::identity::{ClusterId, DirectoryId, RandomBytes, identity_from_random};
use crate::base::crc::crc32c;
use crate::base::ids::BrokerId;
use crate::config::exit::Exit;
use crate::io::sys;

/// Name of the file that says whose a directory is.
pub const META_FILE: &str = "thalweg.meta";
/// Name of the file that is locked while a broker uses a directory.
pub const LOCK_FILE: &str = ".lock";
/// Name of the metadata store, in one of the directories.
pub const METADATA_FILE: &str = "metadata.redb";

/// Names that only a used directory has.
const CONTENT_NAMES: [&str; 4] = ["topics", "journal", "checkpoint", METADATA_FILE];

const MAGIC: [u8; 8] = *b"THALWEG\0";
const VERSION: u32 = 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MetaForm {
    magic: [u8; 8],
    version: U32,
    /// CRC-32C of the structure with zeros here.
    crc: U32,
    cluster_id: [u8; 16],
    directory_id: [u8; 16],
    node_id: I32,
    reserved: [u8; 12],
}

impl MetaForm {
    fn new(cluster: ClusterId, directory: DirectoryId, node: BrokerId) -> MetaForm {
        let mut form = MetaForm {
            magic: MAGIC,
            version: U32::new(VERSION),
            crc: U32::ZERO,
            cluster_id: cluster.bytes(),
            directory_id: directory.bytes(),
            node_id: I32::new(node.0),
            reserved: [0; 12],
        };
        form.crc = U32::new(form.computed_crc());
        form
    }

    fn computed_crc(&self) -> u32 {
        crc32c(MetaForm { crc: U32::ZERO, ..*self }.as_bytes())
    }
}

/// One data directory in use.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    id: DirectoryId,
    /// Open for as long as the directory is ours.
    _lock: fs::File,
}

impl DataDirectory {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> DirectoryId {
        self.id
    }
}

/// All data directories of a broker, locked while this lives.
#[derive(Debug)]
pub struct DataDirectories {
    cluster_id: ClusterId,
    directories: Vec<DataDirectory>,
    metadata_path: PathBuf,
}

/// Why data directories cannot be used. Nothing in them has been changed.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// No directory was given.
    #[error("no data directory is given")]
    None,
    /// Reading or writing failed.
    #[error("data directory {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("data directory {path} is in use by {holder}")]
    Locked {
        /// Which directory.
        path: PathBuf,
        /// `process N`, or that it is not known.
        holder: String,
    },
    /// Two of the paths are one directory.
    #[error("data directory {path} is given twice")]
    Twice {
        /// Which directory.
        path: PathBuf,
    },
    /// Its identity cannot be read.
    #[error("{path} is damaged: {what}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is of a later version of this program.
    #[error("{path} has format version {found}; this build reads up to {VERSION}")]
    FutureVersion {
        /// Which file.
        path: PathBuf,
        /// The version that it names.
        found: u32,
    },
    /// It belongs to another cluster or node.
    #[error("data directory {path} belongs to {owner}, not to {expected}")]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Whose it should be.
        expected: String,
    },
    /// It has content but no identity.
    #[error(
        "data directory {path} has {content:?} but no {META_FILE}; restore it or empty the directory"
    )]
    NoIdentity {
        /// Which directory.
        path: PathBuf,
        /// What is in it.
        content: &'static str,
    },
    /// Topics are there but no metadata.
    #[error(
        "{METADATA_FILE} is in none of the data directories, but they hold topics; is one missing?"
    )]
    NoMetadata,
    /// More than one directory has metadata.
    #[error("both {first} and {second} hold {METADATA_FILE}")]
    TwoMetadata {
        /// One directory.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
}

impl DirectoryError {
    /// Whether another process has the directory, so that waiting may help.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, DirectoryError::Locked { .. })
    }

    /// How the process ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            DirectoryError::None | DirectoryError::Twice { .. } => Exit::Usage,
            DirectoryError::Locked { .. } => Exit::Locked,
            _ => Exit::Directory,
        }
    }
}

impl DataDirectories {
    /// Creates what is missing, locks all, and checks that they belong together and to this node.
    /// New directories get identities; all new, they begin a new cluster.
    ///
    /// # Errors
    /// See [`DirectoryError`]; no directory was given an identity then.
    pub fn open(
        paths: &[PathBuf],
        node: BrokerId,
        random: &mut RandomBytes,
    ) -> Result<DataDirectories, DirectoryError> {
        let mut locked = Vec::new();
        for path in paths {
            let path = create_and_resolve(path)?;
            if locked.iter().any(|(other, _)| *other == path) {
                return Err(DirectoryError::Twice { path });
            }
            let lock = lock(&path)?;
            locked.push((path, lock));
        }
        let metas =
            locked.iter().map(|(path, _)| read_meta(path)).collect::<Result<Vec<_>, _>>()?;
        let known = metas.iter().flatten().next();
        let cluster_id = known.map_or_else(
            || ClusterId::from_bytes(identity_from_random(random())),
            |meta| ClusterId::from_bytes(meta.cluster_id),
        );
        for ((path, _), meta) in locked.iter().zip(&metas) {
            match meta {
                Some(meta) => check_owner(path, meta, cluster_id, node)?,
                None => check_unused(path)?,
            }
        }
        let metadata_path = find_metadata(&locked)?;
        let mut directories = Vec::with_capacity(locked.len());
        for ((path, lock), meta) in locked.into_iter().zip(metas) {
            let id = match meta {
                Some(meta) => DirectoryId::from_bytes(meta.directory_id),
                None => {
                    let id = DirectoryId::from_bytes(identity_from_random(random()));
                    write_meta(&path, &MetaForm::new(cluster_id, id, node))?;
                    id
                }
            };
            directories.push(DataDirectory { path, id, _lock: lock });
        }
        Ok(DataDirectories { cluster_id, directories, metadata_path })
    }

    /// The cluster's identity.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The directories, in the order in which they were given.
    #[must_use]
    pub fn directories(&self) -> &[DataDirectory] {
        &self.directories
    }

    /// Their identities, in the same order.
    #[must_use]
    pub fn ids(&self) -> Vec<DirectoryId> {
        self.directories.iter().map(DataDirectory::id).collect()
    }

    /// Where the metadata store is, or shall be: the directory that has it, else the first one.
    #[must_use]
    pub fn metadata_path(&self) -> &Path {
        &self.metadata_path
    }

    /// The directory with that identity.
    #[must_use]
    pub fn by_id(&self, id: DirectoryId) -> Option<&DataDirectory> {
        self.directories.iter().find(|directory| directory.id == id)
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Io { path: path.to_owned(), source }
}

fn create_and_resolve(path: &Path) -> Result<PathBuf, DirectoryError> {
    fs::create_dir_all(path).map_err(io_error(path))?;
    fs::canonicalize(path).map_err(io_error(path))
}

fn lock(dir: &Path) -> Result<fs::File, DirectoryError> {
    let path = dir.join(LOCK_FILE);
    let mut options = fs::OpenOptions::new();
    // Not truncated: until the lock is ours, the content is its holder's.
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(io_error(&path))?;
    if !sys::try_lock(&file).map_err(io_error(&path))? {
        let mut text = String::new();
        let is_known = file.read_to_string(&mut text).is_ok() && text.trim().parse::<u32>().is_ok();
        let holder =
            if is_known { format!("process {}", text.trim()) } else { "another process".into() };
        return Err(DirectoryError::Locked { path: dir.to_owned(), holder });
    }
    let write_pid = |file: &mut fs::File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(io_error(&path))?;
    Ok(file)
}

fn read_meta(dir: &Path) -> Result<Option<MetaForm>, DirectoryError> {
    let path = dir.join(META_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&path)(error)),
    };
    parse_meta(&bytes, path).map(Some)
}

fn parse_meta(bytes: &[u8], path: PathBuf) -> Result<MetaForm, DirectoryError> {
    // A later version may be longer; its magic and version are where ours are.
    let Ok((form, rest)) = MetaForm::read_from_prefix(bytes) else {
        return Err(DirectoryError::Corrupt { path, what: "it is too short" });
    };
    if form.magic != MAGIC {
        return Err(DirectoryError::Corrupt { path, what: "it does not begin with the magic" });
    }
    if form.version.get() > VERSION {
        return Err(DirectoryError::FutureVersion { path, found: form.version.get() });
    }
    if !rest.is_empty() || form.version.get() != VERSION {
        return Err(DirectoryError::Corrupt { path, what: "length or version is wrong" });
    }
    if form.crc.get() != form.computed_crc() {
        return Err(DirectoryError::Corrupt { path, what: "its checksum does not match" });
    }
    Ok(form)
}

/// Whose a directory is, by its `thalweg.meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The directory itself.
    pub directory_id: DirectoryId,
    /// The node.
    pub node_id: BrokerId,
}

/// Reads whose a directory is, without a lock; `None` if it was never used.
///
/// # Errors
/// Unreadable, damaged, or of a later version.
pub fn read_identity(dir: &Path) -> Result<Option<Identity>, DirectoryError> {
    let identity = |meta: MetaForm| Identity {
        cluster_id: ClusterId::from_bytes(meta.cluster_id),
        directory_id: DirectoryId::from_bytes(meta.directory_id),
        node_id: BrokerId(meta.node_id.get()),
    };
    Ok(read_meta(dir)?.map(identity))
}

fn check_owner(
    path: &Path,
    meta: &MetaForm,
    cluster: ClusterId,
    node: BrokerId,
) -> Result<(), DirectoryError> {
    let owner = (ClusterId::from_bytes(meta.cluster_id), meta.node_id.get());
    let expected = (cluster, node.0);
    if owner == expected {
        return Ok(());
    }
    let name = |(cluster, node): (ClusterId, i32)| format!("node {node} of cluster {cluster}");
    Err(DirectoryError::Foreign {
        path: path.to_owned(),
        owner: name(owner),
        expected: name(expected),
    })
}

fn check_unused(path: &Path) -> Result<(), DirectoryError> {
    for content in CONTENT_NAMES {
        if path.join(content).try_exists().map_err(io_error(path))? {
            return Err(DirectoryError::NoIdentity { path: path.to_owned(), content });
        }
    }
    Ok(())
}

fn find_metadata(locked: &[(PathBuf, fs::File)]) -> Result<PathBuf, DirectoryError> {
    let (first, _) = locked.first().ok_or(DirectoryError::None)?;
    let mut holder: Option<&Path> = None;
    let mut holds_topics = false;
    for (path, _) in locked {
        if path.join(METADATA_FILE).try_exists().map_err(io_error(path))? {
            if let Some(first) = holder {
                let (first, second) = (first.to_owned(), path.clone());
                return Err(DirectoryError::TwoMetadata { first, second });
            }
            holder = Some(path);
        }
        // An empty `topics` says nothing: the first start may have ended before its first topic.
        let topics = path.join("topics");
        holds_topics |= fs::read_dir(topics).is_ok_and(|mut entries| entries.next().is_some());
    }
    match holder {
        Some(holder) => Ok(holder.join(METADATA_FILE)),
        None if holds_topics => Err(DirectoryError::NoMetadata),
        None => Ok(first.join(METADATA_FILE)),
    }
}

/// After a crash the file is there whole or not at all.
fn write_meta(dir: &Path, form: &MetaForm) -> Result<(), DirectoryError> {
    let write = || {
        let temporary = dir.join(format!("{META_FILE}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(form.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(META_FILE))?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(io_error(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> RandomBytes {
        let mut next = 0_u8;
        Box::new(move || {
            next += 1;
            [next; 16]
        })
    }

    fn open(paths: &[&Path]) -> Result<DataDirectories, DirectoryError> {
        open_as(paths, 1)
    }

    fn open_as(paths: &[&Path], node: i32) -> Result<DataDirectories, DirectoryError> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        DataDirectories::open(&paths, BrokerId(node), &mut random())
    }

    #[test]
    fn a_first_start_makes_identities_that_later_starts_find() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("deep/a"), root.path().join("b"));
        let first = open(&[&a, &b]).unwrap();
        let (cluster, ids) = (first.cluster_id(), first.ids());
        assert_ne!(ids[0], ids[1]);
        assert!(first.metadata_path().starts_with(fs::canonicalize(&a).unwrap()));
        drop(first);
        let second = open(&[&b, &a]).unwrap();
        assert_eq!(second.cluster_id(), cluster);
        assert_eq!(second.ids(), [ids[1], ids[0]]);
        assert_eq!(cluster.to_string().len(), 22);
    }

    #[test]
    fn a_directory_is_used_by_one_broker_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let held = open(&[root.path()]).unwrap();
        let error = open(&[root.path()]).unwrap_err();
        assert_eq!(error.exit(), Exit::Locked);
        let text = error.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(held);
        open(&[root.path()]).unwrap();
        let error = open(&[root.path(), &root.path().join(".")]).unwrap_err();
        assert!(matches!(error, DirectoryError::Twice { .. }));
    }

    #[test]
    fn directories_of_another_cluster_or_node_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        drop(open(&[&a]).unwrap());
        // The same "random" numbers: b's cluster differs by its position in their sequence.
        let mut later = random();
        later();
        drop(DataDirectories::open(std::slice::from_ref(&b), BrokerId(1), &mut later).unwrap());
        assert!(matches!(open(&[&a, &b]), Err(DirectoryError::Foreign { .. })));
        assert!(matches!(open_as(&[&a], 2), Err(DirectoryError::Foreign { .. })));
        open(&[&a]).unwrap();
    }

    #[test]
    fn a_new_directory_joins_the_cluster_of_the_others() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        let cluster = open(&[&a]).unwrap().cluster_id();
        fs::write(a.join(METADATA_FILE), b"x").unwrap();
        let both = open(&[&b, &a]).unwrap();
        assert_eq!(both.cluster_id(), cluster);
        assert!(both.metadata_path().starts_with(fs::canonicalize(&a).unwrap()));
        drop(both);
        fs::write(b.join(METADATA_FILE), b"x").unwrap();
        assert!(matches!(open(&[&a, &b]), Err(DirectoryError::TwoMetadata { .. })));
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let form = MetaForm::new(
            ClusterId::from_bytes([1; 16]),
            DirectoryId::from_bytes([2; 16]),
            BrokerId(1),
        );
        let bytes = form.as_bytes();
        assert_eq!(bytes.len(), 64);
        assert!(parse_meta(bytes, PathBuf::new()).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_meta(&flipped, PathBuf::new()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            let short = parse_meta(&bytes[..len], PathBuf::new());
            assert!(matches!(short, Err(DirectoryError::Corrupt { .. })));
        }
        let later = MetaForm { version: U32::new(2), ..form };
        let mut longer = later.as_bytes().to_vec();
        longer.extend([0; 64]);
        let error = parse_meta(&longer, PathBuf::from("m")).err().unwrap();
        assert_eq!(error.to_string(), "m has format version 2; this build reads up to 1");
    }

    #[test]
    fn content_without_identity_or_metadata_is_never_taken_for_new() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("journal")).unwrap();
        assert!(matches!(open(&[root.path()]), Err(DirectoryError::NoIdentity { .. })));
        assert!(!root.path().join(META_FILE).exists());
        fs::remove_dir(root.path().join("journal")).unwrap();
        drop(open(&[root.path()]).unwrap());
        fs::create_dir_all(root.path().join("topics/abc")).unwrap();
        assert!(matches!(open(&[root.path()]), Err(DirectoryError::NoMetadata)));
    }

    #[test]
    fn a_path_that_is_no_directory_is_named_in_the_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = open(&[&file]).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert!(matches!(open(&[]), Err(DirectoryError::None)));
    }
}
