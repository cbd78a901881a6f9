//! The io_uring itself: set-up, system calls, and the two queues.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::op::Outcome;
use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

/// `IORING_ENTER_GETEVENTS`: run deferred work and post its completions.
const ENTER_GETEVENTS: u32 = 1;

/// Completions that fit for each request that fits; more wait in the kernel (NODROP).
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// A thin layer over [`IoUring`] that is used by one thread only.
pub(super) struct Ring {
    uring: IoUring,
    probe: Probe,
}

impl Ring {
    /// A ring whose completions make `eventfd` readable while [`Ring::enable_eventfd`] holds.
    pub(super) fn new(entries: u32, eventfd: &OwnedFd) -> io::Result<Ring> {
        let uring = build(entries)?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        uring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        let mut ring = Ring { uring, probe };
        ring.disable_eventfd();
        Ok(ring)
    }

    pub(super) fn supports(&self, code: u8) -> bool {
        self.probe.is_supported(code)
    }

    /// Queues a request; `false` if the ring is full.
    pub(super) fn push(&mut self, request: &squeue::Entry) -> bool {
        // SAFETY: `Reactor::submit` has put everything that the request points to into the slab,
        // where it stays until the completion.
        unsafe { self.uring.submission().push(request).is_ok() }
    }

    /// Whether requests wait for the next [`Ring::enter`].
    pub(super) fn has_requests(&mut self) -> bool {
        !self.uring.submission().is_empty()
    }

    /// [`Ring::enter`], if the ring shows a reason for it.
    pub(super) fn enter_if_needed(&mut self) -> usize {
        let submission = self.uring.submission();
        let needed = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if needed { self.enter(0) } else { 0 }
    }

    /// Passes queued requests to the kernel and lets it post completions, waiting for `wait` of
    /// them. Returns how many requests the kernel took.
    pub(super) fn enter(&mut self, wait: u32) -> usize {
        let queued = self.uring.submission().len();
        let to_submit = u32::try_from(queued).expect("the ring has 2^15 entries at most");
        // SAFETY: no argument is passed; the requests are covered by `push`.
        let entered = unsafe {
            self.uring.submitter().enter::<libc::sigset_t>(to_submit, wait, ENTER_GETEVENTS, None)
        };
        taken(entered)
    }

    /// Like [`Ring::enter`], waiting for one completion but no longer than `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> usize {
        let limit = types::Timespec::from(limit);
        let args = types::SubmitArgs::new().timespec(&limit);
        taken(self.uring.submitter().submit_with_args(1, &args))
    }

    /// Takes all completions that are there, with their `user_data`.
    pub(super) fn reap(&mut self, into: &mut Vec<(u64, Outcome)>) {
        let completions = self.uring.completion();
        into.extend(completions.map(|entry: cqueue::Entry| {
            (entry.user_data(), Outcome { result: entry.result(), flags: entry.flags() })
        }));
    }

    pub(super) fn enable_eventfd(&mut self) {
        self.uring.completion().enable_eventfd();
    }

    pub(super) fn disable_eventfd(&mut self) {
        self.uring.completion().disable_eventfd();
    }
}

fn taken(entered: io::Result<usize>) -> usize {
    match entered {
        Ok(taken) => taken,
        Err(error) => match error.raw_os_error() {
            // The time is over, or a signal came; or the kernel is out of memory for now, or wants
            // completions reaped first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => 0,
            _ => panic!("io_uring_enter failed: {error}"),
        },
    }
}

/// The best ring that this kernel makes. Deferred task work (6.1) saves interrupting the thread
/// and keeps all completions to the moment when we ask; cooperative (5.19) only the former.
fn build(entries: u32) -> io::Result<IoUring> {
    let entries = entries.clamp(2, 1 << 15);
    let base = || {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_clamp().setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
        builder
    };
    let deferred = base()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match deferred {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        other => return other,
    }
    let cooperative =
        base().setup_submit_all().setup_coop_taskrun().setup_taskrun_flag().build(entries);
    match cooperative {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => base().build(entries),
        other => other,
    }
}

/// Whether this process may use io_uring and the kernel knows every request that the broker needs.
/// To be called before anything of glommio, which panics where this returns an error.
///
/// # Errors
/// `ENOSYS`, `EPERM` and what else the kernel says, with a text that names the way out.
pub fn probe_io_uring() -> io::Result<()> {
    let ring = IoUring::new(2).map_err(|error| {
        let text = match error.raw_os_error() {
            Some(libc::ENOSYS) => "this kernel has no io_uring (Linux 5.19 or later is needed)",
            Some(libc::EPERM | libc::EACCES) => {
                "io_uring is forbidden here: see the sysctl kernel.io_uring_disabled and the \
                 container's seccomp profile"
            }
            Some(libc::ENOMEM) => {
                "no memory may be locked for io_uring: raise the limit (ulimit -l)"
            }
            _ => "io_uring cannot be set up",
        };
        io::Error::new(error.kind(), format!("{text}: {error}"))
    })?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("READ", opcode::Read::CODE),
        ("WRITE", opcode::Write::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("RENAMEAT", opcode::RenameAt::CODE),
        ("UNLINKAT", opcode::UnlinkAt::CODE),
        ("MKDIRAT", opcode::MkDirAt::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ];
    for (name, code) in needed {
        if !probe.is_supported(code) {
            let text = format!("this kernel's io_uring does not know {name}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_gives_a_ring() {
        probe_io_uring().expect("io_uring works where the tests run");
    }
}
