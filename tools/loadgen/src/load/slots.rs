//! The window of one connection: requests that wait for their answers, in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use thalweg::base::signal::Event;

use super::frame_pool::Load;
use super::recorder::Sent;

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Correlation id.
    pub correlation_id: i32,
    /// When it was meant to leave, and left.
    pub sent: Sent,
    /// What it carries.
    pub load: Load,
}

/// The window of one connection, shared by its sending and its receiving half.
pub struct Slots {
    capacity: usize,
    waiting: RefCell<VecDeque<InFlight>>,
    freed: Event,
    freed_at_ns: Cell<u64>,
}

impl Slots {
    /// An empty window for `capacity` requests.
    #[must_use]
    pub fn new(capacity: usize) -> Slots {
        Slots {
            capacity: capacity.max(1),
            waiting: RefCell::new(VecDeque::with_capacity(capacity)),
            freed: Event::new(),
            freed_at_ns: Cell::new(0),
        }
    }

    /// Waits for a free place. Returns since when there has been one, ns of the run's clock, if
    /// the window was full until then; 0 if nothing had to be waited for.
    pub async fn free(&self) -> u64 {
        let mut since_ns = 0;
        while !self.has_room() {
            self.freed.wait().await;
            since_ns = self.freed_at_ns.get();
        }
        since_ns
    }

    /// Whether another request may leave now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.borrow().len() < self.capacity
    }

    /// Waits until nothing is in flight.
    pub async fn drained(&self) {
        while !self.waiting.borrow().is_empty() {
            self.freed.wait().await;
        }
    }

    /// Notes a request that leaves now.
    pub fn push(&self, request: InFlight) {
        self.waiting.borrow_mut().push_back(request);
    }

    /// Takes the oldest request, whose answer arrived at `now_ns`; `None` if nothing was asked.
    pub fn pop(&self, now_ns: u64) -> Option<InFlight> {
        let request = self.waiting.borrow_mut().pop_front()?;
        self.freed_at_ns.set(now_ns);
        self.freed.notify();
        Some(request)
    }

    /// Takes everything that waits: the connection is gone, or the run is over.
    pub fn drain(&self) -> Vec<InFlight> {
        let all = self.waiting.borrow_mut().drain(..).collect();
        self.freed.notify();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    fn request(correlation_id: i32) -> InFlight {
        let load = Load { records: 1, value_bytes: 1, wire_bytes: 1 };
        InFlight { correlation_id, sent: Sent { intended_ns: 1, sent_ns: 2 }, load }
    }

    #[test]
    fn a_full_window_waits_for_the_oldest_answer() {
        block_on(async {
            let slots = Slots::new(2);
            slots.push(request(1));
            assert_eq!(slots.free().await, 0);
            slots.push(request(2));
            let mut free = pin!(slots.free());
            assert!(poll_once(&mut free).await.is_none());
            assert_eq!(slots.pop(77).map(|it| it.correlation_id), Some(1));
            assert_eq!(poll_once(&mut free).await, Some(77));
        });
    }
}
