//! The human table.

use std::fmt::Write;

use super::live::{count, micros};
use super::{BrokerFigures, Report, parts, words};
use crate::client::sasl::Mechanism;
use crate::measure::percentiles::{REPORTED, SAMPLES_BEYOND_MIN, Summary};

/// The report as text for a terminal.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(report, &mut out);
    out
}

fn write_all(report: &Report, out: &mut String) -> std::fmt::Result {
    let workload = &report.workload;
    writeln!(out)?;
    if !report.label.is_empty() {
        writeln!(out, "{}", report.label)?;
    }
    let many = |count: u32, what: &str| match count {
        1 => String::new(),
        count => format!("{count} {what} x "),
    };
    writeln!(
        out,
        "{} producers, {}{} consumers, {}{} partitions, {} x {} B a batch, {}, acks={}, {}, {} in flight",
        workload.producers,
        many(workload.fan_out, "readers"),
        workload.consumers,
        many(workload.topics, "topics"),
        workload.partitions,
        workload.batch_records,
        workload.record_bytes,
        workload.rate,
        match workload.acks.wire() {
            -1 => "all".to_owned(),
            other => other.to_string(),
        },
        workload.compression.name(),
        workload.in_flight,
    )?;
    security(report, out)?;
    if !report.target.topic_configs.is_empty() {
        let configs: Vec<String> = report
            .target
            .topic_configs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        writeln!(out, "topic: {}", configs.join(" "))?;
    }
    writeln!(out)?;
    throughput(report, out)?;
    transactions(report, out)?;
    latencies(report, out)?;
    parts::write(report, out)?;
    machine(report, out)?;
    surroundings(report, out)?;
    if let Some(found) = &report.verification {
        writeln!(
            out,
            "verified  {} records acknowledged, {} came back: {} lost, {} twice, {} out of order, \
             {} corrupt, {} of aborted transactions; {} never acknowledged, {} of others",
            found.acked_records,
            found.seen_records,
            found.lost_records,
            found.duplicated_records,
            found.reordered_records,
            found.corrupt_records,
            found.dirty_records,
            found.unacknowledged_records,
            found.foreign_records
        )?;
    }
    for error in &report.errors {
        writeln!(out, "ERROR {} {}: {} times", error.api, error.name, error.count)?;
    }
    for warning in &report.warnings {
        writeln!(out, "note: {}", warning.text)?;
    }
    Ok(())
}

fn security(report: &Report, out: &mut String) -> std::fmt::Result {
    let security = &report.target.security;
    if security.protocol != "PLAINTEXT" {
        let mechanism = security.mechanism.map(Mechanism::name);
        let parts = [Some(security.protocol), mechanism, security.encryption.as_deref()];
        writeln!(out, "{}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    Ok(())
}

fn transactions(report: &Report, out: &mut String) -> std::fmt::Result {
    let counters = &report.counters;
    if report.workload.transactional {
        writeln!(
            out,
            "{} transactions committed, {} aborted, {} failed",
            count(counters.committed_transactions),
            count(counters.aborted_transactions),
            count(counters.failed_transactions)
        )?;
    }
    Ok(())
}

fn throughput(report: &Report, out: &mut String) -> std::fmt::Result {
    let rates = &report.throughput;
    if report.workload.producers > 0 {
        writeln!(
            out,
            "produced  {:>9.1} MB/s  {:>10} records/s  {:>9} requests/s  over {:.1} s",
            rates.produced_mb_per_s,
            count(rates.records_per_s as u64),
            count(rates.requests_per_s as u64),
            rates.measured_s
        )?;
    }
    if report.workload.has_group() {
        writeln!(out, "rebalanced {:>8} times", report.counters.rebalances)?;
    }
    if report.workload.churn > 0.0 {
        let connections = report.counters.churned_connections as f64 / rates.measured_s;
        writeln!(out, "churned   {connections:>9.1} connections/s")?;
    }
    if report.workload.consumers > 0 {
        writeln!(
            out,
            "consumed  {:>9.1} MB/s  {:>10} records/s",
            rates.fetched_mb_per_s,
            count(rates.fetched_records_per_s as u64)
        )?;
    }
    Ok(())
}

fn latencies(report: &Report, out: &mut String) -> std::fmt::Result {
    let latency = &report.latency;
    let rows = [
        ("publish (from intended send)", &latency.response),
        ("  service (from actual send)", &latency.service),
        ("  delay (intended to actual)", &latency.delay),
        ("end to end (to a consumer)", &latency.end_to_end),
        ("commit of a transaction", &latency.commit),
        ("connect (from intended)", &latency.connect),
        ("first request (from intended)", &latency.first_request),
        ("rebalance (whole group)", &latency.rebalance),
        ("  a member's pause in it", &latency.member_pause),
    ];
    if rows.iter().all(|(_, summary)| summary.is_none()) {
        return Ok(());
    }
    write!(out, "\n{:<30}", "latency")?;
    for (_, name) in REPORTED {
        write!(out, "{name:>11}")?;
    }
    writeln!(out, "{:>11}{:>11}", "max", "samples")?;
    let mut marked = false;
    for (name, summary) in rows {
        if let Some(summary) = summary {
            marked |= row(name, summary, out)?;
        }
    }
    if marked {
        writeln!(out, "~ rests on fewer than {SAMPLES_BEYOND_MIN} samples beyond it")?;
    }
    Ok(())
}

/// Says whether a percentile had to be marked.
fn row(name: &str, summary: &Summary, out: &mut String) -> Result<bool, std::fmt::Error> {
    write!(out, "{name:<30}")?;
    for percentile in &summary.percentiles {
        let mark = if percentile.firm { "" } else { "~" };
        write!(out, "{:>11}", format!("{mark}{}", micros(percentile.us)))?;
    }
    writeln!(out, "{:>11}{:>11}", micros(summary.max_us), count(summary.samples))?;
    Ok(summary.percentiles.iter().any(|percentile| !percentile.firm))
}

fn machine(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out)?;
    if let Some(broker) = &report.broker {
        let process = &broker.used.process;
        write!(
            out,
            "broker    {:.2} cores (user {:.1} s, system {:.1} s)",
            broker.cores_busy, process.user_s, process.system_s
        )?;
        if let Some(cost) = broker.core_s_per_gb {
            write!(out, ", {cost:.2} core-s/GB")?;
        }
        if let Some(cost) = broker.us_per_request {
            write!(out, ", {cost:.1} µs/request")?;
        }
        writeln!(out, ", {:.0} MiB resident", process.resident_bytes as f64 / 1048576.0)?;
        write!(out, "          wrote {:.1} MB", process.write_bytes as f64 / 1e6)?;
        if let Some(ratio) = broker.written_per_byte {
            write!(out, " ({ratio:.2} for each byte produced)")?;
        }
        write!(out, ", read {:.1} MB", process.read_bytes as f64 / 1e6)?;
        match broker.used.device_flushes {
            Some(flushes) => writeln!(out, ", {flushes} device flushes")?,
            None => writeln!(out)?,
        }
        broker_machine(broker, report.throughput.measured_s, out)?;
    }
    if let Some(cost) = report.generator_core_s_per_gb {
        writeln!(out, "generator {cost:.2} core-s/GB of its own work")?;
    }
    for (index, agent) in report.agents.iter().enumerate() {
        writeln!(
            out,
            "agent {}   {} ({}), cpus {:?}, clock {:+.1} µs, known to {:.1} µs",
            index + 1,
            agent.host,
            agent.address,
            agent.cores,
            agent.clock_offset_us,
            agent.clock_uncertainty_us
        )?;
    }
    for core in &report.cores {
        writeln!(
            out,
            "generator cpu {} busy {:.0} %, longest turn {}",
            core.cpu,
            core.busy * 100.0,
            micros(core.turn_max_us)
        )?;
    }
    Ok(())
}

/// Context switches, threads and what the devices did.
fn broker_machine(broker: &BrokerFigures, measured_s: f64, out: &mut String) -> std::fmt::Result {
    let (process, switches) = (&broker.used.process, &broker.used.switches);
    writeln!(
        out,
        "          {} threads, context switches {:.0}/s voluntary, {:.0}/s involuntary",
        process.threads,
        switches.voluntary as f64 / measured_s,
        switches.involuntary as f64 / measured_s
    )?;
    for (name, used) in &broker.used.devices {
        writeln!(
            out,
            "device    {name}: {} writes, {}; {} reads, {}; busy {:.0} %",
            count(used.writes),
            words::bytes(used.written_bytes),
            count(used.reads),
            words::bytes(used.read_bytes),
            used.busy_s / measured_s * 100.0
        )?;
    }
    Ok(())
}

/// Where it ran, in short; all of it is in the JSON and on the page.
fn surroundings(report: &Report, out: &mut String) -> std::fmt::Result {
    let here = &report.environment;
    writeln!(
        out,
        "machine   Linux {}, {} x {}, governor {}, {} of memory; thalweg-bench {} {}",
        here.kernel,
        here.cpus_online,
        here.cpu,
        here.governor.as_deref().unwrap_or("none"),
        words::bytes(here.memory_bytes),
        here.tool_version,
        here.tool_commit
    )?;
    let Some(host) = &report.target.host else { return Ok(()) };
    write!(out, "          broker {}", host.version.as_deref().unwrap_or("of unknown version"))?;
    if let Some(dir) = &host.data_dir {
        write!(out, ", data in {}", dir.display())?;
    }
    if let Some(it) = &host.file_system {
        write!(out, " ({} {})", it.kind, it.options)?;
    }
    if let Some(it) = &host.device {
        write!(out, " on {}", it.name)?;
        for name in ["scheduler", "write_cache"] {
            let setting = it.settings.get(name).map_or("?", String::as_str);
            write!(out, ", {} {setting}", name.replace('_', " "))?;
        }
    }
    writeln!(out)
}
