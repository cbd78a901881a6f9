//! Percentiles of a histogram, with what they rest on.

use hdrhistogram::Histogram;
use serde::Serialize;

/// A percentile with fewer samples beyond it says little; it is marked.
pub const SAMPLES_BEYOND_MIN: u64 = 20;

/// The percentiles of every table, as quantile and name.
pub const REPORTED: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// One percentile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// `p99` and the like.
    pub name: &'static str,
    /// Latency in µs.
    pub us: f64,
    /// Samples above this percentile.
    pub samples_beyond: u64,
    /// Whether there are enough of them ([`SAMPLES_BEYOND_MIN`]).
    pub firm: bool,
}

/// A latency distribution in the numbers that are reported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Samples: one for each request.
    pub samples: u64,
    /// Mean in µs.
    pub mean_us: f64,
    /// Smallest in µs.
    pub min_us: f64,
    /// [`REPORTED`], in order.
    pub percentiles: Vec<Percentile>,
    /// Largest in µs.
    pub max_us: f64,
}

impl Summary {
    /// Reads `histogram` (ns); `None` if it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Summary> {
        let samples = histogram.len();
        if samples == 0 {
            return None;
        }
        let percentiles = REPORTED
            .iter()
            .map(|&(quantile, name)| {
                let samples_beyond = (samples as f64 * (1.0 - quantile) + 1e-6) as u64;
                Percentile {
                    name,
                    us: to_us(histogram.value_at_quantile(quantile).min(histogram.max())),
                    samples_beyond,
                    firm: samples_beyond >= SAMPLES_BEYOND_MIN,
                }
            })
            .collect();
        Some(Summary {
            samples,
            mean_us: histogram.mean() / 1e3,
            min_us: to_us(histogram.min()),
            percentiles,
            max_us: to_us(histogram.max()),
        })
    }

    /// The percentile called `name`, in µs.
    #[must_use]
    pub fn us(&self, name: &str) -> Option<f64> {
        self.percentiles.iter().find(|percentile| percentile.name == name).map(|p| p.us)
    }
}

fn to_us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::latency_histogram;

    #[test]
    fn a_percentile_that_rests_on_few_samples_is_marked() {
        let mut histogram = latency_histogram();
        for at in 1..=20_000u64 {
            histogram.saturating_record(at * 1000);
        }
        let summary = Summary::of(&histogram).expect("has samples");
        let firm: Vec<bool> = summary.percentiles.iter().map(|p| p.firm).collect();
        // 20 samples lie beyond p99.9 of 20,000; only 2 beyond p99.99.
        assert_eq!(firm, [true, true, true, true, false]);
        assert_eq!(summary.percentiles[3].samples_beyond, 20);
        assert!((summary.us("p50").expect("p50") - 10_000.0).abs() < 15.0);
    }

    #[test]
    fn no_percentile_exceeds_the_maximum_and_nothing_has_none() {
        let mut histogram = latency_histogram();
        assert_eq!(Summary::of(&histogram), None);
        histogram.saturating_record(123_456_789);
        let summary = Summary::of(&histogram).expect("one sample");
        assert!(summary.percentiles.iter().all(|p| p.us <= summary.max_us && !p.firm));
    }
}
