//! The mesh: messages between cores, first in first out for each ordered pair.
//!
//! A message is a closure that runs on the receiving core. Senders collect during one turn of their
//! driver and ring each receiver's doorbell once at its end, so that a burst costs one wake-up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::runtime::Shard;
use crate::base::ids::ShardId;
use crate::base::signal::{OneReceiver, OneSender, oneshot};
use crate::io::foreign::Foreign;
use crate::io::reactor::{Doorbell, Reactor};

/// What one core asks of another: runs there, on the shard's thread.
pub type Message = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// Messages in flight between one pair of cores before the sender keeps them back. What it keeps is
/// bounded by the requests that its connections may have in flight.
const PAIR_QUEUE_MESSAGES_MAX: usize = 4096;

/// All queues of the process, made before the cores start.
pub struct MeshPlan {
    shard_count: usize,
    /// `queues[from * shard_count + to]`
    queues: Vec<ArrayQueue<Message>>,
    /// Filled by each core as it starts.
    doorbells: Vec<std::sync::OnceLock<Doorbell>>,
}

impl MeshPlan {
    /// Queues for `shard_count` cores.
    #[must_use]
    pub fn new(shard_count: usize) -> Arc<MeshPlan> {
        let pairs = shard_count * shard_count;
        Arc::new(MeshPlan {
            shard_count,
            queues: (0..pairs).map(|_| ArrayQueue::new(PAIR_QUEUE_MESSAGES_MAX)).collect(),
            doorbells: (0..shard_count).map(|_| std::sync::OnceLock::new()).collect(),
        })
    }

    fn queue(&self, from: ShardId, to: ShardId) -> &ArrayQueue<Message> {
        &self.queues[usize::from(from.0) * self.shard_count + usize::from(to.0)]
    }
}

/// One core's end of the mesh.
pub struct Mesh {
    plan: Arc<MeshPlan>,
    me: ShardId,
    /// Messages that found their queue full, for each receiver.
    kept: RefCell<Vec<VecDeque<Message>>>,
    /// Receivers that were sent something in this turn.
    unrung: RefCell<Vec<bool>>,
    any_unrung: Cell<bool>,
    /// Whose driver takes the turns: it may sleep while a task of this core sends.
    reactor: Rc<Reactor>,
}

impl Mesh {
    /// This core's end; publishes its doorbell to the others.
    #[must_use]
    pub fn join(plan: Arc<MeshPlan>, me: ShardId, reactor: Rc<Reactor>) -> Mesh {
        let fresh = plan.doorbells[usize::from(me.0)].set(reactor.doorbell()).is_ok();
        assert!(fresh, "a shard joins the mesh once");
        let count = plan.shard_count;
        Mesh {
            plan,
            me,
            kept: RefCell::new((0..count).map(|_| VecDeque::new()).collect()),
            unrung: RefCell::new(vec![false; count]),
            any_unrung: Cell::new(false),
            reactor,
        }
    }

    /// How many cores there are.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.plan.shard_count
    }

    /// Sends; the receiver is woken at the end of this turn ([`Mesh::turn`]).
    pub fn send(&self, to: ShardId, message: Message) {
        let mut kept = self.kept.borrow_mut();
        let backlog = &mut kept[usize::from(to.0)];
        if !backlog.is_empty() {
            backlog.push_back(message); // behind the ones that wait, or the order would break
        } else if let Err(message) = self.plan.queue(self.me, to).push(message) {
            backlog.push_back(message);
        }
        self.unrung.borrow_mut()[usize::from(to.0)] = true;
        self.any_unrung.set(true);
        self.reactor.wake_driver();
    }

    /// One turn: runs what arrived, passes on what was kept back, rings whom it concerns. Returns
    /// whether there was anything to do.
    pub fn turn(&self, shard: &Rc<Shard>) -> bool {
        let mut busy = false;
        for from in 0..self.plan.shard_count {
            let from = ShardId(u16::try_from(from).unwrap_or(u16::MAX));
            let queue = self.plan.queue(from, self.me);
            // Bounded by what is there now, so that a chatty sender cannot hold the turn.
            for _ in 0..queue.len() {
                let Some(message) = queue.pop() else { break };
                message(shard);
                busy = true;
            }
        }
        if self.any_unrung.get() {
            self.flush();
            busy = true;
        }
        busy
    }

    fn flush(&self) {
        self.any_unrung.set(false);
        let mut kept = self.kept.borrow_mut();
        for (to, rung) in self.unrung.borrow_mut().iter_mut().enumerate() {
            if !std::mem::take(rung) {
                continue;
            }
            let receiver = ShardId(u16::try_from(to).unwrap_or(u16::MAX));
            let backlog = &mut kept[to];
            while let Some(message) = backlog.pop_front() {
                if let Err(message) = self.plan.queue(self.me, receiver).push(message) {
                    backlog.push_front(message);
                    *rung = true; // try again next turn
                    self.any_unrung.set(true);
                    break;
                }
            }
            if let Some(doorbell) = self.plan.doorbells[to].get() {
                doorbell.ring();
            }
        }
    }
}

/// The way back of an answer: opened on the core that asked.
pub struct Reply<T> {
    origin: ShardId,
    slot: Foreign<OneSender<T>>,
}

impl<T: Send + 'static> Reply<T> {
    /// Sends `value` from the answering core to the one that asked.
    pub fn send(self, shard: &Shard, value: T) {
        let slot = self.slot;
        if self.origin == shard.id() {
            slot.open().send(value);
        } else {
            shard.mesh().send(self.origin, Box::new(move |_| slot.open().send(value)));
        }
    }
}

impl Shard {
    /// Runs `work` on shard `to` (at once if that is this one) and resolves to what it sends
    /// through its [`Reply`]; `None` if the other core ended without an answer.
    ///
    /// The message leaves before this function returns, so calls made one after the other arrive in
    /// that order even if their futures are awaited later.
    pub fn call<T: Send + 'static>(
        self: &Rc<Self>,
        to: ShardId,
        work: impl FnOnce(&Rc<Shard>, Reply<T>) + Send + 'static,
    ) -> OneReceiver<T> {
        let (sender, receiver) = oneshot();
        let reply = Reply { origin: self.id(), slot: Foreign::new(sender) };
        if to == self.id() {
            work(self, reply);
        } else {
            self.mesh().send(to, Box::new(move |shard| work(shard, reply)));
        }
        receiver
    }
}
