//! Directory work driven by this core's reactor: no call here blocks the core, except listing and
//! looking whether a name exists.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use io_uring::{opcode, squeue, types};

use super::disk::{OpenOptions, list_blocking};
use super::reactor::{Memory, Reactor};
use super::ring_file::RingFile;
use super::sys;

const CWD: types::Fd = types::Fd(libc::AT_FDCWD);

const FILE_MODE: libc::mode_t = 0o644;
const DIR_MODE: libc::mode_t = 0o755;

pub(super) async fn open(path: &Path, options: OpenOptions) -> io::Result<RingFile> {
    let mut flags = if options.write { libc::O_RDWR } else { libc::O_RDONLY };
    if options.create && options.write {
        flags |= libc::O_CREAT;
    }
    if options.direct {
        match open_raw(path, flags | libc::O_DIRECT).await {
            // The file system cannot bypass its cache.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            opened => return opened.map(|file| RingFile::new(file, true)),
        }
    }
    open_raw(path, flags).await.map(|file| RingFile::new(file, false))
}

async fn open_raw(path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let request = opcode::OpenAt::new(CWD, path.as_ptr())
        .flags(flags | libc::O_CLOEXEC)
        .mode(FILE_MODE)
        .build();
    // SAFETY: the pointer leads to the path's heap memory, which the operation keeps.
    let op = unsafe { Reactor::current().submit(request, Memory::Opened(path), None) };
    op.await.descriptor().map(|(file, _)| file)
}

pub(super) async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let request = opcode::RenameAt::new(CWD, from.as_ptr(), CWD, to.as_ptr()).build();
    // SAFETY: the pointers lead to the paths' heap memory, which the operation keeps.
    unsafe { run(request, Memory::Paths(from, Some(to))) }.await
}

pub(super) async fn remove_file(path: &Path) -> io::Result<()> {
    unlink(path, 0).await
}

/// Removes depth first; what vanishes meanwhile is no error.
pub(super) async fn remove_dir_all(dir: &Path) -> io::Result<()> {
    let mut stack: Vec<(PathBuf, bool)> = vec![(dir.to_path_buf(), false)];
    while let Some((dir, emptied)) = stack.pop() {
        if emptied {
            unlink(&dir, libc::AT_REMOVEDIR).await?;
            continue;
        }
        let entries = list_blocking(&dir)?;
        stack.push((dir.clone(), true));
        for entry in entries {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                stack.push((path, false));
                continue;
            }
            match unlink(&path, 0).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

async fn unlink(path: &Path, flags: i32) -> io::Result<()> {
    let path = c_path(path)?;
    let request = opcode::UnlinkAt::new(CWD, path.as_ptr()).flags(flags).build();
    // SAFETY: the pointer leads to the path's heap memory, which the operation keeps.
    unsafe { run(request, Memory::Paths(path, None)) }.await
}

pub(super) async fn create_dir_all(dir: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = Vec::new();
    for ancestor in dir.ancestors() {
        if ancestor.as_os_str().is_empty() || ancestor.is_dir() {
            break;
        }
        missing.push(ancestor);
    }
    for ancestor in missing.into_iter().rev() {
        let path = c_path(ancestor)?;
        let request = opcode::MkDirAt::new(CWD, path.as_ptr()).mode(DIR_MODE).build();
        // SAFETY: the pointer leads to the path's heap memory, which the operation keeps.
        match unsafe { run(request, Memory::Paths(path, None)) }.await {
            // Somebody else made it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && ancestor.is_dir() => {}
            other => other?,
        }
    }
    Ok(())
}

pub(super) async fn sync_dir(dir: &Path) -> io::Result<()> {
    let file = open_raw(dir, libc::O_RDONLY | libc::O_DIRECTORY).await?;
    RingFile::new(file, false).sync_all().await
}

/// The kernel has no request for it: a thread of its own, for as long as it takes.
pub(super) async fn sync_file_system(dir: &Path) -> io::Result<()> {
    let dir = dir.to_path_buf();
    let (done, result) = flume::bounded(1);
    std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
        // Nobody waits any more if the core has ended.
        let _ = done.send(sys::sync_file_system(&dir));
    })?;
    result.recv_async().await.unwrap_or_else(|_| Err(io::Error::other("the sync was given up")))
}

/// # Safety
/// Every pointer in `request` leads to what `memory` owns on the heap.
async unsafe fn run(request: squeue::Entry, memory: Memory) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let op = unsafe { Reactor::current().submit(request, memory, None) };
    op.await.result().map(|_| ())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path holds a zero byte"))
}
