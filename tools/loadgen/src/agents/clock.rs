//! How far apart two hosts' clocks are. The run's clock is one for all agents: on one kernel it is
//! the same monotonic clock; between hosts it is translated with an offset that is measured, and
//! known to half of the shortest round trip only.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Exchanges of which the fastest counts.
pub const EXCHANGES: usize = 50;
/// Two readings of one clock that lie further apart were interrupted.
const READINGS: usize = 20;

/// How an agent's clock relates to the coordinator's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Offset {
    /// Agent's clock less coordinator's, ns.
    pub ns: i64,
    /// How far off that may be, ns; 0 where both are one clock.
    pub uncertainty_ns: i64,
}

impl Offset {
    /// From exchanges: sent, agent's clock, received, all in ns. `same_boot` says that both run on
    /// one kernel. `None` if there was no exchange.
    #[must_use]
    pub fn of(exchanges: &[(i64, i64, i64)], same_boot: bool) -> Option<Offset> {
        let fastest = exchanges.iter().min_by_key(|(sent, _, received)| received - sent)?;
        let &(sent, agent, received) = fastest;
        let uncertainty_ns = (received - sent) / 2 + 1;
        let ns = agent - (sent + (received - sent) / 2);
        // A kernel may still show different clocks to its containers (time namespaces).
        if same_boot && ns.abs() <= uncertainty_ns {
            return Some(Offset { ns: 0, uncertainty_ns: 0 });
        }
        Some(Offset { ns, uncertainty_ns })
    }
}

/// The monotonic clock, ns.
#[must_use]
pub fn mono_ns() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The moment at which the monotonic clock says `mono_ns`, to some 50 ns.
///
/// # Errors
/// When it is before the machine's start.
pub fn instant_of(mono_ns: i64) -> io::Result<Instant> {
    // The reading between two of the raw clock that were closest.
    let mut best: Option<(i64, i64, Instant)> = None;
    for _ in 0..READINGS {
        let (before, now, after) = (self::mono_ns(), Instant::now(), self::mono_ns());
        if best.is_none_or(|(shortest, ..)| after - before < shortest) {
            best = Some((after - before, before + (after - before) / 2, now));
        }
    }
    let impossible = || io::Error::new(io::ErrorKind::InvalidData, "a time that never was");
    let (_, now_ns, now) = best.ok_or_else(impossible)?;
    let ahead = mono_ns.saturating_sub(now_ns);
    let distance = Duration::from_nanos(ahead.unsigned_abs());
    let moment = if ahead >= 0 { now.checked_add(distance) } else { now.checked_sub(distance) };
    moment.ok_or_else(impossible)
}

/// Names this boot of the kernel; empty where the kernel does not tell.
#[must_use]
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// This host's name.
#[must_use]
pub fn host_name() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_exchange_tells_the_offset_and_its_half_how_far_off_it_may_be() {
        // The agent's clock is 1,000 ahead; one exchange was slow on its way back.
        let exchanges = [(0, 1_050, 100), (200, 1_210, 900), (1_000, 2_010, 1_020)];
        let offset = Offset::of(&exchanges, false).expect("exchanges");
        assert_eq!(offset, Offset { ns: 1_000, uncertainty_ns: 11 });
        // The kernel is the same, the clock is not.
        assert_eq!(Offset::of(&exchanges, true), Some(offset));
        let same = [(0, 52, 100), (200, 207, 220)];
        assert_eq!(Offset::of(&same, true), Some(Offset { ns: 0, uncertainty_ns: 0 }));
        assert_eq!(Offset::of(&[], true), None);
    }

    #[test]
    fn a_moment_of_the_monotonic_clock_is_found_before_and_after_now() {
        for distance in [-1_000_000_000i64, 0, 1_000_000_000] {
            let found = instant_of(mono_ns() + distance).expect("exists");
            let now = Instant::now();
            let apart = if found > now { found - now } else { now - found };
            let error = apart.as_nanos().abs_diff(distance.unsigned_abs().into());
            // The test itself may be interrupted between two readings.
            assert!(error < 100_000_000, "{error}");
        }
    }
}
