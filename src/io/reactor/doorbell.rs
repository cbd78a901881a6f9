//! Waking a core that sleeps, from any thread, without a system call when it does not.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, fence};

/// Wakes one reactor's driver. Cheap to clone, may be sent to any thread.
///
/// The protocol: publish the message, then [`Doorbell::ring`]. The driver announces its sleep,
/// then looks at its inbox once more; so either it sees the message or the ringer sees the sleep.
#[derive(Clone)]
pub struct Doorbell(Arc<Inner>);

struct Inner {
    state: AtomicU8,
    /// Read through glommio, also signalled by the ring.
    sleep: OwnedFd,
    /// Polled by the ring.
    nap: OwnedFd,
}

const AWAKE: u8 = 0;
const NAPPING: u8 = 1;
const SLEEPING: u8 = 2;

impl Doorbell {
    pub(super) fn new() -> io::Result<Doorbell> {
        // Blocking on purpose: a read through io_uring of a non-blocking eventfd fails with EAGAIN
        // instead of waiting.
        let sleep = eventfd(0)?;
        let nap = eventfd(libc::EFD_NONBLOCK)?;
        Ok(Doorbell(Arc::new(Inner { state: AtomicU8::new(AWAKE), sleep, nap })))
    }

    /// Wakes the driver if it sleeps. Call it after the message can be seen by the driver's
    /// `poll_inbox`. Costs one fence and one load while the driver runs.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.state.load(Ordering::Relaxed) == AWAKE {
            return;
        }
        match self.0.state.swap(AWAKE, Ordering::AcqRel) {
            NAPPING => signal(&self.0.nap),
            SLEEPING => signal(&self.0.sleep),
            _ => {}
        }
    }

    /// Ends a sleep, whether it was announced or not.
    pub(super) fn end_sleep(&self) {
        signal(&self.0.sleep);
    }

    /// From here on ringers make the eventfd for sleeps readable; the caller looks at its inbox
    /// once more before it sleeps.
    pub(super) fn announce_sleep(&self) {
        self.announce(SLEEPING);
    }

    /// The same for naps.
    pub(super) fn announce_nap(&self) {
        self.announce(NAPPING);
    }

    /// The driver runs again.
    pub(super) fn announce_awake(&self) {
        self.0.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Makes the eventfd for naps unreadable.
    pub(super) fn quieten(&self) {
        let mut count = [0u8; 8];
        // SAFETY: reads at most 8 bytes into a live array. If the count is zero already it fails
        // with EAGAIN, which is as good.
        unsafe { libc::read(self.0.nap.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    pub(super) fn sleep_eventfd(&self) -> &OwnedFd {
        &self.0.sleep
    }

    pub(super) fn nap_eventfd(&self) -> &OwnedFd {
        &self.0.nap
    }

    fn announce(&self, state: u8) {
        self.0.state.store(state, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

fn eventfd(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call.
    let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Makes an eventfd readable.
fn signal(eventfd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: writes 8 bytes from a live array. It cannot block: the count is at most the number
    // of sleeps. It cannot fail otherwise.
    unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}
