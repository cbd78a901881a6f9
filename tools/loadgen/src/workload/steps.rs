//! Rates in turn: `50MB/s:10s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Rate, duration_text, parse_duration, read};

/// A rate and how long it is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The rate.
    pub rate: Rate,
    /// How long.
    pub length: Duration,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let (rate, length) =
            text.rsplit_once(':').ok_or("a step is a rate and a duration, like `50MB/s:10s`")?;
        let step = Step { rate: rate.trim().parse()?, length: parse_duration(length.trim())? };
        match step {
            Step { rate: Rate::Max, .. } => Err("a step has a rate of its own, not `max`".into()),
            Step { length: Duration::ZERO, .. } => Err("a step lasts longer than nothing".into()),
            step => Ok(step),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rate, duration_text(self.length))
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Step, D::Error> {
        read(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_rate_for_a_time_and_is_written_as_it_is_read() {
        let step: Step = "1.5MB/s:500ms".parse().expect("a step");
        assert_eq!(step.rate, Rate::BytesPerSecond(1.5e6));
        assert_eq!(step.length, Duration::from_millis(500));
        assert_eq!(step.to_string().parse(), Ok(step));
        for bad in ["", "1MB/s", "max:1s", "1MB/s:0s", "10s:1MB/s"] {
            assert!(bad.parse::<Step>().is_err(), "{bad}");
        }
    }
}
