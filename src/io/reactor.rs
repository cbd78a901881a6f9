//! The reactor: one io_uring of our own for each core, for sockets and files alike.
//!
//! It is not a scheduler: tasks, timers and queues are glommio's; [`Reactor::drive`] runs as one
//! of its tasks. It does not know what a file or a socket is: `ring_file` and `ring_tcp` build the
//! requests.
//! Lives on: the core whose thread called [`Reactor::install`].
//! Invariants: memory and descriptors of an operation live in the slab until its completion; no
//! borrow is held while a waker or a dropped value runs.
//! Callers: `ring_file`, `ring_disk`, `ring_tcp`; `shard` installs and drives it.
#![allow(unsafe_code)]

mod alarm;
mod doorbell;
mod driver;
mod op;
mod ring;
mod slab;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use io_uring::types::{self, CancelBuilder};
use io_uring::{cqueue, opcode, squeue};

pub use alarm::interrupt_long_sleeps;
pub use doorbell::Doorbell;
pub use driver::IdlePolicy;
pub(super) use op::{Completion, Memory, Message, Op, progress};
pub use ring::probe_io_uring;

use super::pool;
use op::Outcome;
use ring::Ring;
use slab::{BELL, Completed, Key, NOBODY, Slab};

/// How to make a [`Reactor`].
#[derive(Clone, Copy, Debug)]
pub struct ReactorConfig {
    /// Requests that may wait for one system call; more than that are passed on in several. The
    /// kernel rounds it up to a power of two. 256 is plenty.
    pub ring_entries: u32,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// One core's io_uring, with everything that the kernel holds for it.
pub struct Reactor {
    core: RefCell<Core>,
    completed: RefCell<Vec<(u64, Outcome)>>,
    doorbell: Doorbell,
    asleep: Cell<bool>,
    driver: Cell<Option<Waker>>,
    stopping: Cell<bool>,
    /// Whether the ring polls the doorbell's eventfd for naps.
    bell_is_watched: Cell<bool>,
    can_truncate: bool,
}

struct Core {
    ring: Ring,
    /// Requests that did not fit into the ring. At most one and its cancellation for each
    /// operation in the slab.
    backlog: VecDeque<squeue::Entry>,
    slab: Slab,
}

impl Reactor {
    /// Makes this thread's reactor. One that was stopped stays to refuse what comes late, until
    /// another takes its place.
    ///
    /// # Errors
    /// `AlreadyExists` if the thread has one that was not stopped; what the kernel says otherwise (see
    /// [`probe_io_uring`]).
    pub fn install(config: ReactorConfig) -> io::Result<Rc<Reactor>> {
        let runs = |current: &Option<Rc<Reactor>>| {
            current.as_ref().is_some_and(|reactor| !reactor.is_stopping())
        };
        if CURRENT.with_borrow(runs) {
            let text = "this thread has a reactor already";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if pool::bytes_max() == 0 {
            pool::set_bytes_max(pool::REACTOR_POOL_BYTES);
        }
        interrupt_long_sleeps()?;
        let doorbell = Doorbell::new()?;
        let ring = Ring::new(config.ring_entries, doorbell.sleep_eventfd())?;
        let can_truncate = ring.supports(opcode::Ftruncate::CODE);
        let core = Core { ring, backlog: VecDeque::new(), slab: Slab::default() };
        let reactor = Rc::new(Reactor {
            core: RefCell::new(core),
            completed: RefCell::new(Vec::new()),
            doorbell,
            asleep: Cell::new(false),
            driver: Cell::new(None),
            stopping: Cell::new(false),
            bell_is_watched: Cell::new(false),
            can_truncate,
        });
        // The old one is dropped outside of the borrow.
        drop(CURRENT.replace(Some(reactor.clone())));
        Ok(reactor)
    }

    /// This thread's reactor.
    ///
    /// # Panics
    /// If the thread has none: ring files and sockets work only where [`Reactor::install`] ran.
    #[must_use]
    pub fn current() -> Rc<Reactor> {
        CURRENT.with_borrow(|current| {
            current.clone().expect("Reactor::install ran on this thread before")
        })
    }

    /// A handle with which any thread wakes [`Reactor::drive`].
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    /// Ends [`Reactor::drive`]: operations in flight are cancelled (their futures resolve with
    /// `ECANCELED`), new ones are refused in the same way. Close files whose writes matter first.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.wake_driver();
    }

    /// Operations that the kernel may still touch.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.core.borrow().slab.live()
    }

    /// Whether FTRUNCATE can go through the ring (Linux 6.9).
    pub(super) fn can_truncate(&self) -> bool {
        self.can_truncate
    }

    /// Gives a request to the kernel with the next turn.
    ///
    /// # Safety
    /// Every pointer in `request` points into `memory` (or to what it owns), which must be valid
    /// for it without moving while `memory` is only kept; the descriptor in `request` is `file`'s
    /// or a constant like `AT_FDCWD`.
    pub(super) unsafe fn submit(
        self: &Rc<Self>,
        request: squeue::Entry,
        memory: Memory,
        file: Option<Rc<OwnedFd>>,
    ) -> Op {
        if self.stopping.get() {
            return Op::refused(self.clone(), memory, libc::ECANCELED);
        }
        let key = {
            let mut core = self.core.borrow_mut();
            let key = core.slab.insert(memory, file);
            core.enqueue(request.user_data(key.user_data()));
            key
        };
        self.wake_driver();
        Op::in_flight(self.clone(), key)
    }

    fn poll_op(&self, key: Key, waker: &Waker) -> Option<Completion> {
        let polled = self.core.borrow_mut().slab.poll(key, waker);
        polled.ok()
    }

    fn abandon_op(&self, key: Key) {
        let abandoned = {
            let mut core = self.core.borrow_mut();
            let abandoned = core.slab.abandon(key);
            if abandoned.0.is_none() {
                let cancel = opcode::AsyncCancel::new(key.user_data()).build();
                core.enqueue(cancel.user_data(NOBODY));
            }
            abandoned
        };
        drop(abandoned);
        self.wake_driver();
    }

    /// One turn: passes requests to the kernel and delivers completions, if the ring shows that
    /// there are any; costs no system call if not. Says whether anything happened.
    fn turn(&self) -> bool {
        self.turn_with(Ring::enter_if_needed)
    }

    /// One turn that asks the kernel even if the ring shows nothing. `true` also if the kernel
    /// could not take all requests.
    fn turn_fully(&self) -> bool {
        let happened = self.turn_with(|ring| ring.enter(0));
        let mut core = self.core.borrow_mut();
        happened || !core.backlog.is_empty() || core.ring.has_requests()
    }

    fn turn_with(&self, enter: impl FnOnce(&mut Ring) -> usize) -> bool {
        let mut completed = self.completed.take();
        let submitted = {
            let mut core = self.core.borrow_mut();
            core.refill();
            let submitted = enter(&mut core.ring);
            core.ring.reap(&mut completed);
            submitted
        };
        let happened = submitted > 0 || !completed.is_empty();
        self.deliver(&mut completed);
        self.completed.replace(completed);
        happened
    }

    fn deliver(&self, completed: &mut Vec<(u64, Outcome)>) {
        for (user_data, outcome) in completed.drain(..) {
            match user_data {
                NOBODY => continue,
                BELL => {
                    self.doorbell.quieten();
                    if !cqueue::more(outcome.flags) {
                        self.bell_is_watched.set(false);
                    }
                    continue;
                }
                _ => {}
            }
            let key = Key::from_user_data(user_data);
            let next = self.core.borrow_mut().slab.complete(key, outcome);
            match next {
                Completed::Wake(Some(waker)) => waker.wake(),
                Completed::Wake(None) => {}
                Completed::Drop(completion) => drop(completion),
                Completed::Unknown => unreachable!("the kernel completes what we submitted"),
            }
        }
    }

    /// Waits in our own ring until something completes, a doorbell is rung, or `limit` is over:
    /// much cheaper than glommio's sleep, but glommio sees nothing meanwhile. Says whether
    /// anything happened.
    fn nap(&self, limit: Duration, poll_inbox: &mut impl FnMut() -> bool) -> bool {
        if !self.bell_is_watched.replace(true) {
            let fd = types::Fd(self.doorbell.nap_eventfd().as_raw_fd());
            let events = u32::from(libc::POLLIN.cast_unsigned());
            let watch = opcode::PollAdd::new(fd, events).multi(true).build();
            self.core.borrow_mut().enqueue(watch.user_data(BELL));
        }
        self.doorbell.announce_nap();
        let happened = poll_inbox() || self.turn_with(|ring| ring.wait(limit));
        self.doorbell.announce_awake();
        happened
    }

    /// From here on completions and ringers make the eventfd readable. The caller looks once more
    /// at the ring and at its inbox before it sleeps.
    fn arm(&self) {
        self.core.borrow_mut().ring.enable_eventfd();
        self.doorbell.announce_sleep();
        self.asleep.set(true);
    }

    fn disarm(&self) {
        self.asleep.set(false);
        self.doorbell.announce_awake();
        self.core.borrow_mut().ring.disable_eventfd();
    }

    fn is_awake(&self) -> bool {
        !self.asleep.get()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn wake_driver_with(&self, waker: &Waker) {
        self.driver.set(Some(waker.clone()));
    }

    /// Has the driver take another turn: for who put something into its inbox on this core. Costs
    /// nothing if it runs.
    pub fn wake_driver(&self) {
        if self.asleep.replace(false)
            && let Some(waker) = self.driver.take()
        {
            waker.wake();
        }
    }

    fn cancel_all(&self) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.core.borrow_mut().enqueue(cancel.user_data(NOBODY));
    }
}

impl Drop for Reactor {
    /// The kernel must have let go of all memory before the slab is dropped: closing a ring only
    /// begins its end.
    fn drop(&mut self) {
        let mut completed = Vec::new();
        while self.in_flight() > 0 {
            self.cancel_all();
            {
                let mut core = self.core.borrow_mut();
                core.refill();
                core.ring.enter(1);
                core.ring.reap(&mut completed);
            }
            self.deliver(&mut completed);
        }
    }
}

impl Core {
    fn enqueue(&mut self, request: squeue::Entry) {
        // Order matters: a cancellation must not overtake what it cancels.
        if !self.backlog.is_empty() || !self.ring.push(&request) {
            self.backlog.push_back(request);
            self.refill();
        }
    }

    /// Moves the backlog into the ring, submitting as often as it takes.
    fn refill(&mut self) {
        while let Some(request) = self.backlog.front() {
            if self.ring.push(request) {
                self.backlog.pop_front();
            } else if self.ring.enter(0) == 0 {
                // The kernel takes nothing now (it wants completions reaped first): later.
                return;
            }
        }
    }
}
