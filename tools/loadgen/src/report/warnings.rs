//! What makes a figure doubtful, said beside it.

use serde::Serialize;

use super::Report;
use crate::args::{Acks, Idle};

/// A load core that works more than this part of its time may be the limit itself.
pub const BUSY_CORE_MAX: f64 = 0.90;
/// Part of the sends that may leave over 1 ms late by the generator's own fault.
pub const LATE_SENDS_MAX: f64 = 0.001;
/// Part of the offered load that must be acknowledged in the measured time.
const HELD_RATE_MIN: f64 = 0.99;

/// A doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A word for programs.
    pub kind: &'static str,
    /// A sentence for people.
    pub text: String,
}

/// Finds the doubts about `report`.
#[must_use]
pub fn find(report: &Report) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |kind, text| found.push(Warning { kind, text });
    generator(report, &mut warn);
    broker(report, &mut warn);
    consumers(report, &mut warn);
    if report.workload.is_closed_loop() && report.workload.producers > 0 {
        warn(
            "closed-loop",
            "closed loop: latency here is that of a saturated broker, and a stall slows the \
             senders down with it; compare it with closed loops only"
                .to_owned(),
        );
    }
    if report.workload.acks == Acks::None && report.workload.producers > 0 {
        warn("no-acks", "acks=0: times are those of sending; nothing was acknowledged".to_owned());
    }
    found
}

fn generator(report: &Report, warn: &mut impl FnMut(&'static str, String)) {
    let counters = &report.counters;
    if let Some(core) = report.cores.iter().find(|core| core.busy > BUSY_CORE_MAX) {
        warn(
            "generator-busy",
            format!(
                "load core {} was busy {:.0} % of the time: the generator may be the limit, not \
                 the broker; give it more cores",
                core.cpu,
                core.busy * 100.0
            ),
        );
    }
    let late = counters.late_requests as f64 / counters.sent_requests.max(1) as f64;
    if late > LATE_SENDS_MAX {
        warn(
            "generator-late",
            format!(
                "{:.2} % of the sends left over 1 ms later than they could have, by the \
                 generator's own fault: its latency figures are not the broker's alone",
                late * 100.0
            ),
        );
    }
    if report.generator.idle == Idle::Park && !report.workload.is_closed_loop() {
        warn(
            "generator-parks",
            "--idle park: sends may be late by tens of µs; the delay row shows how late".to_owned(),
        );
    }
    let cpus = report.target.cpus.as_deref().unwrap_or_default();
    let shared = cpus.iter().any(|cpu| report.generator.cores.contains(cpu));
    if shared {
        warn(
            "shared-cpu",
            "the broker may run on the generator's CPUs: pin it elsewhere".to_owned(),
        );
    }
}

fn broker(report: &Report, warn: &mut impl FnMut(&'static str, String)) {
    let counters = &report.counters;
    if let Some(offered) = report.throughput.offered_requests_per_s
        && report.workload.producers > 0
        && report.throughput.requests_per_s < offered * HELD_RATE_MIN
    {
        warn(
            "rate-not-held",
            format!(
                "the rate was not held: {:.0} requests/s offered, {:.0} acknowledged ({:.1} %)",
                offered,
                report.throughput.requests_per_s,
                report.throughput.requests_per_s / offered * 100.0
            ),
        );
    }
    if counters.unsent_requests + counters.unanswered_requests > 0 {
        warn(
            "unfinished",
            format!(
                "{} requests were due and never left, {} were never answered: they are in the \
                 response times with their age at the end, a lower bound",
                counters.unsent_requests, counters.unanswered_requests
            ),
        );
    }
    if counters.failed_requests > 0 || !report.errors.is_empty() {
        warn(
            "failures",
            format!(
                "{} requests failed and are in no latency figure; the errors are listed by name",
                counters.failed_requests
            ),
        );
    }
    if report.errors_outside > 0 {
        warn(
            "failures-outside",
            format!("{} errors in the warm-up or after the end", report.errors_outside),
        );
    }
    if report.target.pid.is_some() && report.broker.is_none() {
        warn("no-broker-figures", "the broker's /proc could not be read to the end".to_owned());
    }
}

fn consumers(report: &Report, warn: &mut impl FnMut(&'static str, String)) {
    if report.workload.consumers == 0 || report.workload.producers == 0 {
        return;
    }
    if !report.generator.stamped {
        warn(
            "end-to-end-ms",
            "the batches carry no stamp (this codec hides it, or the records are too short): end \
             to end comes from timestamps, up to 1 ms too long"
                .to_owned(),
        );
    }
    let acked = report.latency.service.as_ref().map_or(0, |it| it.samples);
    let sent = acked * u64::from(report.workload.fan_out);
    let seen = report.latency.end_to_end.as_ref().map_or(0, |it| it.samples);
    if seen < sent {
        warn(
            "end-to-end-missing",
            format!(
                "{} of {sent} acknowledged batches had not reached a consumer at the end: the \
                 end-to-end figures are too good",
                sent - seen
            ),
        );
    }
    if let Some(catch_up) = &report.catch_up {
        warn(
            "end-to-end-backlog",
            "consumers began late on purpose: end to end is the time in the backlog".to_owned(),
        );
        if catch_up.caught_up_after_s.is_none() {
            let text = "the consumers had not caught up at the end of the run".to_owned();
            warn("not-caught-up", text);
        }
        if catch_up.backlog_bytes < report.workload.backlog as u64 {
            warn(
                "backlog-not-built",
                format!(
                    "the backlog was {:.1} MB when the producers ended, not {:.1}: a higher rate or \
                     a longer --duration builds it",
                    catch_up.backlog_bytes as f64 / 1e6,
                    report.workload.backlog as f64 / 1e6
                ),
            );
        }
    }
    if report.counters.offset_gaps > 0 {
        warn(
            "offset-gaps",
            format!("{} gaps between the offsets of fetched batches", report.counters.offset_gaps),
        );
    }
}
