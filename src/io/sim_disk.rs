//! A disk in memory that can lose power, lie and fail, all from one seed. Every call resolves at
//! once, so that storage code runs under a plain `block_on`.
//!
//! What it promises is POSIX and no more: a name is durable only after its directory was synced,
//! content only after the file was; what is not durable may survive a crash in any combination.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::disk::{DirEntry, DiskRoom, OpenOptions};
use super::sim_fault::{Faults, SimFault, SimOp};
use super::sim_file::SimFile;
use super::sim_node::Node;

/// A simulated disk. Share it as [`super::disk::Disk::Sim`].
#[derive(Default)]
pub struct SimDisk {
    names: RefCell<Names>,
    pub(super) faults: RefCell<Faults>,
    yields: Cell<bool>,
    /// Bytes that all files together may have; `None`: any number.
    capacity: Cell<Option<u64>>,
}

/// The size of a simulated disk without a capacity.
const BOUNDLESS_BYTES: u64 = 1 << 50;

pub(super) type NodeRef = Rc<RefCell<Node>>;

#[derive(Clone)]
enum Entry {
    Dir,
    File(NodeRef),
}

type Tree = BTreeMap<PathBuf, Entry>;

/// A change of the tree that no sync has covered yet.
#[derive(Clone)]
enum Change {
    Make(PathBuf, Entry),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Default)]
struct Names {
    live: Tree,
    durable: Tree,
    /// In the order in which they happened.
    pending: Vec<Change>,
}

impl SimDisk {
    /// An empty disk that works.
    #[must_use]
    pub fn new() -> Rc<SimDisk> {
        Rc::new(SimDisk::default())
    }

    /// The `after`-th operation of kind `op` from now on (0: the next) meets `fault`; with
    /// `lasting`, so do all after it.
    pub fn plan_fault(&self, op: SimOp, after: u64, lasting: bool, fault: SimFault) {
        self.faults.borrow_mut().plan(op, after, lasting, fault);
    }

    /// From now on every call waits for one more poll, before and after its work, so that a test's
    /// scheduler can let other tasks run in between.
    pub fn yield_at_every_call(&self) {
        self.yields.set(true);
    }

    /// Bounds the bytes that all files together may have, or no longer does.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.capacity.set(bytes);
    }

    /// Bytes that the disk has, and that are free.
    #[must_use]
    pub fn room(&self) -> DiskRoom {
        let Some(total_bytes) = self.capacity.get() else {
            return DiskRoom { total_bytes: BOUNDLESS_BYTES, free_bytes: BOUNDLESS_BYTES };
        };
        let names = self.names.borrow();
        let files = names.live.values().filter_map(|entry| match entry {
            Entry::File(node) => Some(disk_bytes(node.try_borrow().ok()?.len())),
            Entry::Dir => None,
        });
        DiskRoom { total_bytes, free_bytes: total_bytes.saturating_sub(files.sum()) }
    }

    /// The length that a file of `len` bytes may grow to, if it is to have `wanted`.
    pub(super) fn allowed_len(&self, len: u64, wanted: u64) -> u64 {
        if self.capacity.get().is_none() || disk_bytes(wanted) <= disk_bytes(len) {
            return wanted;
        }
        wanted.min(disk_bytes(len) + self.room().free_bytes / BLOCK_BYTES * BLOCK_BYTES)
    }

    /// Does `work`, at the pace that was asked for.
    pub(super) async fn paced<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.yields.get() {
            return work();
        }
        futures_lite::future::yield_now().await;
        let result = work();
        futures_lite::future::yield_now().await;
        result
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.faults.borrow_mut().clear();
    }

    /// The kinds of the operations that met a fault, in order.
    #[must_use]
    pub fn faults_met(&self) -> Vec<SimOp> {
        self.faults.borrow().met().to_vec()
    }

    /// Operations of kind `op` since the disk was made, failed ones included.
    #[must_use]
    pub fn op_count(&self, op: SimOp) -> u64 {
        self.faults.borrow().count(op)
    }

    /// Flips bit `bit` (0 to 7) of the byte at `pos` of a file, for good.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `InvalidInput` behind its end.
    pub fn flip_bit(&self, path: &Path, pos: u64, bit: u8) -> io::Result<()> {
        let node = self.names.borrow().file(path)?;
        let mut node = node.borrow_mut();
        if pos >= node.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        node.flip_bit(pos, bit);
        Ok(())
    }

    /// What a power cut at this moment leaves: synced sectors and names, and of the others a part
    /// that `seed` chooses (for some seeds all, for some none). This disk stays as it is, so that
    /// many crashes of one moment can be tried. A killed process is simpler: it keeps the disk.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Rc<SimDisk> {
        let mut random = Random::new(seed);
        // Of 256: never, rarely, evenly, mostly, always.
        let odds = [0, 16, 128, 240, 256][(random.next() % 5) as usize];
        self.after(|| random.next() % 256 < odds)
    }

    /// The same disk once more, all of it durable.
    #[must_use]
    pub fn copy(&self) -> Rc<SimDisk> {
        self.after(|| true)
    }

    /// What is left if of all that is not durable only what `keep` says is.
    fn after(&self, mut keep: impl FnMut() -> bool) -> Rc<SimDisk> {
        let names = self.names.borrow();
        let mut tree = names.durable.clone();
        for change in &names.pending {
            if keep() {
                change.apply(&mut tree);
            }
        }
        // Two names of one file stay two names of one file.
        let mut copies: HashMap<*const RefCell<Node>, NodeRef> = HashMap::new();
        let mut after = Tree::new();
        for (path, entry) in &tree {
            if !parent_exists(&after, path) {
                continue;
            }
            let entry = match entry {
                Entry::Dir => Entry::Dir,
                Entry::File(node) => {
                    let copy = copies
                        .entry(Rc::as_ptr(node))
                        .or_insert_with(|| Rc::new(RefCell::new(node.borrow().crashed(&mut keep))));
                    Entry::File(copy.clone())
                }
            };
            after.insert(path.clone(), entry);
        }
        let names = Names { live: after.clone(), durable: after, pending: Vec::new() };
        let capacity = self.capacity.clone();
        Rc::new(SimDisk { names: RefCell::new(names), capacity, ..SimDisk::default() })
    }

    pub(super) fn open(self: &Rc<Self>, path: &Path, options: OpenOptions) -> io::Result<SimFile> {
        self.strike(SimOp::Open)?;
        let is_full = self.room().free_bytes < BLOCK_BYTES;
        let mut names = self.names.borrow_mut();
        let node = match names.live.get(path) {
            Some(Entry::File(node)) => node.clone(),
            Some(Entry::Dir) => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None if options.create && options.write => {
                names.check_parent(path)?;
                if is_full {
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                let node = NodeRef::default();
                names.change(Change::Make(path.to_path_buf(), Entry::File(node.clone())));
                node
            }
            None => return Err(not_found()),
        };
        Ok(SimFile::new(self.clone(), node, options))
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.strike(SimOp::Name)?;
        let names = self.names.borrow();
        names.check_dir(dir)?;
        let children = names.live.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(children
            .filter_map(|(path, entry)| {
                let name = path.file_name()?.to_string_lossy().into_owned();
                Some(match entry {
                    Entry::Dir => DirEntry { name, is_dir: true, len: 0 },
                    Entry::File(node) => DirEntry { name, is_dir: false, len: node.borrow().len() },
                })
            })
            .collect())
    }

    pub(super) fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.strike(SimOp::Name)?;
        let mut names = self.names.borrow_mut();
        let mut missing: Vec<&Path> = dir.ancestors().filter(|it| !is_root(it)).collect();
        missing.reverse();
        for ancestor in missing {
            match names.live.get(ancestor) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => {
                    return Err(io::Error::from(io::ErrorKind::NotADirectory));
                }
                None => names.change(Change::Make(ancestor.to_path_buf(), Entry::Dir)),
            }
        }
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.strike(SimOp::Name)?;
        let mut names = self.names.borrow_mut();
        if !names.live.contains_key(from) {
            return Err(not_found());
        }
        names.check_parent(to)?;
        match (&names.live[from], names.live.get(to)) {
            (Entry::File(_), Some(Entry::Dir)) => {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            (Entry::Dir, Some(Entry::File(_))) => {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            (Entry::Dir, Some(Entry::Dir)) if names.has_children(to) => {
                return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
            }
            _ => {}
        }
        names.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.strike(SimOp::Name)?;
        let mut names = self.names.borrow_mut();
        names.file(path)?;
        names.change(Change::Remove(path.to_path_buf()));
        Ok(())
    }

    pub(super) fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.strike(SimOp::Name)?;
        let mut names = self.names.borrow_mut();
        names.check_dir(dir)?;
        let mut below: Vec<PathBuf> =
            names.live.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        // Children before their directories.
        below.reverse();
        for path in below {
            names.change(Change::Remove(path));
        }
        Ok(())
    }

    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.strike(SimOp::Name)?;
        let mut names = self.names.borrow_mut();
        names.check_dir(dir)?;
        let names = &mut *names;
        let durable = &mut names.durable;
        names.pending.retain(|change| {
            let covered = change.touches(dir);
            if covered {
                change.apply(durable);
            }
            !covered
        });
        Ok(())
    }

    /// A fault loses what was not synced of every file, as that of a file's sync does of the file.
    pub(super) fn sync_all(&self, dir: &Path) -> io::Result<()> {
        let struck = self.strike(SimOp::Sync);
        let mut names = self.names.borrow_mut();
        names.check_dir(dir)?;
        let names = &mut *names;
        if struck.is_ok() {
            let durable = &mut names.durable;
            names.pending.drain(..).for_each(|change| change.apply(durable));
        }
        for entry in names.live.values() {
            if let Entry::File(node) = entry {
                let mut node = node.borrow_mut();
                if struck.is_ok() { node.sync() } else { node.forget_dirty() }
            }
        }
        struck
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        is_root(path) || self.names.borrow().live.contains_key(path)
    }

    fn strike(&self, op: SimOp) -> io::Result<()> {
        match self.faults.borrow_mut().strike(op) {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }
}

impl Names {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<NodeRef> {
        match self.live.get(path) {
            Some(Entry::File(node)) => Ok(node.clone()),
            Some(Entry::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(not_found()),
        }
    }

    fn check_dir(&self, dir: &Path) -> io::Result<()> {
        match self.live.get(dir) {
            _ if is_root(dir) => Ok(()),
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => Err(not_found()),
        }
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.check_dir(parent))
    }

    fn has_children(&self, dir: &Path) -> bool {
        self.live.keys().any(|path| path.parent() == Some(dir))
    }
}

impl Change {
    /// Applies the change, if what it needs is there: after a crash, earlier changes may be gone.
    fn apply(&self, tree: &mut Tree) {
        match self {
            Change::Make(path, entry) => {
                if parent_exists(tree, path) {
                    tree.insert(path.clone(), entry.clone());
                }
            }
            Change::Rename(from, to) => {
                if !tree.contains_key(from) || !parent_exists(tree, to) {
                    return;
                }
                let moved: Vec<PathBuf> =
                    tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    if let (Some(entry), Ok(rest)) = (tree.remove(&path), path.strip_prefix(from)) {
                        let target =
                            if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                        tree.insert(target, entry);
                    }
                }
            }
            Change::Remove(path) => {
                if !tree.keys().any(|other| other.parent() == Some(path)) {
                    tree.remove(path);
                }
            }
        }
    }

    /// Whether a sync of `dir` covers it.
    fn touches(&self, dir: &Path) -> bool {
        let within = |path: &Path| match path.parent() {
            Some(parent) => parent == dir || is_root(parent) && is_root(dir),
            None => false,
        };
        match self {
            Change::Make(path, _) | Change::Remove(path) => within(path),
            Change::Rename(from, to) => within(from) || within(to),
        }
    }
}

/// What a disk is allocated in.
const BLOCK_BYTES: u64 = 4096;

/// Bytes of a disk that a file of `len` bytes takes.
fn disk_bytes(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_BYTES)
}

fn parent_exists(tree: &Tree, path: &Path) -> bool {
    path.parent()
        .is_none_or(|parent| is_root(parent) || matches!(tree.get(parent), Some(Entry::Dir)))
}

/// The root, or where a relative path begins.
fn is_root(path: &Path) -> bool {
    path.parent().is_none() || path == Path::new(".")
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

/// SplitMix64: small, and good enough to choose sectors.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
