//! Conditions on a report, for machines: `--fail-if 'p99 > 5ms'`.

use std::fmt;
use std::str::FromStr;

use super::Report;
use crate::measure::percentiles::Summary;
use crate::units::{Rate, parse_duration};

/// A figure of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Figure {
    /// A percentile, the mean or the maximum of one of the latencies, µs.
    Latency(Which, String),
    /// Record values acknowledged, bytes a second.
    ProducedBytes,
    /// Batches fetched, bytes a second.
    FetchedBytes,
    /// Records acknowledged a second.
    Records,
    /// Requests acknowledged a second.
    Requests,
    /// Errors and unanswered requests.
    Errors,
    /// The broker's CPU seconds for each 10^9 bytes.
    CoreSecondsPerGb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Publish,
    Service,
    Delay,
    EndToEnd,
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// A figure, a comparison and a bound, in the figure's own unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

/// What [`Condition::judge`] finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does not hold.
    No,
    /// It holds; the sentence says with which figure.
    Yes(String),
    /// The report has no such figure: as bad as a condition that holds, since nobody looked.
    Missing(String),
}

const FORM: &str = "a condition is like `p99 > 5ms`, `e2e.p99.9 > 20ms`, `service.max > 1s`, \
                    `produced < 100MB/s`, `records < 50k/s`, `errors > 0`, `core-s/GB > 0.8`; \
                    latencies are publish (default), service, delay, e2e, commit and have p50, \
                    p90, p99, p99.9, p99.99, max, mean";

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let at = text.find(['<', '>']).ok_or(FORM)?;
        let (name, rest) = text.split_at(at);
        let (comparison, bound) = if let Some(bound) = rest.strip_prefix("<=") {
            (Comparison::AtMost, bound)
        } else if let Some(bound) = rest.strip_prefix(">=") {
            (Comparison::AtLeast, bound)
        } else if let Some(bound) = rest.strip_prefix('<') {
            (Comparison::Below, bound)
        } else {
            (Comparison::Above, rest.strip_prefix('>').ok_or(FORM)?)
        };
        let figure = figure(name.trim()).ok_or(FORM)?;
        let bound = read_bound(&figure, bound.trim()).ok_or(FORM)?;
        Ok(Condition { text: text.trim().to_owned(), figure, comparison, bound })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Whether it holds for `report`.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Verdict {
        let Some(value) = self.figure.of(report) else {
            return Verdict::Missing(format!("`{self}`: the report has no such figure"));
        };
        let holds = match self.comparison {
            Comparison::Below => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::Above => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
        };
        if holds {
            Verdict::Yes(format!("`{self}` holds: it is {}", self.figure.show(value)))
        } else {
            Verdict::No
        }
    }
}

fn figure(name: &str) -> Option<Figure> {
    let (which, point) = match name.split_once('.') {
        Some(("publish", point)) => (Which::Publish, point),
        Some(("service", point)) => (Which::Service, point),
        Some(("delay", point)) => (Which::Delay, point),
        Some(("e2e", point)) => (Which::EndToEnd, point),
        Some(("commit", point)) => (Which::Commit, point),
        // `p99.9` has a dot of its own.
        _ => (Which::Publish, name),
    };
    Some(match point {
        "p50" | "p90" | "p99" | "p99.9" | "p99.99" | "max" | "mean" => {
            Figure::Latency(which, point.to_owned())
        }
        _ if name != point => return None,
        "produced" => Figure::ProducedBytes,
        "fetched" => Figure::FetchedBytes,
        "records" => Figure::Records,
        "requests" => Figure::Requests,
        "errors" => Figure::Errors,
        "core-s/GB" => Figure::CoreSecondsPerGb,
        _ => return None,
    })
}

fn read_bound(figure: &Figure, text: &str) -> Option<f64> {
    match figure {
        Figure::Latency(..) => Some(parse_duration(text).ok()?.as_secs_f64() * 1e6),
        Figure::ProducedBytes | Figure::FetchedBytes => match text.parse().ok()? {
            Rate::BytesPerSecond(bytes) => Some(bytes),
            _ => None,
        },
        Figure::Records | Figure::Requests => match text.parse() {
            Ok(Rate::RecordsPerSecond(records)) => Some(records),
            Ok(_) => None,
            Err(_) => text.parse().ok(),
        },
        Figure::Errors | Figure::CoreSecondsPerGb => text.parse().ok(),
    }
}

impl Figure {
    fn of(&self, report: &Report) -> Option<f64> {
        let rates = &report.throughput;
        match self {
            Figure::Latency(which, point) => {
                let summary = match which {
                    Which::Publish => &report.latency.response,
                    Which::Service => &report.latency.service,
                    Which::Delay => &report.latency.delay,
                    Which::EndToEnd => &report.latency.end_to_end,
                    Which::Commit => &report.latency.commit,
                };
                latency(summary.as_ref()?, point)
            }
            Figure::ProducedBytes => Some(rates.produced_mb_per_s * 1e6),
            Figure::FetchedBytes => Some(rates.fetched_mb_per_s * 1e6),
            Figure::Records => Some(rates.records_per_s),
            Figure::Requests => Some(rates.requests_per_s),
            Figure::Errors => {
                let named: u64 = report.errors.iter().map(|error| error.count).sum();
                Some((named + report.counters.unanswered_requests) as f64)
            }
            Figure::CoreSecondsPerGb => report.broker.as_ref()?.core_s_per_gb,
        }
    }

    fn show(&self, value: f64) -> String {
        match self {
            Figure::Latency(..) => super::live::micros(value),
            Figure::ProducedBytes | Figure::FetchedBytes => format!("{:.1} MB/s", value / 1e6),
            Figure::Records | Figure::Requests => format!("{value:.0}/s"),
            Figure::Errors => format!("{value:.0}"),
            Figure::CoreSecondsPerGb => format!("{value:.2}"),
        }
    }
}

fn latency(summary: &Summary, point: &str) -> Option<f64> {
    match point {
        "max" => Some(summary.max_us),
        "mean" => Some(summary.mean_us),
        percentile => summary.us(percentile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_their_units_or_refused() {
        let bound = |text: &str| text.parse::<Condition>().map(|it| (it.figure, it.bound));
        let publish = |point: &str| Figure::Latency(Which::Publish, point.to_owned());
        assert_eq!(bound("p99 > 5ms"), Ok((publish("p99"), 5000.0)));
        assert_eq!(bound("p99.9>250us"), Ok((publish("p99.9"), 250.0)));
        assert_eq!(bound("publish.max >= 1s"), Ok((publish("max"), 1e6)));
        let e2e = Figure::Latency(Which::EndToEnd, "p99.99".to_owned());
        assert_eq!(bound("e2e.p99.99 <= 2ms"), Ok((e2e, 2000.0)));
        let commit = Figure::Latency(Which::Commit, "p99".to_owned());
        assert_eq!(bound("commit.p99 > 1s"), Ok((commit, 1e6)));
        assert_eq!(bound("produced < 100MB/s"), Ok((Figure::ProducedBytes, 1e8)));
        assert_eq!(bound("records < 50k/s"), Ok((Figure::Records, 50e3)));
        assert_eq!(bound("errors > 0"), Ok((Figure::Errors, 0.0)));
        assert_eq!(bound("core-s/GB > 0.8"), Ok((Figure::CoreSecondsPerGb, 0.8)));
        for bad in ["", "p99", "p98 > 5ms", "p99 > 5", "e2e.errors > 0", "produced < 5ms", "> 5ms"]
        {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }
}
