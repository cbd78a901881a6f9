//! Medians, and how much a ratio of medians is worth: intervals by the bootstrap, which assumes
//! nothing about how runs are distributed.

use serde::Serialize;

use crate::load::schedule::Random;

/// With fewer runs in a group there is no interval at all.
pub const RUNS_MIN: usize = 3;
/// With fewer runs in a group the interval is too narrow for a verdict: the median of five lies between their
/// lowest and highest in 94 of 100 cases, that of three in 75.
pub const RUNS_FIRM_MIN: usize = 5;

/// Resamples of each interval.
const RESAMPLES: usize = 10_000;
/// Part of the resamples beyond each end of an interval: 95 % lie inside.
const TAIL: f64 = 0.025;

/// An interval of confidence of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Whether it rests on enough runs ([`RUNS_FIRM_MIN`]).
    pub firm: bool,
}

/// Whether a difference is more than noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval does not hold 1.
    Outside,
    /// It does.
    Within,
    /// There is no interval, or one that is too narrow for a verdict.
    Unknown,
}

/// The median; of an even number, the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn resample(values: &[f64], random: &mut Random) -> Option<f64> {
    let len = values.len() as u64;
    let picked: Vec<f64> =
        values.iter().map(|_| values[(random.next_u64() % len) as usize]).collect();
    median(&picked)
}

fn interval(runs: usize, mut draw: impl FnMut() -> Option<f64>) -> Option<Interval> {
    if runs < RUNS_MIN {
        return None;
    }
    let mut drawn: Vec<f64> = (0..RESAMPLES).filter_map(|_| draw()).collect();
    drawn.sort_by(f64::total_cmp);
    let at = |part: f64| drawn.get(((drawn.len() as f64 * part) as usize).min(drawn.len() - 1));
    let (low, high) = (*at(TAIL)?, *at(1.0 - TAIL)?);
    Some(Interval { low, high, firm: runs >= RUNS_FIRM_MIN })
}

/// The median of `other` over that of `base`, each resampled by itself; `None` without values or
/// where the base is zero.
#[must_use]
pub fn unpaired(base: &[f64], other: &[f64], seed: u64) -> Option<(f64, Option<Interval>)> {
    let over = |base: f64, other: f64| (base > 0.0).then(|| other / base);
    let ratio = over(median(base)?, median(other)?)?;
    let mut random = Random::new(seed);
    let draw = || over(resample(base, &mut random)?, resample(other, &mut random)?);
    Some((ratio, interval(base.len().min(other.len()), draw)))
}

/// The median of the ratios of pairs `(base, other)`.
#[must_use]
pub fn paired(pairs: &[(f64, f64)], seed: u64) -> Option<(f64, Option<Interval>)> {
    let ratios: Vec<f64> =
        pairs.iter().filter(|(base, _)| *base > 0.0).map(|(base, other)| other / base).collect();
    let ratio = median(&ratios)?;
    let mut random = Random::new(seed);
    Some((ratio, interval(ratios.len(), || resample(&ratios, &mut random))))
}

/// Whether the ratio with this interval is more than noise.
#[must_use]
pub fn judge(interval: Option<&Interval>) -> Verdict {
    match interval {
        None => Verdict::Unknown,
        Some(it) if !it.firm => Verdict::Unknown,
        Some(it) if it.low > 1.0 || it.high < 1.0 => Verdict::Outside,
        Some(_) => Verdict::Within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_clear_difference_is_outside_the_noise_and_equal_runs_are_within() {
        let base = [100.0, 101.0, 99.0, 102.0, 98.0];
        let double: Vec<f64> = base.iter().map(|it| it * 2.0).collect();
        let (ratio, interval) = unpaired(&base, &double, 1).expect("a ratio");
        let interval = interval.expect("five runs");
        assert!((ratio - 2.0).abs() < 1e-9);
        assert!(interval.firm && interval.low > 1.9 && interval.high < 2.1, "{interval:?}");
        assert_eq!(judge(Some(&interval)), Verdict::Outside);
        let same = [101.0, 98.0, 100.0, 99.0, 102.0];
        let (_, interval) = unpaired(&base, &same, 1).expect("a ratio");
        assert_eq!(judge(interval.as_ref()), Verdict::Within);
    }

    #[test]
    fn noise_alone_is_rarely_called_a_difference() {
        let mut random = Random::new(7);
        let mut noisy = || 100.0 + (random.next_u64() % 1_000) as f64 / 50.0;
        let mut outside = 0;
        for trial in 0..100 {
            let base: Vec<f64> = (0..7).map(|_| noisy()).collect();
            let other: Vec<f64> = (0..7).map(|_| noisy()).collect();
            let (_, interval) = unpaired(&base, &other, trial).expect("a ratio");
            outside += u32::from(judge(interval.as_ref()) == Verdict::Outside);
        }
        assert!(outside <= 12, "{outside} of 100");
    }

    #[test]
    fn pairs_see_through_what_moves_both() {
        // The machine got twice as fast in between; the ratio stayed.
        let pairs: Vec<(f64, f64)> =
            [50.0, 60.0, 75.0, 90.0, 100.0].iter().map(|it| (*it, it * 1.1)).collect();
        let (base, other): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let (_, interval) = unpaired(&base, &other, 1).expect("a ratio");
        assert_eq!(judge(interval.as_ref()), Verdict::Within);
        let (ratio, interval) = paired(&pairs, 1).expect("a ratio");
        assert!((ratio - 1.1).abs() < 1e-9);
        assert_eq!(judge(interval.as_ref()), Verdict::Outside);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_two_runs_give_none() {
        let (a, b) = ([1.0, 2.0, 3.0, 5.0], [2.0, 2.5, 3.5, 9.0]);
        assert_eq!(unpaired(&a, &b, 3), unpaired(&a, &b, 3));
        assert_ne!(unpaired(&a, &b, 3), None);
        let (_, interval) = unpaired(&a, &[20.0, 21.0, 22.0, 23.0], 3).expect("a ratio");
        assert_eq!(judge(interval.as_ref()), Verdict::Unknown, "four runs are no proof");
        let (_, interval) = unpaired(&a[..2], &b[..2], 3).expect("a ratio");
        assert_eq!((interval, judge(None)), (None, Verdict::Unknown));
        assert_eq!(unpaired(&[0.0, 0.0, 0.0], &b, 3), None);
    }
}
