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

/// A moment by both clocks: the wall clock, which may jump, and the monotonic one, which does not and
/// means nothing beyond this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch, as the wall clock shows them.
    pub wall_ms: i64,
    /// Milliseconds of the monotonic clock; negative before its zero.
    pub steady_ms: i64,
}

impl Moment {
    /// When the wall clock showed `wall_ms`, if it has not jumped since; at the latest now, so that
    /// what was written under a clock that ran ahead grows old from here on.
    #[must_use]
    pub fn of_wall(wall_ms: i64, now: Moment) -> Moment {
        let ago_ms = now.wall_ms.saturating_sub(wall_ms).max(0);
        let wall_ms = wall_ms.min(now.wall_ms);
        Moment { wall_ms, steady_ms: now.steady_ms.saturating_sub(ago_ms) }
    }
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

    /// A clock that stands still: for what is done at one moment.
    #[must_use]
    pub fn standing(wall_ms: i64) -> Clock {
        Clock::simulated(wall_ms).0
    }

    /// Both clocks at once.
    #[must_use]
    pub fn now(&self) -> Moment {
        let steady_ms = i64::try_from(self.mono_us() / 1000).unwrap_or(i64::MAX);
        Moment { wall_ms: self.wall_ms(), steady_ms }
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
