//! The measured time part by part: steps, or before, during and after a catch-up.

use std::fmt::Write;

use serde::Serialize;

use super::Report;
use super::live::{count, micros};
use crate::args::Workload;
use crate::load::progress::Drain;
use crate::load::recorder::Window;
use crate::measure::percentiles::Summary;
use crate::measure::tally::Tally;
use crate::wire::pool::PoolFacts;

/// One part of the measured time.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What happens in it.
    pub name: String,
    /// When it begins, s from the beginning of the measured time.
    pub from_s: f64,
    /// How long it is, s.
    pub length_s: f64,
    /// Offered requests a second; none in a closed loop.
    pub offered_requests_per_s: Option<f64>,
    /// Acknowledged requests a second.
    pub requests_per_s: f64,
    /// Acknowledged records a second.
    pub records_per_s: f64,
    /// Acknowledged record values, MB/s (10^6).
    pub produced_mb_per_s: f64,
    /// Fetched batches, MB/s (10^6), headers and all.
    pub fetched_mb_per_s: f64,
    /// Requests that failed.
    pub failed_requests: u64,
    /// From the intended send to the acknowledgement, of what was meant to leave in this part.
    pub response: Option<Summary>,
    /// From the intended to the actual send.
    pub delay: Option<Summary>,
    /// From the intended send to the consumer.
    pub end_to_end: Option<Summary>,
}

/// How a backlog was read.
#[derive(Clone, Debug, Serialize)]
pub struct CatchUp {
    /// Bytes of values that waited when the consumers began.
    pub backlog_bytes: u64,
    /// When they began, s from the first send; none if they never did.
    pub began_s: Option<f64>,
    /// Until each consumer had been at the end of each of its partitions, s; none if some never was.
    pub caught_up_after_s: Option<f64>,
    /// Bytes of batches that they had read by then, what came meanwhile included.
    pub drained_bytes: u64,
    /// The same a second, MB/s (10^6).
    pub drained_mb_per_s: Option<f64>,
}

impl CatchUp {
    /// As it went.
    #[must_use]
    pub fn of(drain: Drain, window: Window) -> CatchUp {
        let seconds = |from_ns: u64, to_ns: u64| to_ns.saturating_sub(from_ns) as f64 / 1e9;
        let took_s = drain.from_ns.zip(drain.to_ns).map(|(from, to)| seconds(from, to));
        CatchUp {
            backlog_bytes: drain.backlog_bytes,
            began_s: drain.from_ns.map(|at| seconds(window.start_ns, at)),
            caught_up_after_s: took_s,
            drained_bytes: drain.drained_bytes,
            drained_mb_per_s: took_s.map(|s| drain.drained_bytes as f64 / 1e6 / s.max(1e-9)),
        }
    }
}

/// When the parts after the first begin, where that is known before the run, ns.
#[must_use]
pub fn later_starts(workload: &Workload, window: Window) -> Vec<u64> {
    let mut at_ns = window.measure_ns;
    let ends = workload.steps.iter().map(|step| {
        at_ns += step.length.as_nanos() as u64;
        at_ns
    });
    let mut starts: Vec<u64> = ends.collect();
    starts.pop();
    starts
}

/// Offered requests a second over all of the measured time; `None` in a closed loop.
#[must_use]
pub fn offered_requests_per_s(workload: &Workload, pool: &PoolFacts) -> Option<f64> {
    let (mut requests, mut seconds) = (0.0, 0.0);
    for step in workload.rates() {
        let length_s = step.length.as_secs_f64();
        let bytes = pool.value_bytes_per_batch;
        requests += step.rate.batches_per_second(workload.batch_records, bytes)? * length_s;
        seconds += length_s;
    }
    Some(requests / seconds.max(1e-9))
}

/// The parts of a run; none if it has only one.
#[must_use]
pub fn find(
    workload: &Workload,
    pool: &PoolFacts,
    tallies: &[Tally],
    window: Window,
    drain: Option<Drain>,
) -> Vec<Part> {
    let offered = |rate: crate::units::Rate| {
        rate.batches_per_second(workload.batch_records, pool.value_bytes_per_batch)
    };
    let (names, starts) = match drain {
        Some(drain) => {
            let within = |at_ns: u64| at_ns.clamp(window.measure_ns, window.end_ns);
            let names = ["building the backlog", "reading it", "caught up"];
            let later = [drain.from_ns, drain.to_ns].into_iter().flatten().map(within);
            let rate = offered(workload.rate);
            (names.map(|name| (name.to_owned(), rate)).to_vec(), later.collect())
        }
        None => {
            let named =
                |step: &crate::workload::steps::Step| (step.to_string(), offered(step.rate));
            (workload.steps.iter().map(named).collect(), later_starts(workload, window))
        }
    };
    if starts.is_empty() {
        return Vec::new();
    }
    let mut bounds = vec![window.measure_ns];
    bounds.extend(starts);
    bounds.push(window.end_ns);
    let empty = Tally::new();
    let spans = bounds.windows(2).zip(names).enumerate();
    let parts = spans.map(|(idx, (span, (name, offered_requests_per_s)))| {
        let tally = tallies.get(idx).unwrap_or(&empty);
        let length_s = (span[1] - span[0]) as f64 / 1e9;
        let per_second = |count: u64| count as f64 / length_s.max(1e-9);
        Part {
            name,
            from_s: (span[0] - window.measure_ns) as f64 / 1e9,
            length_s,
            offered_requests_per_s,
            requests_per_s: per_second(tally.counters.acked_requests),
            records_per_s: per_second(tally.counters.acked_records),
            produced_mb_per_s: per_second(tally.counters.acked_value_bytes) / 1e6,
            fetched_mb_per_s: per_second(tally.counters.fetched_bytes) / 1e6,
            failed_requests: tally.counters.failed_requests,
            response: Summary::of(&tally.latencies.response),
            delay: Summary::of(&tally.latencies.delay),
            end_to_end: Summary::of(&tally.latencies.end_to_end),
        }
    });
    parts.filter(|part| part.length_s > 0.0).collect()
}

/// Writes the parts and the catch-up for a terminal.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    if !report.parts.is_empty() {
        writeln!(
            out,
            "\n{:<30}{:>9}{:>12}{:>14}{:>12}{:>11}{:>11}{:>11}",
            "part", "s", "MB/s", "records/s", "read MB/s", "p50", "p99", "max"
        )?;
    }
    for part in &report.parts {
        write!(
            out,
            "{:<30}{:>9.1}{:>12.1}{:>14}{:>12.1}",
            part.name,
            part.length_s,
            part.produced_mb_per_s,
            count(part.records_per_s as u64),
            part.fetched_mb_per_s
        )?;
        if let Some(response) = &part.response {
            for us in [response.us("p50"), response.us("p99"), Some(response.max_us)] {
                write!(out, "{:>11}", us.map_or_else(|| "-".to_owned(), micros))?;
            }
        }
        writeln!(out)?;
    }
    let Some(catch_up) = &report.catch_up else { return Ok(()) };
    write!(out, "\nbacklog   {:.1} MB", catch_up.backlog_bytes as f64 / 1e6)?;
    match (catch_up.began_s, catch_up.caught_up_after_s, catch_up.drained_mb_per_s) {
        (Some(began_s), Some(took_s), Some(rate)) => writeln!(
            out,
            " after {began_s:.1} s; caught up in {took_s:.2} s, {:.1} MB at {rate:.1} MB/s",
            catch_up.drained_bytes as f64 / 1e6
        ),
        (Some(began_s), ..) => writeln!(out, " after {began_s:.1} s; never caught up"),
        _ => writeln!(out, "; the consumers never began"),
    }
}
