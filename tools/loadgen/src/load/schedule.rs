//! When requests are meant to leave. Pure: time comes in as nanoseconds of the run's clock.
//!
//! In an open loop the intended times are fixed before the run and never move, whatever the broker
//! does: latency is counted from them, so a stall of the broker shows in every request that should
//! have left meanwhile (no coordinated omission).

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal gaps.
    Constant,
    /// Exponential gaps: independent senders.
    Poisson,
}

/// The intended send times of one lane, in order.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// No intended times: a request leaves when it can.
    Closed,
    /// Equal gaps.
    Constant {
        /// Time of arrival 0 in ns, with the fraction kept so that nothing drifts.
        first_ns: f64,
        /// Gap in ns.
        gap_ns: f64,
        /// Arrivals already taken.
        taken: u64,
    },
    /// Exponential gaps of a mean.
    Poisson {
        /// The next arrival in ns.
        next_ns: f64,
        /// Mean gap in ns.
        gap_ns: f64,
        /// State of the generator.
        random: Random,
    },
    /// One schedule after the other.
    Steps {
        /// The one that runs, and when it ends.
        current: Box<Schedule>,
        /// When it ends, ns.
        end_ns: u64,
        /// What comes then, the last first, each with its end.
        later: Vec<(Schedule, u64)>,
    },
}

impl Schedule {
    /// An open loop of `per_second` arrivals from `start_ns`. `phase` in `0..1` shifts it by a part
    /// of a gap, so that many lanes do not send in one burst.
    #[must_use]
    pub fn open(
        arrivals: Arrivals,
        start_ns: u64,
        per_second: f64,
        phase: f64,
        seed: u64,
    ) -> Schedule {
        let gap_ns = 1e9 / per_second.max(1e-6);
        match arrivals {
            Arrivals::Constant => {
                Schedule::Constant { first_ns: start_ns as f64 + gap_ns * phase, gap_ns, taken: 0 }
            }
            Arrivals::Poisson => {
                let mut random = Random::new(seed);
                let next_ns = start_ns as f64 + random.exponential() * gap_ns;
                Schedule::Poisson { next_ns, gap_ns, random }
            }
        }
    }

    /// Open loops in turn, each with the time when it ends; the last goes on for ever.
    #[must_use]
    pub fn steps(mut steps: Vec<(Schedule, u64)>) -> Schedule {
        steps.reverse();
        let Some((first, end_ns)) = steps.pop() else { return Schedule::Closed };
        let mut all = Schedule::Steps { current: Box::new(first), end_ns, later: steps };
        all.next_step();
        all
    }

    /// Goes on to the step that the next arrival belongs to.
    fn next_step(&mut self) {
        let Schedule::Steps { current, end_ns, later } = self else { return };
        while current.next_ns().is_some_and(|at| at >= *end_ns)
            && let Some((next, next_end_ns)) = later.pop()
        {
            **current = next;
            *end_ns = next_end_ns;
        }
    }

    /// The intended time of the next arrival; `None` in a closed loop.
    #[inline]
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        match self {
            Schedule::Closed => None,
            Schedule::Constant { first_ns, gap_ns, taken } => {
                Some((first_ns + gap_ns * *taken as f64) as u64)
            }
            Schedule::Poisson { next_ns, .. } => Some(*next_ns as u64),
            Schedule::Steps { current, .. } => current.next_ns(),
        }
    }

    /// Takes the next arrival.
    #[inline]
    pub fn advance(&mut self) {
        match self {
            Schedule::Closed => {}
            Schedule::Constant { taken, .. } => *taken += 1,
            Schedule::Poisson { next_ns, gap_ns, random } => {
                *next_ns += random.exponential() * *gap_ns;
            }
            Schedule::Steps { current, .. } => {
                current.advance();
                self.next_step();
            }
        }
    }
}

/// xorshift64*: arrivals and payload need speed and a seed, not secrecy.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal sequences.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        // Neighbouring seeds must not give neighbouring sequences, and zero would stay zero.
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Evenly distributed between 0 and 1, both out.
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Evenly distributed below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next_u64()) * end as u128) >> 64) as usize
    }

    /// Puts `items` into an order of its own.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Exponentially distributed with mean 1.
    pub fn exponential(&mut self) -> f64 {
        let unit = ((self.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64; // in (0, 1]
        -unit.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let at = schedule.next_ns().expect("open loop");
                schedule.advance();
                at
            })
            .collect()
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        // 3 per second: the gap is not a whole number of nanoseconds.
        let mut schedule = Schedule::open(Arrivals::Constant, 1_000_000_000, 3.0, 0.0, 1);
        let times = take(&mut schedule, 3 * 3600 + 1);
        assert_eq!(times[0], 1_000_000_000);
        assert_eq!(times[3 * 3600], 3_601_000_000_000);
    }

    #[test]
    fn intended_times_do_not_depend_on_when_they_are_taken() {
        let mut early = Schedule::open(Arrivals::Poisson, 5, 1000.0, 0.0, 9);
        let mut late = early.clone();
        let first = take(&mut early, 10);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(take(&mut late, 10), first);
    }

    #[test]
    fn lanes_with_phases_share_the_rate_evenly() {
        let mut all: Vec<u64> = (0..4)
            .flat_map(|lane| {
                let phase = f64::from(lane) / 4.0;
                take(&mut Schedule::open(Arrivals::Constant, 0, 250.0, phase, 0), 250)
            })
            .collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
    }

    #[test]
    fn each_step_offers_its_own_rate_for_its_own_time() {
        const SECOND: u64 = 1_000_000_000;
        for (arrivals, slack) in [(Arrivals::Constant, 1), (Arrivals::Poisson, 400)] {
            let step = |from: u64, rate: f64, seed| {
                Schedule::open(arrivals, from * SECOND, rate, 0.5, seed)
            };
            let mut schedule = Schedule::steps(vec![
                (step(1, 1_000.0, 1), 3 * SECOND),
                (step(3, 0.001, 2), 4 * SECOND), // next to none: the step may see no arrival
                (step(4, 5_000.0, 3), 6 * SECOND),
            ]);
            let mut counts = [0i64; 7];
            let mut last = 0;
            while let Some(at) = schedule.next_ns().filter(|&at| at < 6 * SECOND) {
                assert!(at >= last);
                last = at;
                counts[(at / SECOND) as usize] += 1;
                schedule.advance();
            }
            assert_eq!((counts[0], counts[3]), (0, 0));
            for (second, rate) in [(1, 1_000), (2, 1_000), (4, 5_000), (5, 5_000)] {
                assert!((counts[second] - rate).abs() <= slack, "{arrivals:?} {counts:?}");
            }
        }
    }

    #[test]
    fn a_shuffle_keeps_everything_and_every_place_is_as_likely() {
        let mut random = Random::new(1);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            let mut items = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
            random.shuffle(&mut items);
            counts[items.iter().position(|&it| it == 0).expect("still there")] += 1;
        }
        // Chi squared with 9 degrees of freedom: above 27.9 once in a thousand seeds.
        let chi: f64 = counts.iter().map(|&it| (f64::from(it) - 1e3).powi(2) / 1e3).sum();
        assert!(chi < 27.9, "{chi}");
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let mut schedule = Schedule::open(Arrivals::Poisson, 0, 1_000_000.0, 0.0, 42);
        let times = take(&mut schedule, 200_001);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1000.0).abs() < 15.0, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{}", variance.sqrt() / mean);
    }
}
