//! A disk: where files are opened, listed, renamed and removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::buf::IoBuf;
use super::file::{BlockingFile, File};
use super::ring_disk;
use super::sim_disk::SimDisk;
use super::sys;
use crate::base::limits::BLOCK_ALIGN;

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Allow writes.
    pub write: bool,
    /// Create the file if it is missing.
    pub create: bool,
    /// Bypass the page cache: buffers, positions and lengths must be multiples of
    /// [`crate::base::limits::BLOCK_ALIGN`]. On a disk whose file system cannot, the flag is
    /// dropped (the broker warns once at start).
    pub direct: bool,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// File length in bytes; 0 for a directory.
    pub len: u64,
}

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes that it has.
    pub total_bytes: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
}

/// Whether a write found no room: of the file system, or under a quota. A sync that fails for want
/// of room is never one of these: what it was to make durable is lost.
#[must_use]
pub fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// The error of a failed sync, which must not be taken for a write that may be done again.
pub(super) fn of_sync(error: io::Error) -> io::Error {
    match is_out_of_room(&error) {
        true => io::Error::other(format!("a sync failed: {error}")),
        false => error,
    }
}

/// A disk. Cheap to clone; not to be sent to another thread.
#[derive(Clone)]
pub enum Disk {
    /// Plain blocking calls: before the shards run (recovery), in tools and in tests.
    Blocking,
    /// Through this core's reactor; listing and looking for a name still block.
    Ring,
    /// In memory, with power cuts and faults.
    Sim(Rc<SimDisk>),
}

impl Disk {
    /// Opens a file.
    pub async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        match self {
            Disk::Blocking => BlockingFile::open(path, options).map(File::Blocking),
            Disk::Ring => ring_disk::open(path, options).await.map(File::Ring),
            Disk::Sim(disk) => disk.paced(|| disk.open(path, options)).await.map(File::Sim),
        }
    }

    /// Names in `dir`, sorted; an error if it does not exist.
    pub async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        match self {
            Disk::Blocking | Disk::Ring => list_blocking(dir),
            Disk::Sim(disk) => disk.paced(|| disk.list(dir)).await,
        }
    }

    /// Creates `dir` and its parents.
    pub async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::create_dir_all(dir),
            Disk::Ring => ring_disk::create_dir_all(dir).await,
            Disk::Sim(disk) => disk.paced(|| disk.create_dir_all(dir)).await,
        }
    }

    /// Renames; durable only after [`Disk::sync_dir`] of the parent.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::rename(from, to),
            Disk::Ring => ring_disk::rename(from, to).await,
            Disk::Sim(disk) => disk.paced(|| disk.rename(from, to)).await,
        }
    }

    /// Removes one file.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::remove_file(path),
            Disk::Ring => ring_disk::remove_file(path).await,
            Disk::Sim(disk) => disk.paced(|| disk.remove_file(path)).await,
        }
    }

    /// Removes a directory and all below it.
    pub async fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::remove_dir_all(dir),
            Disk::Ring => ring_disk::remove_dir_all(dir).await,
            Disk::Sim(disk) => disk.paced(|| disk.remove_dir_all(dir)).await,
        }
    }

    /// Makes creations, renames and removals in `dir` durable.
    pub async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let synced = match self {
            Disk::Blocking => fs::File::open(dir)?.sync_all(),
            Disk::Ring => ring_disk::sync_dir(dir).await,
            Disk::Sim(disk) => disk.paced(|| disk.sync_dir(dir)).await,
        };
        synced.map_err(of_sync)
    }

    /// Makes durable whatever was written, and every name, in the file system that `dir` is in: one
    /// commit of its journal where a sync of each of many files would ask for one each. Syncs what
    /// others wrote there, too. A file system may leave the device's cache alone when it finds
    /// nothing to do: sync one of the files behind it, which asks the device in any case.
    pub async fn sync_all(&self, dir: &Path) -> io::Result<()> {
        let synced = match self {
            Disk::Blocking => sys::sync_file_system(dir),
            Disk::Ring => ring_disk::sync_file_system(dir).await,
            Disk::Sim(disk) => disk.paced(|| disk.sync_all(dir)).await,
        };
        synced.map_err(of_sync)
    }

    /// The room of the file system that `dir` is in. A system call that no disk is asked for; not
    /// for the data path all the same. An error also where the file system does not count.
    pub fn room(&self, dir: &Path) -> io::Result<DiskRoom> {
        match self {
            Disk::Blocking | Disk::Ring => sys::file_system_room(dir),
            Disk::Sim(disk) => Ok(disk.room()),
        }
    }

    /// Leaves the disk alone for a while. Simulated time does not pass by it.
    pub async fn rest(&self, time: Duration) {
        match self {
            Disk::Blocking => std::thread::sleep(time),
            Disk::Ring => glommio::timer::sleep(time).await,
            Disk::Sim(disk) => disk.paced(|| ()).await,
        }
    }

    /// Whether `path` exists.
    pub async fn exists(&self, path: &Path) -> io::Result<bool> {
        match self {
            Disk::Blocking | Disk::Ring => path.try_exists(),
            Disk::Sim(disk) => Ok(disk.exists(path)),
        }
    }

    /// Writes a small file so that after a crash either the old or the new content is there:
    /// temporary file, sync, rename, sync of the directory.
    pub async fn replace_file(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut tmp = PathBuf::from(path);
        tmp.set_extension("tmp");
        let options = OpenOptions { write: true, create: true, direct: false };
        let file = self.open(&tmp, options).await?;
        file.truncate(0).await?;
        file.write_at(bytes::Bytes::copy_from_slice(content), 0, false).await?;
        file.datasync().await?;
        self.rename(&tmp, path).await?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.sync_dir(parent.unwrap_or(Path::new("."))).await
    }
}

/// Names in `dir`, sorted.
pub(super) fn list_blocking(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: meta.is_dir(),
            len: if meta.is_dir() { 0 } else { meta.len() },
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Whether files in `dir` can bypass the page cache: writes one aligned block and reads it back.
/// Blocking; meant for the start of the process.
///
/// # Errors
/// What else goes wrong, for instance that `dir` is missing or read-only.
pub fn supports_direct(dir: &Path) -> io::Result<bool> {
    let path = dir.join(format!(".direct-io-probe.{}", std::process::id()));
    let result = probe_direct(&path);
    match (result, fs::remove_file(&path)) {
        (Ok(_), Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        (result, _) => result,
    }
}

fn probe_direct(path: &Path) -> io::Result<bool> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
    let refused =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
    let file = match options.open(path) {
        Err(error) if refused(&error) => return Ok(false),
        other => other?,
    };
    let mut block = IoBuf::alloc(BLOCK_ALIGN);
    block.fill(0xA5);
    let round_trip = file.write_all_at(&block, 0).and_then(|()| {
        file.sync_all()?;
        block.fill(0);
        file.read_exact_at(&mut block, 0)
    });
    match round_trip {
        Err(error) if refused(&error) => return Ok(false),
        other => other?,
    }
    if block.iter().all(|byte| *byte == 0xA5) {
        Ok(true)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the disk returned another block"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_has_room_and_a_missing_directory_has_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let room = Disk::Blocking.room(dir.path()).expect("room");
        assert!(room.total_bytes > 0 && room.free_bytes <= room.total_bytes, "{room:?}");
        assert!(Disk::Blocking.room(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_sync_without_room_is_no_write_that_may_be_done_again() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(is_out_of_room(&full));
        assert!(is_out_of_room(&io::Error::from_raw_os_error(libc::EDQUOT)));
        assert!(!is_out_of_room(&of_sync(full)));
        let broken = of_sync(io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(broken.raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn the_probe_for_direct_io_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        supports_direct(dir.path()).expect("an answer");
        assert!(list_blocking(dir.path()).expect("listed").is_empty());
        assert!(supports_direct(&dir.path().join("missing")).is_err());
    }
}
