//! What this machine must offer, looked at before anything is opened: io_uring, lockable memory,
//! descriptors, CPUs, writable directories, direct I/O. A lack is named with what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::limits::SHARDS_MAX;
use crate::config::exit::Exit;
use crate::io::sys::{self, Resource, ResourceLimit};

/// What the kernel says where io_uring is switched off for everybody or for the unprivileged.
const IO_URING_SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

/// Memory that an executor of the runtime locks for its rings whatever its buffers: less and it does
/// not start.
const LOCKED_BYTES_PER_SHARD_MIN: u64 = 512 << 10;

/// Descriptors that a shard holds without any client or partition: rings, event counters, journal.
const DESCRIPTORS_PER_SHARD: u64 = 32;

/// Descriptors that leave room for some hundred partitions and clients.
const DESCRIPTORS_MIN: u64 = 1024;

/// What is to be started.
#[derive(Clone, Debug)]
pub struct PreflightPlan {
    /// CPU ids that were asked for; `None` is all that the process may use.
    pub cores: Option<Vec<usize>>,
    /// Data directories. They exist: identity and lock come first.
    pub data_dirs: Vec<PathBuf>,
    /// Memory for direct I/O that each shard's runtime registers with the kernel.
    pub io_memory_bytes: u64,
}

/// What was found good.
#[derive(Clone, Debug)]
pub struct Preflight {
    cpus: Vec<usize>,
    warnings: Vec<PreflightWarning>,
    descriptor_limit: u64,
}

impl Preflight {
    /// CPUs to run on, one shard on each.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// What works worse than it could; each wants one loud line.
    #[must_use]
    pub fn warnings(&self) -> &[PreflightWarning] {
        &self.warnings
    }

    /// Descriptors that the process may open, after its limit was raised.
    #[must_use]
    pub fn descriptor_limit(&self) -> u64 {
        self.descriptor_limit
    }
}

/// Why this machine cannot run the broker.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// io_uring is missing or forbidden.
    #[error("io_uring cannot be used: {source}; {hint}")]
    IoUring {
        /// What the kernel says.
        source: io::Error,
        /// What to look at.
        hint: &'static str,
    },
    /// Too little memory may be locked.
    #[error(
        "locked memory is limited to {limit}, but {shard_count} shards need {needed}; raise it \
         (LimitMEMLOCK=infinity in a systemd unit, memlock in limits.conf, ulimit -l), use fewer \
         --cores, or grant CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// The hard limit.
        limit: Bytes,
        /// What is needed at least.
        needed: Bytes,
        /// How many shards.
        shard_count: usize,
    },
    /// Too few descriptors may be open.
    #[error(
        "open files are limited to {limit}, but at least {needed} are needed; raise it \
         (LimitNOFILE in a systemd unit, nofile in limits.conf, ulimit -n)"
    )]
    OpenFiles {
        /// The hard limit.
        limit: u64,
        /// What is needed at least.
        needed: u64,
    },
    /// A CPU does not exist or is not allowed.
    #[error("CPU {cpu} of --cores is not among those that this process may use ({allowed})")]
    NoSuchCpu {
        /// Its id.
        cpu: usize,
        /// Those there are.
        allowed: String,
    },
    /// A data directory cannot be written.
    #[error("data directory {path} cannot be written: {source}")]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system did not answer a question that every Linux answers.
    #[error("cannot find out {what}: {source}")]
    System {
        /// The question.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl PreflightError {
    /// How the process ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            PreflightError::NoSuchCpu { .. } => Exit::Usage,
            PreflightError::Directory { .. } => Exit::Directory,
            _ => Exit::Preflight,
        }
    }
}

/// What works worse than it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreflightWarning {
    /// The file system has no direct I/O.
    BufferedDirectory(PathBuf),
    /// Buffers cannot be registered with the kernel.
    UnregisteredBuffers {
        /// The limit of locked memory.
        limit: u64,
        /// What registering all would need.
        wanted: u64,
    },
}

impl fmt::Display for PreflightWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PreflightWarning::BufferedDirectory(path) => write!(
                f,
                "{} HAS NO DIRECT I/O: its files go through the page cache. Acknowledged records \
                 are as safe, but throughput and tail latency are not those of this broker; use \
                 ext4 or XFS on a real disk",
                path.display()
            ),
            PreflightWarning::UnregisteredBuffers { limit, wanted } => write!(
                f,
                "locked memory is limited to {}; {} would let all buffers be registered with the \
                 kernel, which saves some CPU",
                Bytes(*limit),
                Bytes(*wanted)
            ),
        }
    }
}

/// A number of bytes for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("no limit"),
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} KiB", bytes.div_ceil(1 << 10)),
        }
    }
}

/// Looks at everything, raises soft limits to the hard ones on the way, and says what is missing.
///
/// # Errors
/// The first lack that keeps the broker from running.
pub fn check(plan: &PreflightPlan) -> Result<Preflight, PreflightError> {
    let allowed = sys::allowed_cpus()
        .map_err(|source| PreflightError::System { what: "the CPUs", source })?;
    let cpus = choose_cpus(plan.cores.as_deref(), &allowed)?;
    sys::probe_io_uring().map_err(|source| {
        let switch = std::fs::read_to_string(IO_URING_SWITCH).unwrap_or_default();
        PreflightError::IoUring { hint: io_uring_hint(&source, switch.trim()), source }
    })?;
    let memory = Resource::LockedMemory.raise().or_else(|_| Resource::LockedMemory.limit());
    let memory = memory
        .map_err(|source| PreflightError::System { what: "the limit of locked memory", source })?;
    let is_unlimited = sys::may_lock_any_memory().unwrap_or(false);
    let mut warnings = Vec::new();
    if !is_unlimited {
        warnings.extend(judge_memory(memory, cpus.len(), plan.io_memory_bytes)?);
    }
    let files = Resource::OpenFiles.raise().or_else(|_| Resource::OpenFiles.limit());
    let files = files
        .map_err(|source| PreflightError::System { what: "the limit of open files", source })?;
    judge_files(files, cpus.len())?;
    for dir in &plan.data_dirs {
        warnings.extend(check_directory(dir)?);
    }
    Ok(Preflight { cpus, warnings, descriptor_limit: files.soft })
}

fn choose_cpus(wanted: Option<&[usize]>, allowed: &[usize]) -> Result<Vec<usize>, PreflightError> {
    let Some(wanted) = wanted else {
        return Ok(allowed.iter().copied().take(SHARDS_MAX).collect());
    };
    if let Some(cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed = list_of(allowed);
        return Err(PreflightError::NoSuchCpu { cpu: *cpu, allowed });
    }
    Ok(wanted.to_vec())
}

/// CPU ids as `--cores` takes them: `0-3,6`.
fn list_of(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|a, b| a + 1 == *b).filter_map(|run| match run {
        [] => None,
        [only] => Some(only.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    runs.collect::<Vec<_>>().join(",")
}

fn io_uring_hint(error: &io::Error, switch: &str) -> &'static str {
    match (error.raw_os_error(), switch) {
        (_, "2") => {
            "kernel.io_uring_disabled is 2: set it to 0 (sysctl kernel.io_uring_disabled=0)"
        }
        (_, "1") => {
            "kernel.io_uring_disabled is 1: set it to 0, run as root, or join the group of \
             kernel.io_uring_group"
        }
        (Some(libc::ENOSYS), _) => "this kernel is built without it; Linux 6.1 or later is needed",
        (Some(libc::EINVAL), _) => "this kernel is too old; Linux 6.1 or later is needed",
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp filter forbids it (containers often do): allow io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
        (Some(libc::ENOMEM), _) => "locked memory is limited too much: raise memlock (ulimit -l)",
        _ => "see io_uring_setup(2)",
    }
}

/// Whether the runtime can start, and whether all of its buffers can be registered: it registers
/// them three times, once for each of an executor's rings.
fn judge_memory(
    limit: ResourceLimit,
    shard_count: usize,
    io_memory_bytes: u64,
) -> Result<Option<PreflightWarning>, PreflightError> {
    let shards = u64::try_from(shard_count).unwrap_or(u64::MAX);
    let needed = shards.saturating_mul(LOCKED_BYTES_PER_SHARD_MIN);
    if limit.soft < needed {
        let (limit, needed) = (Bytes(limit.soft), Bytes(needed));
        return Err(PreflightError::LockedMemory { limit, needed, shard_count });
    }
    let buffers = io_memory_bytes.saturating_mul(3);
    let wanted = needed.saturating_add(shards.saturating_mul(buffers));
    if limit.soft < wanted {
        return Ok(Some(PreflightWarning::UnregisteredBuffers { limit: limit.soft, wanted }));
    }
    Ok(None)
}

fn judge_files(limit: ResourceLimit, shard_count: usize) -> Result<(), PreflightError> {
    let shards = u64::try_from(shard_count).unwrap_or(u64::MAX);
    let needed = shards.saturating_mul(DESCRIPTORS_PER_SHARD).saturating_add(DESCRIPTORS_MIN);
    if limit.soft < needed {
        return Err(PreflightError::OpenFiles { limit: limit.soft, needed });
    }
    Ok(())
}

fn check_directory(dir: &Path) -> Result<Option<PreflightWarning>, PreflightError> {
    match sys::probe_direct_io(dir) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(PreflightWarning::BufferedDirectory(dir.to_owned()))),
        Err(source) => Err(PreflightError::Directory { path: dir.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: u64) -> ResourceLimit {
        ResourceLimit { soft, hard: soft }
    }

    #[test]
    fn this_machine_passes() {
        let dir = tempfile::tempdir().unwrap();
        let data_dirs = vec![dir.path().to_owned()];
        let plan = PreflightPlan { cores: None, data_dirs, io_memory_bytes: 1 << 20 };
        match check(&plan) {
            Ok(found) => {
                assert!(!found.cpus().is_empty());
                assert!(found.descriptor_limit() >= DESCRIPTORS_MIN);
            }
            // A container may forbid io_uring; then the error must say what to do.
            Err(PreflightError::IoUring { hint, .. }) => assert!(!hint.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_cpu_that_is_not_ours_is_refused_with_those_that_are() {
        assert_eq!(choose_cpus(None, &[2, 3]).unwrap(), [2, 3]);
        assert_eq!(choose_cpus(Some(&[3]), &[2, 3]).unwrap(), [3]);
        let error = choose_cpus(Some(&[3, 9]), &[0, 1, 2, 3, 6]).unwrap_err().to_string();
        assert!(error.contains("CPU 9") && error.contains("0-3,6"), "{error}");
    }

    #[test]
    fn too_little_lockable_memory_is_told_with_the_numbers() {
        let error = judge_memory(limit(256 << 10), 2, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("256 KiB") && error.contains("1 MiB"), "{error}");
        let warning = judge_memory(limit(2 << 20), 2, 10 << 20).unwrap();
        assert!(matches!(warning, Some(PreflightWarning::UnregisteredBuffers { .. })));
        assert_eq!(judge_memory(limit(u64::MAX), 64, 64 << 20).unwrap(), None);
        assert!(judge_files(limit(256), 1).is_err());
        assert!(judge_files(limit(65_536), 64).is_ok());
    }

    #[test]
    fn a_forbidden_io_uring_is_told_by_its_cause() {
        let error = |code| io::Error::from_raw_os_error(code);
        assert!(io_uring_hint(&error(libc::EPERM), "2").contains("io_uring_disabled is 2"));
        assert!(io_uring_hint(&error(libc::EPERM), "0").contains("seccomp"));
        assert!(io_uring_hint(&error(libc::ENOSYS), "").contains("kernel"));
    }

    #[test]
    fn an_unwritable_directory_is_named() {
        let error = check_directory(Path::new("/proc/nothing")).unwrap_err().to_string();
        assert!(error.contains("/proc/nothing"), "{error}");
    }
}
