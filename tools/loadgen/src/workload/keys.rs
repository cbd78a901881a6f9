//! Which keys records carry, and which partition a key belongs to. Pure.
//!
//! The sampler is exact: it holds the probability of every key, so it takes memory for each key and
//! no approximation. A key's partition is Kafka's: murmur2 of its bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::load::schedule::Random;
use crate::units::read;

/// Zipf's exponent where none is given: the one that most published workloads use.
const ZIPF_EXPONENT: f64 = 0.99;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys {
    /// Records have none.
    None,
    /// One after the other, round.
    Sequential,
    /// Each alike.
    Uniform,
    /// The n-th most frequent key in proportion to `n^-exponent`.
    Zipf(f64),
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Keys, String> {
        const WHAT: &str =
            "keys are `none`, `sequential`, `uniform`, `zipf` or `zipf:0.99` (exponent 0 to 10)";
        Ok(match text {
            "none" => Keys::None,
            "sequential" => Keys::Sequential,
            "uniform" => Keys::Uniform,
            "zipf" => Keys::Zipf(ZIPF_EXPONENT),
            _ => {
                let exponent = text.strip_prefix("zipf:").and_then(|it| it.trim().parse().ok());
                Keys::Zipf(exponent.filter(|it| (0.0..=10.0).contains(it)).ok_or(WHAT)?)
            }
        })
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::None => f.write_str("none"),
            Keys::Sequential => f.write_str("sequential"),
            Keys::Uniform => f.write_str("uniform"),
            Keys::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        read(deserializer, str::parse)
    }
}

/// The keys of one partition, most frequent first, with the running sum of their probabilities.
#[derive(Clone, Debug, Default)]
struct Share {
    keys: Vec<u32>,
    sums: Vec<f64>,
    next: usize,
}

/// All keys, sorted by the partition that they belong to.
#[derive(Clone, Debug)]
pub struct KeySpace {
    in_order: bool,
    key_bytes: usize,
    shares: Vec<Share>,
}

impl KeySpace {
    /// `count` keys of `key_bytes` over `partitions`; `None` if records have no keys.
    #[must_use]
    pub fn new(keys: Keys, count: u32, key_bytes: usize, partitions: u32) -> Option<KeySpace> {
        let exponent = match keys {
            Keys::None => return None,
            Keys::Sequential | Keys::Uniform => 0.0,
            Keys::Zipf(exponent) => exponent,
        };
        let weight = |key: u32| (f64::from(key) + 1.0).powf(-exponent);
        let total: f64 = (0..count).map(weight).sum();
        let mut shares = vec![Share::default(); partitions as usize];
        let mut bytes = Vec::new();
        for key in 0..count {
            put_key(&mut bytes, key, key_bytes);
            let share = &mut shares[partition_of(&bytes, partitions) as usize];
            let before = share.sums.last().copied().unwrap_or(0.0);
            share.keys.push(key);
            share.sums.push(before + weight(key) / total);
        }
        Some(KeySpace { in_order: keys == Keys::Sequential, key_bytes, shares })
    }

    /// The part of all records that belongs to `partition`.
    #[must_use]
    pub fn weight(&self, partition: usize) -> f64 {
        self.shares.get(partition).and_then(|share| share.sums.last()).copied().unwrap_or(0.0)
    }

    /// Different keys of `partition`.
    #[must_use]
    pub fn count(&self, partition: usize) -> usize {
        self.shares.get(partition).map_or(0, |share| share.keys.len())
    }

    /// The next record's key, given that it belongs to `partition`; `None` if no key does.
    pub fn draw(&mut self, partition: usize, random: &mut Random) -> Option<u32> {
        let share = self.shares.get_mut(partition)?;
        let all = *share.sums.last()?;
        let at = if self.in_order {
            let at = share.next;
            share.next = (at + 1) % share.keys.len();
            at
        } else {
            let drawn = random.unit() * all;
            share.sums.partition_point(|&sum| sum <= drawn)
        };
        share.keys.get(at).or(share.keys.last()).copied()
    }

    /// Writes `key` as it travels.
    pub fn put(&self, bytes: &mut Vec<u8>, key: u32) {
        put_key(bytes, key, self.key_bytes);
    }
}

/// Hexadecimal digits, zeros in front; what does not fit is cut off in front, which the check of a
/// workload rules out.
fn put_key(bytes: &mut Vec<u8>, key: u32, key_bytes: usize) {
    let digits = format!("{key:08x}");
    bytes.clear();
    bytes.resize(key_bytes.saturating_sub(digits.len()), b'0');
    bytes.extend_from_slice(&digits.as_bytes()[digits.len().saturating_sub(key_bytes)..]);
}

/// Hexadecimal digits that `count` different keys need.
#[must_use]
pub fn digits(count: u32) -> usize {
    format!("{:x}", count.saturating_sub(1)).len()
}

/// The partition of a key, as Kafka's default partitioner has it.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Murmur 2 with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_key_goes_to_the_partition_that_kafka_sends_it_to() {
        // From Kafka's own test of its hash.
        for (key, hash) in [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned(), "{key}");
        }
    }

    fn counts(keys: Keys, count: u32, draws: u32) -> Vec<f64> {
        let mut space = KeySpace::new(keys, count, 8, 1).expect("keys");
        let mut random = Random::new(11);
        let mut counts = vec![0.0; count as usize];
        for _ in 0..draws {
            counts[space.draw(0, &mut random).expect("a key") as usize] += 1.0;
        }
        counts
    }

    fn chi_squared(counts: &[f64], expected: impl Fn(usize) -> f64) -> f64 {
        counts.iter().enumerate().map(|(at, it)| (it - expected(at)).powi(2) / expected(at)).sum()
    }

    #[test]
    fn zipf_and_uniform_keys_come_as_often_as_they_should() {
        // 99 degrees of freedom: above 148.2 once in a thousand seeds.
        for exponent in [0.5, 0.99, 1.5] {
            let sum: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            let expected = |at: usize| 500_000.0 * (at as f64 + 1.0).powf(-exponent) / sum;
            let chi = chi_squared(&counts(Keys::Zipf(exponent), 100, 500_000), expected);
            assert!(chi < 148.2, "zipf {exponent}: {chi}");
        }
        let chi = chi_squared(&counts(Keys::Uniform, 100, 500_000), |_| 5_000.0);
        assert!(chi < 148.2, "uniform: {chi}");
        // And the test itself can fail: uniform keys are not zipf's.
        assert!(chi_squared(&counts(Keys::Zipf(0.5), 100, 500_000), |_| 5_000.0) > 148.2);
    }

    #[test]
    fn sequential_keys_come_in_turn() {
        assert!(counts(Keys::Sequential, 50, 500).iter().all(|&it| it == 10.0));
    }

    #[test]
    fn partitions_share_all_keys_and_all_probability_and_equal_seeds_draw_alike() {
        let mut space = KeySpace::new(Keys::Zipf(0.99), 1000, 8, 7).expect("keys");
        let weight: f64 = (0..7).map(|partition| space.weight(partition)).sum();
        assert!((weight - 1.0).abs() < 1e-9);
        assert_eq!((0..7).map(|partition| space.count(partition)).sum::<usize>(), 1000);
        let mut again = space.clone();
        let (mut one, mut two) = (Random::new(5), Random::new(5));
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let key = space.draw(3, &mut one).expect("a key");
            assert_eq!(again.draw(3, &mut two), Some(key));
            space.put(&mut bytes, key);
            assert_eq!((bytes.len(), partition_of(&bytes, 7)), (8, 3));
        }
    }

    #[test]
    fn keys_are_as_many_and_as_long_as_asked_for() {
        let mut seen = BTreeSet::new();
        let mut bytes = Vec::new();
        for key in 0..4096 {
            put_key(&mut bytes, key, digits(4096));
            assert_eq!(bytes.len(), 3);
            seen.insert(bytes.clone());
        }
        assert_eq!(seen.len(), 4096);
    }
}
