//! System calls of the start: locks, limits, CPUs, and what the kernel and a file system can do.
//! Thin wrappers; what their answers mean is decided in `cluster::preflight` and
//! `cluster::directory`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::buf::IoBuf;
use super::disk::DiskRoom;
use crate::base::limits::BLOCK_ALIGN;

/// A resource limit; `u64::MAX` is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// What holds now.
    pub soft: u64,
    /// To what the process may raise it.
    pub hard: u64,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory that may be locked (`RLIMIT_MEMLOCK`).
    LockedMemory,
    /// Open descriptors (`RLIMIT_NOFILE`).
    OpenFiles,
}

impl Resource {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
        }
    }

    /// Reads the limit.
    ///
    /// # Errors
    /// The system call failed.
    pub fn limit(self) -> io::Result<ResourceLimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a local that lives through the call.
        let result = unsafe { libc::getrlimit(self.number(), &raw mut limit) };
        check(result)?;
        Ok(ResourceLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
    }

    /// Raises the soft limit to the hard one, and returns what holds then.
    ///
    /// # Errors
    /// The system call failed.
    pub fn raise(self) -> io::Result<ResourceLimit> {
        let before = self.limit()?;
        if before.soft == before.hard {
            return Ok(before);
        }
        let wanted = libc::rlimit { rlim_cur: before.hard, rlim_max: before.hard };
        // SAFETY: the pointer is to a local that lives through the call.
        let result = unsafe { libc::setrlimit(self.number(), &raw const wanted) };
        check(result)?;
        self.limit()
    }
}

/// Makes all of the file system that `dir` is in durable.
pub(super) fn sync_file_system(dir: &Path) -> io::Result<()> {
    let dir = fs::File::open(dir)?;
    // SAFETY: a system call on a descriptor that is open.
    check(unsafe { libc::syncfs(dir.as_raw_fd()) })
}

/// The room of the file system that `path` is in, for a process without privileges.
pub(super) fn file_system_room(path: &Path) -> io::Result<DiskRoom> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain numbers, for which all zeros is a value.
    let mut found: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: both pointers are to locals that live through the call; the path ends with a zero.
    let result = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    check(result)?;
    if found.f_blocks == 0 {
        // It does not count (ramfs, some of FUSE's).
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    let total_bytes = found.f_blocks.saturating_mul(found.f_frsize);
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    Ok(DiskRoom { total_bytes, free_bytes })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPU ids that this process may run on, rising.
///
/// # Errors
/// The system call failed.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a plain bit array, for which all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer and size describe the local set; pid 0 is this thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    check(result)?;
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: every index is below CPU_SETSIZE, the bits that the set has.
    Ok((0..limit).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Whether memory locks are not counted for this process: it is root in its user namespace or has
/// `CAP_IPC_LOCK`.
///
/// # Errors
/// `/proc/self/status` cannot be read.
pub fn may_lock_any_memory() -> io::Result<bool> {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    Ok(bits.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1))
}

/// Takes an exclusive lock for as long as `file` is open; false if another process has it. The
/// kernel drops it with the process, however that ends.
///
/// # Errors
/// The system call failed.
pub fn try_lock(file: &fs::File) -> io::Result<bool> {
    // SAFETY: plain system call on an open descriptor.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match check(result) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sets up a small io_uring with the flags that the broker uses, and closes it again.
///
/// # Errors
/// What the kernel says: `EPERM` where `kernel.io_uring_disabled` or a seccomp filter forbids it,
/// `ENOSYS` where it is missing, `EINVAL` where it is too old for the flags.
pub fn probe_io_uring() -> io::Result<()> {
    io_uring::IoUring::<io_uring::squeue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(8)
        .map(drop)
}

/// Whether files in `dir` can be written and read past the page cache; writes and removes a probe
/// file of one block.
///
/// # Errors
/// The directory cannot be written at all.
pub fn probe_direct_io(dir: &Path) -> io::Result<bool> {
    let path = dir.join(format!(".probe.{}", std::process::id()));
    let result = write_and_read_block(&path);
    let removed = fs::remove_file(&path);
    let is_direct = result?;
    removed?;
    Ok(is_direct)
}

fn write_and_read_block(path: &Path) -> io::Result<bool> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    // Created without the flag first: only then does an error say that the directory is at fault.
    drop(options.open(path)?);
    let is_refusal =
        |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
    let file = match options.custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => file,
        Err(error) if is_refusal(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut block = IoBuf::alloc(BLOCK_ALIGN);
    let round_trip = file.write_all_at(&block, 0).and_then(|()| file.read_exact_at(&mut block, 0));
    match round_trip {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_can_be_read_and_raised_to_the_hard_one() {
        let raised = Resource::OpenFiles.raise().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert!(Resource::LockedMemory.limit().unwrap().hard > 0);
    }

    #[test]
    fn this_thread_runs_on_an_allowed_cpu() {
        let cpus = allowed_cpus().unwrap();
        assert!(!cpus.is_empty() && cpus.is_sorted());
    }

    #[test]
    fn a_lock_is_exclusive_until_its_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let first = fs::File::create(&path).unwrap();
        let second = fs::File::open(&path).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn the_direct_io_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        probe_direct_io(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(probe_direct_io(&dir.path().join("missing")).is_err());
    }
}
