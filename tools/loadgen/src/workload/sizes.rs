//! How large records are: one size, or a distribution of sizes. Pure.
//!
//! Samples are taken by inverting the distribution function, so that a small pool of batches can
//! take one sample of each of many slices of equal probability and show the distribution well.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{parse_bytes, read};

/// Largest single value, bytes: a sample beyond it counts as this.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Slices that a mean is computed from.
const MEAN_SLICES: u32 = 10_000;

/// Bytes of a record's value.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordBytes {
    /// All the same.
    Fixed(usize),
    /// Every size from the first to the last alike.
    Uniform(usize, usize),
    /// Normal: mean and standard deviation; what falls below 1 is 1.
    Normal(f64, f64),
    /// Lognormal: median, and the standard deviation of the logarithm.
    LogNormal(f64, f64),
    /// Some sizes, each with its weight.
    Weighted(Vec<(usize, f64)>),
}

impl RecordBytes {
    /// The size below which the part `unit` (0 to 1, both out) of all records are.
    #[must_use]
    pub fn quantile(&self, unit: f64) -> usize {
        let bytes = match self {
            RecordBytes::Fixed(bytes) => return *bytes,
            RecordBytes::Uniform(min, max) => {
                (*min as f64 + unit * (max - min + 1) as f64).floor().min(*max as f64)
            }
            RecordBytes::Normal(mean, deviation) => mean + deviation * normal_quantile(unit),
            RecordBytes::LogNormal(median, sigma) => median * (sigma * normal_quantile(unit)).exp(),
            RecordBytes::Weighted(sizes) => weighted_quantile(sizes, unit) as f64,
        };
        bytes.round().clamp(1.0, VALUE_BYTES_MAX as f64) as usize
    }

    /// The mean size, bytes.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if let RecordBytes::Fixed(bytes) = self {
            return *bytes as f64;
        }
        let slice = |idx: u32| (f64::from(idx) + 0.5) / f64::from(MEAN_SLICES);
        (0..MEAN_SLICES).map(|idx| self.quantile(slice(idx)) as f64).sum::<f64>()
            / f64::from(MEAN_SLICES)
    }

    /// The size, if there is only one.
    #[must_use]
    pub fn fixed(&self) -> Option<usize> {
        match self {
            RecordBytes::Fixed(bytes) => Some(*bytes),
            _ => None,
        }
    }
}

fn weighted_quantile(sizes: &[(usize, f64)], unit: f64) -> usize {
    let total: f64 = sizes.iter().map(|(_, weight)| weight).sum();
    let mut left = unit * total;
    for &(bytes, weight) in sizes {
        left -= weight;
        if left < 0.0 {
            return bytes;
        }
    }
    sizes.last().map_or(1, |&(bytes, _)| bytes)
}

/// The standard normal distribution's quantile, by Acklam's rational approximation: relative error
/// below 1.2e-9, far below the rounding to whole bytes.
fn normal_quantile(unit: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    const TAIL: f64 = 0.02425;
    let horner = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let unit = unit.clamp(1e-300, 1.0 - 1e-16);
    if unit < TAIL {
        let q = (-2.0 * unit.ln()).sqrt();
        horner(&C, q) / horner(&D, q)
    } else if unit > 1.0 - TAIL {
        let q = (-2.0 * (1.0 - unit).ln()).sqrt();
        -horner(&C, q) / horner(&D, q)
    } else {
        let q = unit - 0.5;
        horner(&A, q * q) * q / horner(&B, q * q)
    }
}

const WHAT: &str = "a record size is like `1024`, `uniform:100..2KiB`, `normal:1KiB,200`, \
                    `lognormal:500,1.2`, `weighted:100=0.8,10KiB=0.2`";

impl FromStr for RecordBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<RecordBytes, String> {
        let Some((kind, rest)) = text.split_once(':') else {
            return parse_bytes(text).map(RecordBytes::Fixed).map_err(|_| WHAT.to_owned());
        };
        let pair = || -> Result<(f64, f64), String> {
            let (first, second) = rest.split_once(',').ok_or(WHAT)?;
            let first = parse_bytes(first.trim())? as f64;
            let second = second.trim();
            // A deviation may be a size; a sigma is a plain number.
            let second = second.parse().or_else(|_| parse_bytes(second).map(|it| it as f64))?;
            Ok((first, second))
        };
        let read = match kind {
            "uniform" => {
                let (min, max) = rest.split_once("..").ok_or(WHAT)?;
                RecordBytes::Uniform(parse_bytes(min.trim())?, parse_bytes(max.trim())?)
            }
            "normal" => pair().map(|(mean, deviation)| RecordBytes::Normal(mean, deviation))?,
            "lognormal" => pair().map(|(median, sigma)| RecordBytes::LogNormal(median, sigma))?,
            "weighted" => RecordBytes::Weighted(parse_weights(rest)?),
            _ => return Err(WHAT.to_owned()),
        };
        let sound = match &read {
            RecordBytes::Fixed(_) => true,
            RecordBytes::Uniform(min, max) => 0 < *min && min <= max && *max <= VALUE_BYTES_MAX,
            RecordBytes::Normal(middle, spread) => *middle >= 1.0 && *spread >= 0.0,
            RecordBytes::LogNormal(middle, spread) => {
                *middle >= 1.0 && (0.0..=10.0).contains(spread)
            }
            RecordBytes::Weighted(sizes) => sizes
                .iter()
                .all(|(bytes, weight)| *bytes > 0 && weight.is_finite() && *weight > 0.0),
        };
        if sound { Ok(read) } else { Err(format!("`{text}` holds no sizes; {WHAT}")) }
    }
}

fn parse_weights(text: &str) -> Result<Vec<(usize, f64)>, String> {
    let weights = text.split(',').map(|part| {
        let (bytes, weight) = part.split_once('=').ok_or(WHAT)?;
        Ok((parse_bytes(bytes.trim())?, weight.trim().parse().map_err(|_| WHAT)?))
    });
    weights.collect()
}

impl fmt::Display for RecordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordBytes::Fixed(bytes) => write!(f, "{bytes}"),
            RecordBytes::Uniform(min, max) => write!(f, "uniform:{min}..{max}"),
            RecordBytes::Normal(mean, deviation) => write!(f, "normal:{mean},{deviation}"),
            RecordBytes::LogNormal(median, sigma) => write!(f, "lognormal:{median},{sigma}"),
            RecordBytes::Weighted(sizes) => {
                let parts: Vec<String> =
                    sizes.iter().map(|(bytes, weight)| format!("{bytes}={weight}")).collect();
                write!(f, "weighted:{}", parts.join(","))
            }
        }
    }
}

impl Serialize for RecordBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RecordBytes::Fixed(bytes) => serializer.serialize_u64(*bytes as u64),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for RecordBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RecordBytes, D::Error> {
        read(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Random;

    fn samples(text: &str) -> Vec<f64> {
        let sizes: RecordBytes = text.parse().expect("a distribution");
        let mut random = Random::new(7);
        (0..200_000).map(|_| sizes.quantile(random.unit()) as f64).collect()
    }

    fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let square = samples.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
        (mean, (square / samples.len() as f64).sqrt())
    }

    #[test]
    fn each_distribution_has_its_mean_and_its_spread() {
        // 200,000 samples: the mean's standard error is the deviation / 447; four of them are left.
        let (mean, deviation) = mean_and_deviation(&samples("uniform:100..1099"));
        assert!((mean - 599.5).abs() < 2.6 && (deviation - 288.7).abs() < 2.0, "{mean}");
        let (mean, deviation) = mean_and_deviation(&samples("normal:1000,100"));
        assert!((mean - 1000.0).abs() < 0.9 && (deviation - 100.0).abs() < 0.7, "{mean}");
        let logs: Vec<f64> = samples("lognormal:10000,0.5").iter().map(|it| it.ln()).collect();
        let (mean, deviation) = mean_and_deviation(&logs);
        assert!((mean - 10_000f64.ln()).abs() < 0.0045 && (deviation - 0.5).abs() < 0.0035);
        let sizes = samples("weighted:100=3,5000=1");
        let large = sizes.iter().filter(|&&it| it == 5000.0).count() as f64 / 200_000.0;
        assert!((large - 0.25).abs() < 0.004, "{large}");
        assert!(sizes.iter().all(|&it| it == 100.0 || it == 5000.0));
    }

    #[test]
    fn the_tails_of_the_normal_distribution_are_right() {
        // Tables: P(Z < -3.090232) = 0.001, P(Z < 1.959964) = 0.975, P(Z < 4.753424) = 1 - 1e-6.
        for (unit, z) in [(0.001, -3.090_232), (0.975, 1.959_964), (1.0 - 1e-6, 4.753_424)] {
            assert!((normal_quantile(unit) - z).abs() < 1e-5, "{unit}");
        }
    }

    #[test]
    fn every_size_of_a_uniform_range_comes_equally_often() {
        let sizes = RecordBytes::Uniform(1, 10);
        let mut counts = [0u32; 11];
        let mut random = Random::new(3);
        (0..100_000).for_each(|_| counts[sizes.quantile(random.unit())] += 1);
        // Chi squared with 9 degrees of freedom: above 27.9 once in a thousand seeds.
        let chi: f64 = counts[1..].iter().map(|&it| (f64::from(it) - 1e4).powi(2) / 1e4).sum();
        assert!(counts[0] == 0 && chi < 27.9, "{chi}");
    }

    #[test]
    fn the_mean_is_the_distributions() {
        for (text, mean) in [
            ("uniform:100..1099", 599.5),
            ("normal:1000,100", 1000.0),
            ("lognormal:1000,0.5", 1000.0 * 0.125f64.exp()),
            ("weighted:100=3,5000=1", 1325.0),
            ("1KiB", 1024.0),
        ] {
            let found = text.parse::<RecordBytes>().expect("a distribution").mean();
            assert!((found / mean - 1.0).abs() < 0.002, "{text}: {found}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_nonsense_is_refused() {
        for text in
            ["77", "uniform:1..9", "normal:10,2.5", "lognormal:10,1", "weighted:1=0.5,1024=2"]
        {
            assert_eq!(text.parse::<RecordBytes>().expect("read").to_string(), text);
        }
        for bad in [
            "",
            "x",
            "uniform:9..1",
            "uniform:0..4",
            "normal:5",
            "lognormal:5,-1",
            "weighted:5",
            "weighted:5=0",
        ] {
            assert!(bad.parse::<RecordBytes>().is_err(), "{bad}");
        }
    }
}
