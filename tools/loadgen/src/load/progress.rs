//! The little that load cores do share: who still produces, and how far the backlog is built and
//! read. Looked at once for each fetch, or each ms; written by producers only until the backlog
//! stands.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A time that has not come.
const NOT_YET: u64 = u64::MAX;

/// How a run goes on, over all load cores.
pub struct Progress {
    producing: AtomicUsize,
    behind: AtomicUsize,
    backlog_bytes: u64,
    built_bytes: AtomicU64,
    drain_ns: AtomicU64,
    drained_bytes: AtomicU64,
    caught_up_ns: AtomicU64,
}

/// How a backlog was read; times are ns of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Bytes of values that waited when the consumers began.
    pub backlog_bytes: u64,
    /// When they began; none if they never did.
    pub from_ns: Option<u64>,
    /// When the last of them had caught up; none if one never did.
    pub to_ns: Option<u64>,
    /// Bytes of batches that they had read by then, each its own part.
    pub drained_bytes: u64,
}

impl Progress {
    /// Of `lanes` that produce and `consumers` that read, once there are `backlog_bytes`.
    #[must_use]
    pub fn new(lanes: usize, consumers: usize, backlog_bytes: u64) -> Progress {
        Progress {
            producing: AtomicUsize::new(lanes),
            behind: AtomicUsize::new(consumers),
            backlog_bytes,
            built_bytes: AtomicU64::new(0),
            drain_ns: AtomicU64::new(NOT_YET),
            drained_bytes: AtomicU64::new(0),
            caught_up_ns: AtomicU64::new(NOT_YET),
        }
    }

    /// A lane has ended.
    pub fn lane_ended(&self) {
        self.producing.fetch_sub(1, Ordering::Release);
    }

    /// Lanes that are still at work.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.producing.load(Ordering::Acquire)
    }

    /// Whether any lane is still at work.
    #[must_use]
    pub fn producing(&self) -> bool {
        self.lanes() > 0
    }

    /// Whether there is a backlog to build at all.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.backlog_bytes > 0
    }

    /// A batch was acknowledged.
    #[inline]
    pub fn acked(&self, value_bytes: u64) {
        if self.backlog_bytes > 0 && self.drain_ns.load(Ordering::Relaxed) == NOT_YET {
            self.built_bytes.fetch_add(value_bytes, Ordering::Relaxed);
        }
    }

    /// Whether consumers may begin; notes `now_ns` as the beginning if it is. They also begin when
    /// nobody builds the backlog any more.
    pub fn may_drain(&self, now_ns: u64) -> bool {
        if self.backlog_bytes == 0 || self.drain_ns.load(Ordering::Relaxed) != NOT_YET {
            return true;
        }
        let built = self.built_bytes.load(Ordering::Relaxed) >= self.backlog_bytes;
        if !built && self.producing() {
            return false;
        }
        // The first one's time stands.
        let _ =
            self.drain_ns.compare_exchange(NOT_YET, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        true
    }

    /// A consumer has been at the end of each of its partitions, after `batch_bytes`.
    pub fn caught_up(&self, now_ns: u64, batch_bytes: u64) {
        self.drained_bytes.fetch_add(batch_bytes, Ordering::Relaxed);
        if self.behind.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.caught_up_ns.store(now_ns, Ordering::Release);
        }
    }

    /// How far the backlog is.
    #[must_use]
    pub fn drain(&self) -> Drain {
        let time = |of: &AtomicU64| Some(of.load(Ordering::Acquire)).filter(|&at| at != NOT_YET);
        Drain {
            backlog_bytes: self.built_bytes.load(Ordering::Relaxed),
            from_ns: time(&self.drain_ns),
            to_ns: time(&self.caught_up_ns),
            drained_bytes: self.drained_bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_begin_when_the_backlog_stands_and_the_last_one_ends_the_drain() {
        let progress = Progress::new(1, 2, 1_000);
        progress.acked(999);
        assert!(!progress.may_drain(10));
        progress.acked(1);
        assert!(progress.may_drain(20) && progress.may_drain(30));
        progress.acked(500); // no part of what waited when they began
        progress.caught_up(40, 600);
        assert_eq!(progress.drain().to_ns, None);
        progress.caught_up(50, 700);
        let expected = Drain {
            backlog_bytes: 1_000,
            from_ns: Some(20),
            to_ns: Some(50),
            drained_bytes: 1_300,
        };
        assert_eq!(progress.drain(), expected);
    }

    #[test]
    fn without_a_backlog_nobody_waits_and_without_producers_nobody_waits_for_ever() {
        assert!(Progress::new(1, 1, 0).may_drain(1));
        let progress = Progress::new(1, 1, 1_000);
        assert!(!progress.may_drain(1));
        progress.lane_ended();
        assert!(progress.may_drain(2));
    }
}
