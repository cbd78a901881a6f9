//! A disk: where files are opened, listed, renamed and removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{BlockingFile, File};
use super::ring_disk;

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

/// A disk. Cheap to clone.
#[derive(Clone)]
pub enum Disk {
    /// Plain blocking calls: before the shards run (recovery), in tools and in tests.
    Blocking,
    /// Through this core's reactor; listing and looking for a name still block.
    Ring,
}

impl Disk {
    /// Opens a file.
    pub async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        match self {
            Disk::Blocking => BlockingFile::open(path, options).map(File::Blocking),
            Disk::Ring => ring_disk::open(path, options).await.map(File::Ring),
        }
    }

    /// Names in `dir`, sorted; an error if it does not exist.
    pub async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        match self {
            Disk::Blocking | Disk::Ring => list_blocking(dir),
        }
    }

    /// Creates `dir` and its parents.
    pub async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::create_dir_all(dir),
            Disk::Ring => ring_disk::create_dir_all(dir).await,
        }
    }

    /// Renames; durable only after [`Disk::sync_dir`] of the parent.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::rename(from, to),
            Disk::Ring => ring_disk::rename(from, to).await,
        }
    }

    /// Removes one file.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::remove_file(path),
            Disk::Ring => ring_disk::remove_file(path).await,
        }
    }

    /// Removes a directory and all below it.
    pub async fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::remove_dir_all(dir),
            Disk::Ring => ring_disk::remove_dir_all(dir).await,
        }
    }

    /// Makes creations, renames and removals in `dir` durable.
    pub async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self {
            Disk::Blocking => fs::File::open(dir)?.sync_all(),
            Disk::Ring => ring_disk::sync_dir(dir).await,
        }
    }

    /// Whether `path` exists.
    pub async fn exists(&self, path: &Path) -> io::Result<bool> {
        match self {
            Disk::Blocking | Disk::Ring => path.try_exists(),
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
        self.sync_dir(path.parent().unwrap_or(Path::new("."))).await
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
