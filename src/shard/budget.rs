//! A bound on bytes held by one core: who needs more waits, which makes it stop reading.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::signal::Event;

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
}
