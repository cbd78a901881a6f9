//! A bound on bytes held by one core: who needs more waits, which makes it stop reading.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::task;
use crate::base::signal::Event;

/// How long, and how often, [`AnswerBudget::wait_for_room`] looks: only an overloaded core does.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
const ROOM_LOOKS_MAX: usize = 1000;

/// A pool of bytes. Cheap to clone: clones share the pool.
#[derive(Clone)]
pub struct Budget(Rc<Pool>);

struct Pool {
    limit: usize,
    used: Cell<usize>,
    freed: Event,
}

/// Bytes taken from a [`Budget`]; dropping gives them back.
pub struct Permit {
    pool: Rc<Pool>,
    bytes: usize,
}

impl Budget {
    /// A pool of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Budget {
        Budget(Rc::new(Pool { limit, used: Cell::new(0), freed: Event::new() }))
    }

    /// Takes `bytes`, waiting until they fit. A request larger than the whole pool is let through
    /// once nothing else is held, so that a small budget slows a large frame but never blocks it.
    pub async fn acquire(&self, bytes: usize) -> Permit {
        while self.0.used.get() > 0 && self.0.used.get().saturating_add(bytes) > self.0.limit {
            self.0.freed.wait().await;
        }
        self.0.used.set(self.0.used.get() + bytes);
        Permit { pool: self.0.clone(), bytes }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.get()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.used.set(self.pool.used.get() - self.bytes);
        self.pool.freed.notify();
    }
}

/// A bound on the bytes of answers that wait for their clients to take them. Unlike a [`Budget`]'s,
/// its permits may be given back on another core.
#[derive(Clone)]
pub struct AnswerBudget {
    limit: usize,
    used: Arc<AtomicUsize>,
}

/// Bytes taken from an [`AnswerBudget`]; dropping gives them back.
pub struct AnswerPermit {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

/// Bytes of an answer with the permit to hold the whole of it.
struct Held {
    bytes: Bytes,
    _permit: AnswerPermit,
}

impl AnswerBudget {
    /// A pool of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> AnswerBudget {
        AnswerBudget { limit, used: Arc::default() }
    }

    /// Whether an answer of `bytes` may be held now: if there is room, or nothing else is held.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used == 0 || used.saturating_add(bytes) <= self.limit
    }

    /// Waits until an answer of `bytes` may be held; one of none always may. Where clients do not take what they asked for,
    /// that may be never: `false` after a while, and others get empty answers and ask again.
    pub async fn wait_for_room(&self, bytes: usize) -> bool {
        for _ in 0..ROOM_LOOKS_MAX {
            if bytes == 0 || self.has_room(bytes) {
                return true;
            }
            task::sleep(ROOM_PAUSE).await;
        }
        false
    }

    /// Takes `bytes`, whether there is room or not.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> AnswerPermit {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        AnswerPermit { used: self.used.clone(), bytes }
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl AnswerPermit {
    /// Ties it to `bytes`: it is given back with their last slice, wherever that is dropped.
    #[must_use]
    pub fn tie(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _permit: self })
    }
}

impl Drop for AnswerPermit {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn who_does_not_fit_waits_until_bytes_come_back() {
        block_on(async {
            let budget = Budget::new(100);
            let first = budget.acquire(80).await;
            let mut second = Box::pin(budget.acquire(30));
            assert!(poll_once(&mut second).await.is_none());
            drop(first);
            let second = second.await;
            assert_eq!(budget.used(), 30);
            drop(second);
            assert_eq!(budget.used(), 0);
        });
    }

    #[test]
    fn a_request_larger_than_the_pool_passes_alone() {
        block_on(async {
            let budget = Budget::new(100);
            let large = budget.acquire(1000).await;
            let mut next = Box::pin(budget.acquire(1));
            assert!(poll_once(&mut next).await.is_none());
            drop(large);
            next.await;
        });
    }

    #[test]
    fn an_answer_counts_until_its_last_slice_is_gone() {
        let budget = AnswerBudget::new(100);
        assert!(budget.has_room(1000), "a large answer alone is let through");
        let tied = budget.hold(80).tie(Bytes::from_static(b"records"));
        assert!(budget.has_room(20) && !budget.has_room(21));
        let slice = tied.slice(2..4);
        drop(tied);
        assert_eq!(budget.used(), 80);
        std::thread::spawn(move || assert_eq!(&slice[..], b"co")).join().expect("no panic");
        assert_eq!(budget.used(), 0);
        drop(budget.hold(5));
        assert_eq!(budget.used(), 0);
    }
}
