//! The units that people type: rates, sizes, durations and lists of CPUs.
//!
//! Decimal prefixes are powers of ten (MB, GB), binary ones powers of two (MiB, GiB). Every rate
//! and throughput of this tool counts record values only; what the wire adds is reported apart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// How much load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Closed loop: the next request leaves when a place in the window is free.
    Max,
    /// Open loop: this many bytes of record values a second, over all producers.
    BytesPerSecond(f64),
    /// Open loop: this many records a second, over all producers.
    RecordsPerSecond(f64),
}

impl Rate {
    /// Requests a second over all producers, each of `records` records with `value_bytes` of values
    /// in all; `None` for the closed loop.
    #[must_use]
    pub fn batches_per_second(self, records: u32, value_bytes: f64) -> Option<f64> {
        match self {
            Rate::Max => None,
            Rate::BytesPerSecond(bytes) => Some(bytes / value_bytes.max(1.0)),
            Rate::RecordsPerSecond(per_second) => Some(per_second / f64::from(records.max(1))),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Rate::Max);
        }
        let what = "a rate is `max`, or like `100MB/s`, `1.5GB/s`, `50000records/s`, `50k/s`";
        let per_second = text.strip_suffix("/s").ok_or(what)?;
        let (number, unit) = split_number(per_second).ok_or(what)?;
        let rate = match unit {
            "records" | "record" | "" => Rate::RecordsPerSecond(number),
            "k" => Rate::RecordsPerSecond(number * 1e3),
            "M" => Rate::RecordsPerSecond(number * 1e6),
            _ => Rate::BytesPerSecond(number * byte_unit(unit).ok_or(what)?),
        };
        if number > 0.0 { Ok(rate) } else { Err("a rate must be above zero".to_owned()) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Max => f.write_str("max (closed loop)"),
            Rate::BytesPerSecond(bytes) => write!(f, "{} MB/s", bytes / 1e6),
            Rate::RecordsPerSecond(records) => write!(f, "{records} records/s"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Rate::Max => serializer.serialize_str("max"),
            Rate::BytesPerSecond(_) | Rate::RecordsPerSecond(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        read(deserializer, str::parse)
    }
}

/// Reads what a file has as text or as a number with the parser of its flag.
pub fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Words;
    impl Visitor<'_> for Words {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text or a number")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    parse(&deserializer.deserialize_any(Words)?).map_err(de::Error::custom)
}

/// A size in a file: `1024` or `"1KiB"`.
pub mod bytes_in_file {
    use super::{Deserializer, Serializer, parse_bytes, read};

    /// Writes a number.
    pub fn serialize<S: Serializer>(bytes: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*bytes as u64)
    }

    /// Reads a number, or text with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        read(deserializer, parse_bytes)
    }
}

/// A duration in a file: `"30s"`.
pub mod duration_in_file {
    use std::time::Duration;

    use super::{Deserializer, Serializer, duration_text, parse_duration, read};

    /// Writes text with a unit.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration_text(*time))
    }

    /// Reads text with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        read(deserializer, parse_duration)
    }
}

/// A duration as [`parse_duration`] reads it.
#[must_use]
pub fn duration_text(time: Duration) -> String {
    let us = time.as_micros();
    match us {
        us if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        us if us.is_multiple_of(1_000) => format!("{}ms", us / 1_000),
        us => format!("{us}us"),
    }
}

/// Splits `12.5MiB` into the number and what follows it.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end =
        text.find(|symbol: char| !(symbol.is_ascii_digit() || symbol == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

fn byte_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// Reads a size in bytes: `1024`, `1KiB`, `16MB`.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let what = "a size is like `1024`, `1KiB`, `16MB`";
    let (number, unit) = split_number(text).ok_or(what)?;
    let scale = if unit.is_empty() { 1.0 } else { byte_unit(unit).ok_or(what)? };
    let bytes = number * scale;
    if bytes.fract() != 0.0 || bytes > 1e15 {
        return Err(what.to_owned());
    }
    Ok(bytes as usize)
}

/// Reads a duration: `30s`, `500ms`, `250us`, `2m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let what = "a duration is like `500ms`, `30s`, `2m`";
    let (number, unit) = split_number(text).ok_or(what)?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(what.to_owned()),
    };
    if seconds > 7.0 * 86_400.0 {
        return Err("a run longer than a week is not supported".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a list of CPU ids: `0`, `0,1`, `0-3`, `0,2-3`. Ids are ids, never a count.
pub fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    let what = || format!("`{text}` is not a list of CPU ids like `0`, `0,1` or `0-3`");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| what())?;
        let last: usize = last.trim().parse().map_err(|_| what())?;
        if last < first || last > 4095 {
            return Err(what());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// Reads `k=v`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected `key=value`")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_means_what_it_says() {
        assert_eq!("max".parse::<Rate>(), Ok(Rate::Max));
        assert_eq!("100MB/s".parse::<Rate>(), Ok(Rate::BytesPerSecond(100e6)));
        assert_eq!("1.5GiB/s".parse::<Rate>(), Ok(Rate::BytesPerSecond(1_610_612_736.0)));
        assert_eq!("50000records/s".parse::<Rate>(), Ok(Rate::RecordsPerSecond(50_000.0)));
        assert_eq!("50k/s".parse::<Rate>(), Ok(Rate::RecordsPerSecond(50_000.0)));
        for bad in ["", "100", "100MB", "-1MB/s", "0/s", "MB/s", "10furlongs/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_in_bytes_counts_record_values() {
        let rate = Rate::BytesPerSecond(100e6);
        assert_eq!(rate.batches_per_second(100, 100_000.0), Some(1000.0));
        assert_eq!(Rate::RecordsPerSecond(500.0).batches_per_second(5, 1.0), Some(100.0));
        assert_eq!(Rate::Max.batches_per_second(5, 1.0), None);
    }

    #[test]
    fn sizes_durations_and_lists_are_read_or_refused() {
        assert_eq!(parse_bytes("1024"), Ok(1024));
        assert_eq!(parse_bytes("1.5KiB"), Ok(1536));
        assert!(parse_bytes("1.3B").is_err() && parse_bytes("x").is_err());
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("5").is_err() && parse_duration("9999h").is_err());
        assert_eq!(parse_cpus("3,0-1,1"), Ok(vec![0, 1, 3]));
        assert!(parse_cpus("1-0").is_err() && parse_cpus("").is_err());
    }
}
