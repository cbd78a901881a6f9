//! Processes and folders that never outlive a comparison: they go when their owner is dropped, and
//! on Ctrl-C or SIGTERM, whatever the main thread does meanwhile.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, exit};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::run::RunError;

/// A process may begin threads while its threads are pinned; they are looked at again.
const PIN_PASSES_MAX: usize = 20;

/// Knows what has to go.
pub struct Keeper {
    /// Held while a process begins or ends, so that a signal never meets half a process.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    pids: Vec<u32>,
    folders: Vec<PathBuf>,
}

impl Keeper {
    /// A keeper that ends everything and this process when it is interrupted.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub fn install() -> Result<Arc<Keeper>, RunError> {
        let keeper = Arc::new(Keeper { kept: Mutex::default() });
        let failed = |error| RunError::Io("waiting for signals", error);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let ours = keeper.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Never unlocked: nothing may begin any more.
                    let kept = ours.lock();
                    kept.end();
                    exit(128 + signal);
                }
            })
            .map_err(failed)?;
        Ok(keeper)
    }

    /// A fresh folder in `parent`; removed when it is dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub fn folder(&self, parent: &std::path::Path) -> Result<tempfile::TempDir, RunError> {
        let mut kept = self.lock();
        let failed = |error| RunError::Io("making a scratch folder", error);
        let parent = fs::canonicalize(parent).map_err(failed)?;
        let folder = tempfile::Builder::new()
            .prefix("thalweg-compare-brokers-")
            .tempdir_in(parent)
            .map_err(failed)?;
        kept.folders.push(folder.path().to_owned());
        Ok(folder)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere leaves two lists that are still right.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn end(&self) {
        let pids = self.pids.iter().filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?));
        for pid in pids {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        for folder in &self.folders {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A process of ours, in a process group of its own so that Ctrl-C reaches it through us only.
/// Killed when it is dropped: its data is thrown away.
pub struct Process {
    keeper: Arc<Keeper>,
    child: Child,
}

impl Process {
    /// Starts `command`, on CPU `cpu` from its first instruction if one is given.
    ///
    /// # Errors
    /// When the program cannot be started; `what` names it.
    pub fn spawn(
        keeper: &Arc<Keeper>,
        what: &'static str,
        command: &mut Command,
        cpu: Option<usize>,
    ) -> Result<Process, RunError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut kept = keeper.lock();
        command.process_group(0);
        // A child begins with the mask of the thread that makes it.
        let spawned = thread::scope(|scope| {
            let maker = scope.spawn(|| {
                if let Some(cpu) = cpu {
                    sched_setaffinity(None, &only(cpu))?;
                }
                command.spawn()
            });
            maker.join().unwrap_or_else(|_| Err(io::Error::other("its maker died")))
        });
        let child = spawned.map_err(|error| {
            RunError::Io(what, io::Error::new(error.kind(), format!("starting {program}: {error}")))
        })?;
        kept.pids.push(child.id());
        drop(kept);
        Ok(Process { keeper: keeper.clone(), child })
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, if it was piped.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let mut kept = self.keeper.lock();
        let status = self.child.try_wait().ok().flatten()?;
        kept.pids.retain(|&pid| pid != self.child.id());
        Some(status)
    }

    /// kill -9, and gone when this returns.
    pub fn kill(&mut self) {
        let mut kept = self.keeper.lock();
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        kept.pids.retain(|&pid| pid != self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

/// Pins every thread of process `pid` to `cpu`, as `taskset -a` does.
///
/// # Errors
/// When the process is gone, or its threads are not ours to pin.
pub fn pin(pid: u32, cpu: usize) -> io::Result<()> {
    let set = only(cpu);
    for _ in 0..PIN_PASSES_MAX {
        let mut changed = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let name = entry?.file_name();
            let tid = name.to_str().and_then(|tid| Pid::from_raw(tid.parse().ok()?));
            let Some(tid) = tid else { continue };
            if sched_getaffinity(Some(tid)).is_ok_and(|now| now == set) {
                continue;
            }
            match sched_setaffinity(Some(tid), &set) {
                Ok(()) => changed += 1,
                // It ended meanwhile, or is the kernel's own.
                Err(Errno::SRCH | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if changed == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other("it begins threads faster than they can be pinned"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::proc::ProcessReading;

    fn keeper() -> Arc<Keeper> {
        Arc::new(Keeper { kept: Mutex::default() })
    }

    #[test]
    fn a_process_is_pinned_from_its_start_or_later_and_ends_with_its_owner() {
        let keeper = keeper();
        let cpu = *crate::run::allowed_cpus().last().expect("a CPU");
        let mut sleep = Command::new("sleep");
        let process =
            Process::spawn(&keeper, "sleep", sleep.arg("600"), Some(cpu)).expect("starts");
        let pid = process.pid();
        let of_it = Pid::from_raw(i32::try_from(pid).expect("small"));
        assert_eq!(sched_getaffinity(of_it).expect("is there"), only(cpu));
        let first = crate::run::allowed_cpus()[0];
        pin(pid, first).expect("pins");
        assert_eq!(sched_getaffinity(of_it).expect("is there"), only(first));
        drop(process);
        assert!(ProcessReading::take(pid).is_err() && keeper.lock().pids.is_empty());
    }

    #[test]
    fn what_is_kept_goes_when_it_must() {
        let keeper = keeper();
        let folder = keeper.folder(&std::env::temp_dir()).expect("a folder");
        fs::write(folder.path().join("file"), "x").expect("writes");
        let mut sleep = Command::new("sleep");
        let process = Process::spawn(&keeper, "sleep", sleep.arg("600"), None).expect("starts");
        keeper.lock().end();
        assert!(ProcessReading::take(process.pid()).is_err() && !folder.path().exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut command = Command::new("/nowhere/java");
        let error = Process::spawn(&keeper(), "Kafka", &mut command, None).err().expect("fails");
        assert!(error.to_string().contains("/nowhere/java"), "{error}");
    }
}
