//! Waiting for a moment on a load core, and knowing how much of the core's time was work.
//!
//! A spinning core waits by looking: the reactor's driver calls [`Pacer::turn`] in each of its
//! turns, which wakes whoever is due. A parked core waits through the runtime's timers, which are
//! late by tens of µs, and shows that in its own figures.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::args::Idle;
use crate::clock::RunClock;

/// A turn without progress that took longer than this was not an idle look-around: the kernel was
/// copying for us, or somebody else had the core.
const IDLE_TURN_NS_MAX: u64 = 10_000;

/// Busy and idle time of a core since the last [`Pacer::take_usage`], ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// With work.
    pub busy_ns: u64,
    /// Without.
    pub idle_ns: u64,
    /// Longest single turn: how long a due send may have had to wait.
    pub turn_ns_max: u64,
}

/// One load core's sense of time.
pub struct Pacer {
    clock: RunClock,
    idle: Idle,
    due: RefCell<BinaryHeap<Reverse<Due>>>,
    next_due_ns: Cell<u64>,
    last_turn_ns: Cell<u64>,
    progress: Cell<bool>,
    usage: Cell<Usage>,
    next_ticket: Cell<u64>,
}

struct Due {
    at_ns: u64,
    ticket: u64,
    waker: Waker,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at_ns, self.ticket) == (other.at_ns, other.ticket)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at_ns, self.ticket).cmp(&(other.at_ns, other.ticket))
    }
}

impl Pacer {
    /// A pacer for this core.
    #[must_use]
    pub fn new(clock: RunClock, idle: Idle) -> Rc<Pacer> {
        Rc::new(Pacer {
            clock,
            idle,
            due: RefCell::new(BinaryHeap::new()),
            next_due_ns: Cell::new(u64::MAX),
            last_turn_ns: Cell::new(clock.now_ns()),
            progress: Cell::new(false),
            usage: Cell::new(Usage::default()),
            next_ticket: Cell::new(0),
        })
    }

    /// The run's clock.
    #[must_use]
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    /// How long the driver should spin before it sleeps.
    #[must_use]
    pub fn driver_spin(&self) -> Duration {
        match self.idle {
            Idle::Spin => Duration::MAX,
            Idle::Park => Duration::ZERO,
        }
    }

    /// Notes that something was sent or received: the turn counts as busy.
    #[inline]
    pub fn worked(&self) {
        self.progress.set(true);
    }

    /// Waits until `at_ns` of the run's clock; returns at once if that has passed.
    pub async fn until(self: &Rc<Pacer>, at_ns: u64) {
        let now = self.clock.now_ns();
        if at_ns <= now {
            return;
        }
        match self.idle {
            Idle::Spin => WaitUntil { pacer: self.clone(), at_ns, registered: false }.await,
            Idle::Park => glommio::timer::sleep(Duration::from_nanos(at_ns - now)).await,
        }
    }

    /// Looks at the clock once; called by the driver in each turn. Says whether anybody was due.
    pub fn turn(&self) -> bool {
        let now = self.clock.now_ns();
        self.account(now);
        if now < self.next_due_ns.get() {
            return false;
        }
        while let Some(waker) = self.pop_due(now) {
            waker.wake(); // no borrow is held: waking may come back here
        }
        let next = self.due.borrow().peek().map_or(u64::MAX, |Reverse(due)| due.at_ns);
        self.next_due_ns.set(next);
        true
    }

    /// Usage since the last call. A parked core cannot tell (it does not turn while it sleeps) and
    /// is judged by its CPU time instead.
    pub fn take_usage(&self) -> Usage {
        self.usage.take()
    }

    fn account(&self, now: u64) {
        let took = now.saturating_sub(self.last_turn_ns.replace(now));
        let mut usage = self.usage.get();
        if self.progress.replace(false) || took > IDLE_TURN_NS_MAX {
            usage.busy_ns += took;
        } else {
            usage.idle_ns += took;
        }
        usage.turn_ns_max = usage.turn_ns_max.max(took);
        self.usage.set(usage);
    }

    fn pop_due(&self, now: u64) -> Option<Waker> {
        let mut due = self.due.borrow_mut();
        if due.peek()?.0.at_ns > now {
            return None;
        }
        due.pop().map(|Reverse(due)| due.waker)
    }

    fn register(&self, at_ns: u64, waker: Waker) {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.due.borrow_mut().push(Reverse(Due { at_ns, ticket, waker }));
        self.next_due_ns.set(self.next_due_ns.get().min(at_ns));
    }
}

/// Future of [`Pacer::until`] on a spinning core. It always runs in one task, so the first waker
/// stays right.
struct WaitUntil {
    pacer: Rc<Pacer>,
    at_ns: u64,
    registered: bool,
}

impl Future for WaitUntil {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.pacer.clock.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            self.pacer.register(self.at_ns, cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    #[test]
    fn whoever_is_due_is_woken_in_order_and_nobody_early() {
        let clock = RunClock::start();
        let pacer = Pacer::new(clock, Idle::Spin);
        block_on(async {
            let soon = clock.now_ns() + 3_000_000;
            let mut later = pin!(pacer.until(soon + 60_000_000_000));
            let mut first = pin!(pacer.until(soon));
            assert!(poll_once(&mut later).await.is_none());
            assert!(poll_once(&mut first).await.is_none());
            while !pacer.turn() {
                assert!(clock.now_ns() < soon + 1_000_000_000);
            }
            assert!(clock.now_ns() >= soon);
            assert!(poll_once(&mut first).await.is_some());
            assert!(poll_once(&mut later).await.is_none());
            assert!(!pacer.turn());
        });
    }

    #[test]
    fn turns_with_progress_or_long_ones_are_busy_and_the_rest_is_idle() {
        let pacer = Pacer::new(RunClock::start(), Idle::Spin);
        pacer.last_turn_ns.set(0);
        pacer.account(5_000);
        pacer.worked();
        pacer.account(6_000);
        pacer.account(106_000);
        assert_eq!(
            pacer.take_usage(),
            Usage { busy_ns: 101_000, idle_ns: 5_000, turn_ns_max: 100_000 }
        );
        assert_eq!(pacer.take_usage(), Usage::default());
    }
}
