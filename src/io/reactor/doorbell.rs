//! Waking a core that sleeps, from any thread, without a system call when it does not.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one reactor's driver. Cheap to clone, may be sent to any thread.
///
/// The protocol: publish the message, then [`Doorbell::ring`]. The driver announces its sleep,
/// then looks at its inbox once more; so either it sees the message or the ringer sees the sleep.
#[derive(Clone)]
pub struct Doorbell(Arc<Inner>);

struct Inner {
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

impl Doorbell {
    pub(super) fn new() -> io::Result<Doorbell> {
        // Blocking on purpose: a read through io_uring of a non-blocking eventfd fails with EAGAIN
        // instead of waiting.
        // SAFETY: plain system call.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let eventfd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Doorbell(Arc::new(Inner { sleeping: AtomicBool::new(false), eventfd })))
    }

    /// Wakes the driver if it sleeps. Call it after the message can be seen by the driver's
    /// `poll_inbox`. Costs one fence and one load while the driver runs.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.sleeping.load(Ordering::Relaxed) && self.0.sleeping.swap(false, Ordering::AcqRel)
        {
            self.signal();
        }
    }

    /// Makes the eventfd readable.
    pub(super) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes 8 bytes from a live array. It cannot block: the counter is at most the
        // number of sleeps. A failure could only be EINTR, which this size does not see.
        unsafe { libc::write(self.0.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// From here on ringers make the eventfd readable; the caller looks at its inbox once more
    /// before it sleeps.
    pub(super) fn announce_sleep(&self) {
        self.0.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The driver runs again.
    pub(super) fn announce_awake(&self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
    }

    pub(super) fn eventfd(&self) -> &OwnedFd {
        &self.0.eventfd
    }
}
