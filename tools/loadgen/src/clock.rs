//! The one clock of a run: nanoseconds since its base, the same on every load core of this
//! process (CLOCK_MONOTONIC), and the wall time that belongs to it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the run's base. Copied to every load core, so that stamps made on one core can be
/// read on another.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    base: Instant,
    base_wall_ms: i64,
}

impl RunClock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> RunClock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let base_wall_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        RunClock { base: Instant::now(), base_wall_ms }
    }

    /// A clock whose zero is `base`, with the wall time that belongs to it: one run's clock in
    /// several processes.
    #[must_use]
    pub fn at(base: Instant, base_wall_ms: i64) -> RunClock {
        RunClock { base, base_wall_ms }
    }

    /// Nanoseconds since the base.
    #[inline]
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64 // 584 years fit
    }

    /// The wall time, in Kafka's milliseconds, that belongs to `at_ns`.
    #[must_use]
    pub fn wall_ms(&self, at_ns: u64) -> i64 {
        self.base_wall_ms + (at_ns / 1_000_000) as i64
    }

    /// The first moment of that wall millisecond; `None` before the base.
    #[must_use]
    pub fn ns_of_wall(&self, wall_ms: i64) -> Option<u64> {
        u64::try_from(wall_ms - self.base_wall_ms).ok()?.checked_mul(1_000_000)
    }
}
