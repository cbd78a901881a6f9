//! Fetches that wait for a partition to change.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::base::signal::Event;

/// The long polls that are parked on one partition. A fetch of many partitions parks one event on
/// all of them and waits once; whichever changes first wakes it, and it reads again. A fetch that
/// ends (by its deadline, or woken by another partition) just drops its event: the queue holds no
/// fetch alive and forgets the dead ones as it grows, so an idle partition with readers that poll
/// for days stays small.
#[derive(Default)]
pub struct FetchQueue {
    parked: RefCell<Vec<Weak<Event>>>,
}

/// Below this many entries the dead are not looked for.
const SWEEP_FROM: usize = 16;

impl FetchQueue {
    /// A queue without fetches.
    #[must_use]
    pub fn new() -> FetchQueue {
        FetchQueue::default()
    }

    /// Has `fetch` notified at the next [`FetchQueue::wake`], once. Take [`Event::wait`]'s future
    /// before reading what the wait depends on, or park without an `.await` after that reading.
    pub fn park(&self, fetch: &Rc<Event>) {
        let mut parked = self.parked.borrow_mut();
        // Swept only when full, and grown where the sweep freed less than half: constant work a
        // park on average, and at most about as many dead entries as live ones.
        if parked.len() >= SWEEP_FROM && parked.len() == parked.capacity() {
            parked.retain(|event| event.strong_count() > 0);
            let live = parked.len();
            if live > parked.capacity() / 2 {
                parked.reserve(live);
            }
        }
        parked.push(Rc::downgrade(fetch));
    }

    /// Notifies everyone who is parked, in the order in which they came. Returns how many lived.
    pub fn wake(&self) -> usize {
        // Taken out first: a task that is woken may park again at once.
        let parked = std::mem::take(&mut *self.parked.borrow_mut());
        let mut woken = 0;
        for event in parked.iter().filter_map(Weak::upgrade) {
            event.notify();
            woken += 1;
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_fetch_of_two_partitions_is_woken_by_either() {
        let (first, second) = (FetchQueue::new(), FetchQueue::new());
        let fetch = Rc::new(Event::new());
        block_on(async {
            for queue in [&first, &second] {
                first.park(&fetch);
                second.park(&fetch);
                let mut wait = fetch.wait();
                assert!(poll_once(&mut wait).await.is_none());
                assert!(queue.wake() > 0);
                assert!(poll_once(&mut wait).await.is_some());
            }
        });
    }

    #[test]
    fn a_fetch_that_ended_is_not_woken_and_not_kept() {
        let queue = FetchQueue::new();
        let live = Rc::new(Event::new());
        queue.park(&live);
        for _ in 0..100_000 {
            queue.park(&Rc::new(Event::new()));
        }
        assert!(queue.parked.borrow().len() <= 64);
        assert_eq!(queue.wake(), 1);
        assert_eq!(queue.wake(), 0);
    }
}
