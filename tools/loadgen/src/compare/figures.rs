//! The figures that are compared, and where a run's JSON has them.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More.
    More,
    /// Less.
    Less,
    /// Neither.
    Neither,
}

/// Where a figure stands in the JSON.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At this path.
    Path(&'static str),
    /// Percentile of a latency, by their names.
    Percentile(&'static str, &'static str),
    /// At this path, over the measured seconds.
    EachSecond(&'static str),
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// What it is called.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    place: Place,
    /// What the JSON's figure is multiplied by to get the unit.
    factor: f64,
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.name, self.unit, self.better).serialize(serializer)
    }
}

const fn more(name: &'static str, unit: &'static str, path: &'static str) -> Figure {
    Figure { name, unit, better: Better::More, place: Place::Path(path), factor: 1.0 }
}

const fn less(name: &'static str, unit: &'static str, path: &'static str) -> Figure {
    Figure { name, unit, better: Better::Less, place: Place::Path(path), factor: 1.0 }
}

const fn percentile(name: &'static str, latency: &'static str, which: &'static str) -> Figure {
    let place = Place::Percentile(latency, which);
    Figure { name, unit: "ms", better: Better::Less, place, factor: 1e-3 }
}

const fn rate(name: &'static str, path: &'static str) -> Figure {
    let place = Place::EachSecond(path);
    Figure { name, unit: "1/s", better: Better::Neither, place, factor: 1.0 }
}

/// All of them, in the order of the tables.
pub const ALL: [Figure; 23] = [
    more("produced", "MB/s", "/throughput/produced_mb_per_s"),
    more("records acknowledged", "1/s", "/throughput/records_per_s"),
    more("consumed", "MB/s", "/throughput/fetched_mb_per_s"),
    percentile("publish p50", "response", "p50"),
    percentile("publish p90", "response", "p90"),
    percentile("publish p99", "response", "p99"),
    percentile("publish p99.9", "response", "p99.9"),
    percentile("publish p99.99", "response", "p99.99"),
    percentile("service p50", "service", "p50"),
    percentile("service p99", "service", "p99"),
    percentile("end to end p50", "end_to_end", "p50"),
    percentile("end to end p99", "end_to_end", "p99"),
    percentile("end to end p99.9", "end_to_end", "p99.9"),
    less("broker CPU for each GB", "core-s/GB", "/broker/core_s_per_gb"),
    less("broker CPU for each request", "µs", "/broker/us_per_request"),
    less("broker cores busy", "cores", "/broker/cores_busy"),
    less("written for each byte produced", "B/B", "/broker/written_per_byte"),
    Figure { factor: 1e-6, ..less("broker memory", "MB", "/broker/process/resident_bytes") },
    rate("voluntary context switches", "/broker/switches/voluntary"),
    rate("involuntary context switches", "/broker/switches/involuntary"),
    rate("device flushes", "/broker/device_flushes"),
    less("failed requests", "requests", "/counters/failed_requests"),
    less("generator CPU for each GB", "core-s/GB", "/generator_core_s_per_gb"),
];

impl Figure {
    /// The figure in the JSON of a run; `None` where the run has none. A figure of zero where
    /// nothing was asked for (consumed, without consumers) is none either.
    #[must_use]
    pub fn of(&self, run: &Value) -> Option<f64> {
        let number = |path: &str| run.pointer(path)?.as_f64();
        let value = match self.place {
            Place::Path(path) => number(path)?,
            Place::EachSecond(path) => number(path)? / number("/throughput/measured_s")?,
            Place::Percentile(latency, which) => {
                let all = run.pointer(&format!("/latency/{latency}/percentiles"))?.as_array()?;
                let found = all.iter().find(|it| it["name"] == which)?;
                found["us"].as_f64()?
            }
        };
        (value > 0.0).then_some(value * self.factor)
    }
}
