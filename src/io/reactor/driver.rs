//! The loop that turns the ring: one glommio task for each core.
#![allow(unsafe_code)]

use std::future::{Future, poll_fn};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use glommio::io::BufferedFile;

use super::Reactor;
use super::alarm;
use super::doorbell::Doorbell;

/// What the driver does when there is nothing to do: it spins, then naps, then sleeps.
#[derive(Clone, Copy, Debug)]
pub struct IdlePolicy {
    /// How long it keeps looking. Answers at once, and burns the core meanwhile.
    pub spin: Duration,
    /// How long it then waits in its own ring, if no other task is ready. That wakes within
    /// microseconds and saves glommio's own turn, but its timers and wake-ups from foreign
    /// threads without a [`Doorbell`] wait for its end.
    pub nap: Duration,
}

impl Default for IdlePolicy {
    /// No spinning, naps of 200 µs: less than glommio's own quantum.
    fn default() -> IdlePolicy {
        IdlePolicy { spin: Duration::ZERO, nap: Duration::from_micros(200) }
    }
}

/// Each poll of a pending glommio read leaves one waker behind, so after this many the read is
/// made to complete and a new one is started.
const READ_POLLS_MAX: u32 = 64;

impl Reactor {
    /// Turns the ring until [`Reactor::stop`]: submits, reaps, wakes, and calls `poll_inbox` once
    /// each turn (it drains what other cores sent and says whether there was anything). Run it as
    /// one task, in the task queue of the tasks that it serves: it yields after each turn in which
    /// something happened, and lets other queues run while it spins.
    ///
    /// Operations that are not finished when it is dropped keep their memory until the reactor
    /// itself is dropped, which waits for the kernel.
    ///
    /// # Panics
    /// When the kernel refuses to run the ring at all: the core cannot go on.
    pub async fn drive(self: Rc<Self>, idle: IdlePolicy, mut poll_inbox: impl FnMut() -> bool) {
        let mut sleeper = Sleeper::new(self.doorbell());
        let mut idle_since: Option<Instant> = None;
        let mut company = Company::default();
        // glommio polls a new task inside of the one that spawns it; `Company` needs its own run.
        yield_now().await;
        while !self.is_stopping() {
            // Both, always: `|` and not `||`.
            if self.turn() | poll_inbox() {
                idle_since = None;
                company.forget();
                yield_now().await;
                continue;
            }
            let alone = company.is_gone();
            let spins = !idle.spin.is_zero()
                && idle_since.get_or_insert_with(Instant::now).elapsed() < idle.spin;
            if spins && alone {
                // The kernel's own threads have work on this core too, such as the flush after a
                // write: without this they wait for the end of our time slice, 4 ms.
                std::thread::yield_now();
            }
            if spins || !alone {
                glommio::executor().yield_task_queue_now().await;
                continue;
            }
            idle_since = None;
            company.forget();
            if !idle.nap.is_zero() && self.nap(idle.nap, &mut poll_inbox) {
                yield_now().await;
                continue;
            }
            self.arm();
            if !(self.turn_fully() | poll_inbox() | self.is_stopping()) {
                alarm::relax();
                sleeper.sleep(&self).await;
                alarm::attend();
            }
            self.disarm();
        }
        self.drain().await;
        sleeper.close().await;
    }

    /// Cancels what is in flight until nothing is. Writes and syncs that run cannot be cancelled;
    /// it waits for them.
    async fn drain(&self) {
        loop {
            self.cancel_all();
            self.turn_fully();
            if self.in_flight() == 0 {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Finds out whether any other task of the executor is ready, from counts of what ran. Takes the
/// executor's statistics: nobody else on this executor can use them.
#[derive(Default)]
struct Company {
    /// Looks since the last [`Company::forget`] that found nobody else; the first does not count.
    looks: u32,
}

impl Company {
    /// To be called when the caller leaves its task queue in another way than between two looks.
    fn forget(&mut self) {
        self.looks = 0;
    }

    /// Whether nobody else ran lately. The caller asks, and leaves its task queue, until it does.
    ///
    /// What runs is counted when a queue's run ends, and the caller's leaving ends one: so a look
    /// counts the caller itself, and does not count who ran before it in the same run. But the next
    /// look does. So if two looks in a row count one, nobody ran between the two looks before.
    fn is_gone(&mut self) -> bool {
        let ran = glommio::executor().executor_stats().tasks_executed();
        self.looks = if self.looks == 0 || ran != 1 { 1 } else { self.looks + 1 };
        self.looks >= 3
    }
}

/// Sleeps on the ring's eventfd by way of a glommio read, so that glommio's own events wake the
/// core too.
struct Sleeper {
    doorbell: Doorbell,
    file: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
    read_polls: u32,
}

impl Sleeper {
    fn new(doorbell: Doorbell) -> Sleeper {
        let copy = doorbell.sleep_eventfd().try_clone().expect("a descriptor to sleep on");
        // SAFETY: an open descriptor that nobody else owns; the file closes it.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(copy.into_raw_fd()) });
        Sleeper { doorbell, file, read: None, read_polls: 0 }
    }

    /// Until the eventfd is rung or somebody on this core has work for the driver. The read is
    /// kept when the wake-up came from this core, and waited for again next time.
    async fn sleep(&mut self, reactor: &Reactor) {
        poll_fn(|cx| {
            if reactor.is_awake() {
                return Poll::Ready(());
            }
            reactor.wake_driver_with(cx.waker());
            if self.read_polls == READ_POLLS_MAX {
                self.doorbell.end_sleep();
            }
            self.read_polls += 1;
            let read = self.read.get_or_insert_with(|| {
                let file = self.file.clone();
                Box::pin(async move {
                    if let Err(error) = file.read_at(0, 8).await {
                        panic!("reading the doorbell's eventfd failed: {error}");
                    }
                })
            });
            match read.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.read = None;
                    self.read_polls = 0;
                    Poll::Ready(())
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }

    async fn close(mut self) {
        if let Some(read) = self.read.take() {
            self.doorbell.end_sleep();
            read.await;
        }
        if let Ok(file) = Rc::try_unwrap(self.file) {
            // Closing a descriptor that is ours cannot fail in a way that anybody could act on.
            let _ = file.close().await;
        }
    }
}
