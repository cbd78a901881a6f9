//! Medians with their spread, and ratios of what was measured in one round. Pure.

use serde::Serialize;

use crate::compare::median;

/// A figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; between the two middle ones if there are two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`; `None` if there is none. What is not a number does not count.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|it| it.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Spread { median: median(&values)?, min, max })
    }
}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// How much better `base` was than `other`, round by round (both in order of rounds): above 1 the
/// base is ahead. Rounds in which either has no figure do not count.
#[must_use]
pub fn ratios(base: &[Option<f64>], other: &[Option<f64>], better: Better) -> Option<Spread> {
    let pairs = base.iter().zip(other).filter_map(|(base, other)| base.zip(*other));
    Spread::of(pairs.map(|(base, other)| match better {
        Better::Higher => base / other,
        Better::Lower => other / base,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_with_the_extremes_beside_it() {
        let spread = Spread::of([3.0, 1.0, f64::NAN, 2.0]).expect("values");
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([1.0, 2.0]).map(|it| it.median), Some(1.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_pairs_what_ran_in_the_same_round_and_is_above_1_where_the_base_is_ahead() {
        // The machine was twice as slow in the second round; the ratio does not care.
        let (base, other) = ([Some(100.0), Some(50.0), None], [Some(50.0), Some(25.0), Some(9.0)]);
        let throughput = ratios(&base, &other, Better::Higher).expect("two rounds");
        assert_eq!(throughput, Spread { median: 2.0, min: 2.0, max: 2.0 });
        let cost = ratios(&[Some(0.5)], &[Some(1.5)], Better::Lower).expect("a round");
        assert_eq!(cost.median, 3.0);
        assert_eq!(ratios(&[None], &[Some(1.0)], Better::Lower), None);
        // Nothing written by the base: no ratio, rather than an infinite one.
        assert_eq!(ratios(&[Some(0.0)], &[Some(1.0)], Better::Lower), None);
    }
}
