//! The search for the highest rate that a broker holds, and the curve of latency over throughput up
//! to it.
//!
//! Not here: a run (`run`), what a rate is (`units`). [`Search`] is pure: rates in, verdicts in,
//! the next rate out.
//! Callers: `main`.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::args::{SaturateArgs, Workload};
use crate::measure::percentiles::Summary;
use crate::report::env::Environment;
use crate::report::live::micros;
use crate::report::{Generator, Report, SCHEMA_VERSION, Target, files, html, pictures};
use crate::run::{self, Outcome, RunError, RunSpec};
use crate::units::Rate;

/// The curve's points, as parts of the saturation rate.
const CURVE: [f64; 6] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/// A search that needs more steps than this is chasing a broker that changes meanwhile.
const STEPS_MAX: usize = 40;

/// Part of what is offered that must be acknowledged in the measured time.
const HELD_MIN: f64 = 0.99;

/// Halves the gap between the highest rate that was held and the lowest that was not.
#[derive(Clone, Debug)]
pub struct Search {
    first: f64,
    precision: f64,
    held: Option<f64>,
    not_held: Option<f64>,
}

impl Search {
    /// A search that begins at `first` and ends when the gap is `precision` of the rate.
    #[must_use]
    pub fn new(first: f64, precision: f64) -> Search {
        Search { first, precision: precision.max(0.001), held: None, not_held: None }
    }

    /// The next rate to try; `None` when the search is over.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        match (self.held, self.not_held) {
            (None, None) => Some(self.first),
            (Some(held), None) => Some(held * 1.5),
            (None, Some(not_held)) => Some(not_held / 2.0),
            (Some(held), Some(not_held)) => {
                (not_held > held * (1.0 + self.precision)).then(|| (held * not_held).sqrt())
            }
        }
    }

    /// Notes what came of `rate`. What was held proves lower rates, what was not, higher ones: a
    /// verdict against an earlier one replaces it, since the broker may have changed.
    pub fn note(&mut self, rate: f64, held: bool) {
        if held {
            self.held = Some(rate);
            self.not_held = self.not_held.filter(|not_held| *not_held > rate);
        } else {
            self.not_held = Some(rate);
            self.held = self.held.filter(|held| *held < rate);
        }
    }

    /// The highest rate that was held.
    #[must_use]
    pub fn saturation(&self) -> Option<f64> {
        self.held
    }
}

/// One rate and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Record values offered, MB/s.
    pub offered_mb_per_s: f64,
    /// Record values acknowledged, MB/s.
    pub produced_mb_per_s: f64,
    /// Records acknowledged a second.
    pub records_per_s: f64,
    /// The publish latency.
    pub publish: Option<Summary>,
    /// Why the rate does not count as held.
    pub not_held: Option<String>,
    /// The broker's CPU seconds for each 10^9 bytes.
    pub core_s_per_gb: Option<f64>,
    /// Doubts about the step.
    pub warnings: Vec<&'static str>,
}

/// What a search found.
#[derive(Clone, Debug, Serialize)]
pub struct Saturation {
    /// As of a run's report.
    pub schema_version: u32,
    /// Name of the run.
    pub label: String,
    /// The bounds of what counts as held, ms.
    pub p99_max_ms: f64,
    /// The bounds of what counts as held, ms.
    pub delay_max_ms: f64,
    /// The highest rate that was held, MB/s of record values; none if no rate was.
    pub saturation_mb_per_s: Option<f64>,
    /// The same in records a second.
    pub saturation_records_per_s: Option<f64>,
    /// Where and with what it took place; its workload's rate is the last step's.
    #[serde(flatten)]
    pub setting: Option<Setting>,
    /// All steps, by rate.
    pub steps: Vec<Step>,
}

/// What the steps of a search have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    /// Machine and command.
    pub environment: Environment,
    /// What was measured.
    pub target: Target,
    /// With what.
    pub generator: Generator,
    /// The workload.
    pub workload: Workload,
}

/// `thalweg-bench saturate`.
///
/// # Errors
/// A run that could not take place.
pub fn command(args: &SaturateArgs) -> Result<Outcome, RunError> {
    run::check_outputs(&args.run)?;
    let found = find(args, |step| println!("{}", line(step)))?;
    match (found.saturation_mb_per_s, found.saturation_records_per_s) {
        (Some(mb), Some(records)) => {
            println!(
                "\nsaturation {mb:.1} MB/s, {records:.0} records/s (p99 at most {}, delay p99 at \
                 most {})",
                micros(found.p99_max_ms * 1e3),
                micros(found.delay_max_ms * 1e3)
            );
        }
        _ => println!("\nno rate was held"),
    }
    if let Some(path) = &args.run.json {
        run::write_json(path, &found)?;
    }
    if let Some(path) = &args.run.html {
        let page = html::of_search(&found);
        let page = page.map_err(|error| RunError::Io("the page", io::Error::other(error)))?;
        files::write_html(path, &page)?;
    }
    if let Some(folder) = &args.run.charts {
        files::write_charts(folder, &pictures::of_search(&found))?;
    }
    Ok(if found.saturation_mb_per_s.is_some() { Outcome::Fine } else { Outcome::Failed })
}

/// Searches, then measures the curve below what was found; `on_step` hears of each step.
///
/// # Errors
/// A run that could not take place.
pub fn find(args: &SaturateArgs, mut on_step: impl FnMut(&Step)) -> Result<Saturation, RunError> {
    let workload = args.run.workload.only().map_err(RunError::Flags)?;
    if !workload.steps.is_empty() || workload.backlog > 0 {
        let text = "saturate chooses the rates itself: no --steps, no --backlog";
        return Err(RunError::Flags(text.to_owned()));
    }
    let value_bytes = workload.record_bytes.mean();
    let first = match workload.rate {
        Rate::BytesPerSecond(bytes) => bytes,
        Rate::RecordsPerSecond(records) => records * value_bytes,
        Rate::Max => step_at(args, workload, Rate::Max)?.throughput.produced_mb_per_s * 1e6,
    };
    if first <= 0.0 {
        return Err(RunError::Flags("the closed loop got nothing acknowledged".to_owned()));
    }
    let mut steps = Vec::new();
    let mut setting = None;
    let mut measure = |bytes_per_s: f64| -> Result<bool, RunError> {
        let report = step_at(args, workload, Rate::BytesPerSecond(bytes_per_s))?;
        let step = judge(args, bytes_per_s, &report);
        let Report { environment, target, generator, workload, .. } = report;
        setting = Some(Setting { environment, target, generator, workload });
        on_step(&step);
        let held = step.not_held.is_none();
        steps.push(step);
        Ok(held)
    };
    let mut search = Search::new(first, args.precision);
    for _ in 0..STEPS_MAX {
        let Some(rate) = search.next_rate() else { break };
        // A hiccup of the machine is no verdict on the broker: what is not held is tried again.
        let held = measure(rate)? || measure(rate)?;
        search.note(rate, held);
    }
    let saturation = search.saturation();
    for part in CURVE {
        if let Some(rate) = saturation {
            measure(rate * part)?;
        }
    }
    steps.sort_by(|a, b| a.offered_mb_per_s.total_cmp(&b.offered_mb_per_s));
    Ok(Saturation {
        schema_version: SCHEMA_VERSION,
        label: args.run.label.clone(),
        p99_max_ms: args.p99_max.as_secs_f64() * 1e3,
        delay_max_ms: args.delay_max.as_secs_f64() * 1e3,
        saturation_mb_per_s: saturation.map(|rate| rate / 1e6),
        saturation_records_per_s: saturation.map(|rate| rate / value_bytes),
        setting,
        steps,
    })
}

fn step_at(args: &SaturateArgs, workload: &Workload, rate: Rate) -> Result<Report, RunError> {
    let workload = Workload { rate, ..workload.clone() };
    run::execute(&RunSpec { quiet: true, hlog: None, ..run::spec_of(&args.run, &workload) })
}

fn judge(args: &SaturateArgs, bytes_per_s: f64, report: &Report) -> Step {
    let rates = &report.throughput;
    let p99 = |summary: &Option<Summary>| summary.as_ref().and_then(|it| it.us("p99"));
    let over = |what: &str, us: Option<f64>, max: Duration| {
        let us = us?;
        (us > max.as_secs_f64() * 1e6).then(|| format!("{what} p99 {}", micros(us)))
    };
    let offered = rates.offered_requests_per_s.unwrap_or(0.0);
    let not_held = if report.failed() {
        Some("requests failed".to_owned())
    } else if rates.requests_per_s < offered * HELD_MIN {
        Some(format!("{:.1} % acknowledged in time", rates.requests_per_s / offered * 100.0))
    } else {
        over("publish", p99(&report.latency.response), args.p99_max)
            .or_else(|| over("delay", p99(&report.latency.delay), args.delay_max))
    };
    Step {
        offered_mb_per_s: bytes_per_s / 1e6,
        produced_mb_per_s: rates.produced_mb_per_s,
        records_per_s: rates.records_per_s,
        publish: report.latency.response.clone(),
        not_held,
        core_s_per_gb: report.broker.as_ref().and_then(|broker| broker.core_s_per_gb),
        warnings: report.warnings.iter().map(|warning| warning.kind).collect(),
    }
}

fn line(step: &Step) -> String {
    let point = |name: &str| {
        let us = step.publish.as_ref().and_then(|publish| publish.us(name));
        us.map_or_else(|| "-".to_owned(), micros)
    };
    format!(
        "{:>9.1} MB/s offered {:>9.1} MB/s {:>10.0} records/s   p50 {:>9} p99 {:>9} p99.9 {:>9}   {}",
        step.offered_mb_per_s,
        step.produced_mb_per_s,
        step.records_per_s,
        point("p50"),
        point("p99"),
        point("p99.9"),
        step.not_held
            .as_deref()
            .map_or_else(|| "held".to_owned(), |why| format!("not held: {why}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_closes_in_on_the_capacity_from_wherever_it_begins() {
        for first in [1.0, 90.0, 100.0, 101.0, 10_000.0] {
            let mut search = Search::new(first, 0.02);
            let mut steps = 0;
            while let Some(rate) = search.next_rate() {
                search.note(rate, rate <= 100.0);
                steps += 1;
                assert!(steps < STEPS_MAX, "from {first}");
            }
            let found = search.saturation().expect("something is held");
            assert!(found <= 100.0 && found > 97.9, "{found} from {first}");
        }
    }

    #[test]
    fn a_verdict_that_contradicts_an_earlier_one_replaces_it() {
        let mut search = Search::new(100.0, 0.02);
        search.note(100.0, true);
        search.note(150.0, false);
        // The broker got slower: what was held is not any more.
        search.note(90.0, false);
        assert_eq!(search.saturation(), None);
        assert_eq!(search.next_rate(), Some(45.0));
    }
}
