//! The clock: wall time for timestamps, monotonic time for waits; real or driven by a test.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time. Everything that decides takes its time from the caller, who asks this.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    Real {
        /// Zero of the monotonic reading.
        start: Instant,
    },
    /// Time that stands still until a test moves it.
    Sim(Rc<SimClock>),
}

/// A duration in the unit of [`Clock::mono_us`].
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// State of a simulated clock.
#[derive(Debug, Default)]
pub struct SimClock {
    wall_ms: Cell<i64>,
    mono_us: Cell<u64>,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn real() -> Clock {
        Clock::Real { start: Instant::now() }
    }

    /// A clock that a test drives; starts at `wall_ms`.
    #[must_use]
    pub fn simulated(wall_ms: i64) -> (Clock, Rc<SimClock>) {
        let sim = Rc::new(SimClock { wall_ms: Cell::new(wall_ms), mono_us: Cell::new(0) });
        (Clock::Sim(sim.clone()), sim)
    }

    /// Milliseconds since the Unix epoch: Kafka's record timestamps. May jump either way.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        match self {
            Clock::Real { .. } => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Clock::Sim(sim) => sim.wall_ms.get(),
        }
    }

    /// Microseconds since some fixed moment; never goes back.
    #[must_use]
    pub fn mono_us(&self) -> u64 {
        match self {
            Clock::Real { start } => micros(start.elapsed()),
            Clock::Sim(sim) => sim.mono_us.get(),
        }
    }
}

impl SimClock {
    /// Moves both clocks forward.
    pub fn advance_ms(&self, ms: u32) {
        self.wall_ms.set(self.wall_ms.get() + i64::from(ms));
        self.mono_us.set(self.mono_us.get() + u64::from(ms) * 1000);
    }

    /// Moves the wall clock only, either way: what an operator or NTP does.
    pub fn jump_wall_ms(&self, delta_ms: i64) {
        self.wall_ms.set(self.wall_ms.get() + delta_ms);
    }
}
