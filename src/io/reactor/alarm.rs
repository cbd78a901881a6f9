//! A signal that keeps glommio from sleeping for ever while tasks are ready to run.
//!
//! glommio-ng 0.12 goes to sleep, ready tasks or not, when its preemption timer fires between
//! arming it and the first look at the run queue: whenever the machine takes the core away just
//! there, which a crowded machine does every few minutes, also before the first task has run. Only
//! an event ends such a sleep. A task with a timer is no help, nor are eight: the tasks are among
//! those that do not run, and then set no timer any more (seen). A signal that comes whatever
//! happens interrupts the sleep, and glommio then looks at its queues again.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::sync::OnceLock;

/// The longest that such a sleep lasts on a core that works. Each signal costs an idle core about
/// 100 µs: glommio takes a few turns before it sleeps again.
const PERIOD_MS: i64 = 10;

/// The same on a core that has been idle for [`PERIOD_MS`]: only the turn that would end its
/// idleness can be caught then.
const IDLE_PERIOD_MS: i64 = 100;

/// Ignored by default and not used by anything here, so that it is harmless if it ever comes
/// without its handler (Go preempts with it for the same reasons).
const SIGNAL: i32 = libc::SIGURG;

struct Alarm {
    timer: libc::timer_t,
}

thread_local! {
    static ALARM: RefCell<Option<Alarm>> = const { RefCell::new(None) };
}

/// Lets the calling thread be interrupted by a harmless signal every 10 ms (100 ms while its
/// reactor sleeps) for the rest of its
/// life; once is enough. To be called on an executor's thread before the executor runs, which
/// takes `LocalExecutorBuilder::make` on a thread of one's own instead of `spawn`.
///
/// # Errors
/// What the kernel says: `EAGAIN` if it is out of timers.
pub fn interrupt_long_sleeps() -> io::Result<()> {
    if ALARM.with_borrow(Option::is_some) {
        return Ok(());
    }
    static HANDLER: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = HANDLER.get_or_init(|| {
        install_handler().map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    });
    installed.map_err(io::Error::from_raw_os_error)?;
    ALARM.set(Some(Alarm::start()?));
    Ok(())
}

/// From here on the thread means to sleep: one more signal soon, later ones seldom.
pub(super) fn relax() {
    set_interval(IDLE_PERIOD_MS);
}

/// Ends [`relax`].
pub(super) fn attend() {
    set_interval(PERIOD_MS);
}

fn set_interval(interval_ms: i64) {
    ALARM.with_borrow(|alarm| {
        if let Some(alarm) = alarm {
            alarm.set(interval_ms).expect("a timer that exists can be set");
        }
    });
}

extern "C" fn do_nothing(_signal: i32) {}

/// A handler that does nothing: an ignored signal would not interrupt. Other system calls are
/// restarted.
fn install_handler() -> io::Result<()> {
    // SAFETY: sigaction is plain data for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = do_nothing as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a handler that does nothing is safe wherever the signal comes.
    check(unsafe { libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut()) })
}

impl Alarm {
    fn start() -> io::Result<Alarm> {
        // SAFETY: sigevent is plain data for which zero is valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        // SAFETY: plain system call.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: plain system call with room for its result.
        check(unsafe {
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        })?;
        let alarm = Alarm { timer };
        alarm.set(PERIOD_MS)?;
        Ok(alarm)
    }

    /// The first signal in [`PERIOD_MS`], the others every `interval_ms`.
    fn set(&self, interval_ms: i64) -> io::Result<()> {
        let time = |ms: i64| libc::timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        let times = libc::itimerspec { it_interval: time(interval_ms), it_value: time(PERIOD_MS) };
        // SAFETY: plain system call on a timer that lives as long as `self`.
        check(unsafe { libc::timer_settime(self.timer, 0, &raw const times, std::ptr::null_mut()) })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was made in `start` and is deleted once.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_events_is_interrupted() {
        interrupt_long_sleeps().expect("a timer");
        interrupt_long_sleeps().expect("twice is harmless");
        // SAFETY: no descriptors are passed; it only waits.
        let result = unsafe { libc::poll(std::ptr::null_mut(), 0, 10_000) };
        let error = io::Error::last_os_error();
        assert_eq!((result, error.kind()), (-1, io::ErrorKind::Interrupted));
    }
}
