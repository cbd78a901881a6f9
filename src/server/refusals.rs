//! One log line a second for refused input, with a count of what was left out, so that a client that
//! sends garbage cannot fill the log.

use std::cell::Cell;
use std::net::SocketAddr;

use tracing::warn;

use crate::base::clock::Clock;

/// At most one line in this time.
const LINE_INTERVAL_US: u64 = 1_000_000;

/// Counts refused requests of one core and logs some of them.
pub struct Refusals {
    clock: Clock,
    next_line_us: Cell<u64>,
    unlogged: Cell<u64>,
    total: Cell<u64>,
}

impl Refusals {
    /// A quiet log.
    #[must_use]
    pub fn new(clock: Clock) -> Refusals {
        Refusals { clock, next_line_us: Cell::new(0), unlogged: Cell::new(0), total: Cell::new(0) }
    }

    /// Counts one refusal, and logs it unless a line was written within the last second.
    pub fn note(&self, peer: SocketAddr, reason: &str) {
        self.total.set(self.total.get() + 1);
        let now_us = self.clock.mono_us();
        if now_us < self.next_line_us.get() {
            self.unlogged.set(self.unlogged.get() + 1);
            return;
        }
        self.next_line_us.set(now_us + LINE_INTERVAL_US);
        let left_out = self.unlogged.replace(0);
        warn!(%peer, left_out, "connection refused: {reason}");
    }

    /// Refusals since the start.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}
