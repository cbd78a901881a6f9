//! The pages of a run and of a search.

use std::collections::BTreeMap;

use super::{Cell, Page};
use crate::chart::ChartError;
use crate::measure::host::Host;
use crate::measure::percentiles::{REPORTED, SAMPLES_BEYOND_MIN, Summary};
use crate::report::env::Environment;
use crate::report::live::{count, micros};
use crate::report::{BrokerFigures, Generator, Report, Target, pictures, words};
use crate::saturate::Saturation;

type Pairs = Vec<(String, String)>;

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// The page of a run.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn of_run(report: &Report) -> Result<String, ChartError> {
    let title = if report.label.is_empty() { "Benchmark run" } else { &report.label };
    let mut page = Page::new(title);
    page.paragraph("terms", &words::moment(report.environment.reported_at_s));
    page.paragraph("terms", &words::terms(&report.workload, &report.target));
    page.figures(&headline(report));
    if report.workload.producers > 0 {
        let mut durability = words::durability(&report.workload, &report.target);
        if let Some(flushes) = words::flushes(report) {
            durability = format!("{durability}; {flushes}");
        }
        page.paragraph("durability", &format!("Durability: {durability}."));
    }
    let warnings: Vec<String> = report.warnings.iter().map(|it| it.text.clone()).collect();
    page.warnings(&warnings);
    page.heading("Over time");
    let charts = pictures::of_run(report);
    let (whole, over_time): (Vec<_>, Vec<_>) =
        charts.into_iter().partition(|chart| chart.name == "percentiles");
    page.charts(&over_time)?;
    page.heading("Latency");
    latencies(report, &mut page);
    page.charts(&whole)?;
    if !report.errors.is_empty() {
        page.heading("Errors");
        let rows = report.errors.iter().map(|it| {
            vec![Cell::words(it.api), Cell::words(&it.name), Cell::figure(it.count.to_string())]
        });
        let head = [Cell::words("API"), Cell::words("error"), Cell::figure("times")];
        page.table(&head, &rows.collect::<Vec<_>>());
    }
    verification(report, &mut page);
    if let Some(broker) = &report.broker {
        page.heading("The broker's process and the devices");
        page.pairs(&process(broker, report.throughput.measured_s));
        devices(broker, &mut page);
    }
    page.heading("The generator");
    page.pairs(&generator(report));
    settings(&report.environment, &report.target, &mut page);
    page.heading("Workload");
    page.pairs(&fields(&report.workload));
    Ok(page.finish())
}

fn headline(report: &Report) -> Pairs {
    let rates = &report.throughput;
    let mut figures = Vec::new();
    if report.workload.producers > 0 {
        figures.push(pair_of(format!("{:.1} MB/s", rates.produced_mb_per_s), "produced"));
        let records = format!("{}/s", count(rates.records_per_s as u64));
        figures.push(pair_of(records, "records acknowledged"));
    }
    if report.workload.consumers > 0 {
        figures.push(pair_of(format!("{:.1} MB/s", rates.fetched_mb_per_s), "consumed"));
    }
    for (what, summary) in
        [("publish", &report.latency.response), ("end to end", &report.latency.end_to_end)]
    {
        for percentile in summary.iter().flat_map(|it| &it.percentiles) {
            if ["p50", "p99", "p99.9"].contains(&percentile.name) {
                let mark = if percentile.firm { "" } else { "~" };
                let value = format!("{mark}{}", micros(percentile.us));
                figures.push(pair_of(value, &format!("{what} {}", percentile.name)));
            }
        }
    }
    if let Some(cost) = report.broker.as_ref().and_then(|it| it.core_s_per_gb) {
        figures.push(pair_of(format!("{cost:.2} core-s/GB"), "the broker's CPU"));
    }
    figures
}

fn pair_of(value: String, what: &str) -> (String, String) {
    (value, what.to_owned())
}

fn latencies(report: &Report, page: &mut Page) {
    let latency = &report.latency;
    let rows: Vec<(&str, &Summary)> = [
        ("publish (from the intended send)", &latency.response),
        ("service (from the actual send)", &latency.service),
        ("delay (intended to actual send)", &latency.delay),
        ("end to end (to a consumer)", &latency.end_to_end),
    ]
    .into_iter()
    .filter_map(|(name, summary)| Some((name, summary.as_ref()?)))
    .collect();
    let mut head = vec![Cell::words("latency")];
    head.extend(REPORTED.iter().map(|(_, name)| Cell::figure(*name)));
    head.extend([Cell::figure("longest"), Cell::figure("samples")]);
    let cells = |&(name, summary): &(&str, &Summary)| {
        let mut cells = vec![Cell::words(name)];
        cells.extend(summary.percentiles.iter().map(|it| {
            let mark = if it.firm { "" } else { "~" };
            Cell::figure(format!("{mark}{}", micros(it.us)))
        }));
        cells.extend([Cell::figure(micros(summary.max_us)), Cell::figure(count(summary.samples))]);
        cells
    };
    page.table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    if rows.iter().any(|(_, it)| it.percentiles.iter().any(|it| !it.firm)) {
        let note = format!("~ rests on fewer than {SAMPLES_BEYOND_MIN} samples beyond it.");
        page.paragraph("terms", &note);
    }
}

fn verification(report: &Report, page: &mut Page) {
    let Some(found) = &report.verification else { return };
    page.heading("Verification of every record");
    page.pairs(&fields(found));
}

fn process(broker: &BrokerFigures, measured_s: f64) -> Pairs {
    let used = &broker.used;
    let process = &used.process;
    let each_second = |count: u64| format!("{count} ({:.0}/s)", count as f64 / measured_s);
    let mut rows = vec![
        pair(
            "CPU",
            format!(
                "{:.2} cores busy: user {:.2} s, system {:.2} s",
                broker.cores_busy, process.user_s, process.system_s
            ),
        ),
        pair("memory resident", words::bytes(process.resident_bytes)),
        pair("memory resident at most", words::bytes(process.resident_bytes_max)),
        pair("threads", process.threads.to_string()),
        pair("voluntary context switches", each_second(used.switches.voluntary)),
        pair("involuntary context switches", each_second(used.switches.involuntary)),
        pair("sent to storage", words::bytes(process.write_bytes)),
        pair("read from storage", words::bytes(process.read_bytes)),
    ];
    if let Some(ratio) = broker.written_per_byte {
        rows.push(pair("written for each byte produced", format!("{ratio:.2}")));
    }
    if let Some(cost) = broker.us_per_request {
        rows.push(pair("CPU for each request", format!("{cost:.1} µs")));
    }
    rows
}

fn devices(broker: &BrokerFigures, page: &mut Page) {
    let head = ["device", "reads", "read", "writes", "written", "flushes", "busy", "mean queue"];
    let mut head: Vec<Cell> = head.into_iter().map(Cell::figure).collect();
    head[0] = Cell::words("device");
    let rows = broker.used.devices.iter().map(|(name, used)| {
        vec![
            Cell::words(name),
            Cell::figure(used.reads.to_string()),
            Cell::figure(words::bytes(used.read_bytes)),
            Cell::figure(used.writes.to_string()),
            Cell::figure(words::bytes(used.written_bytes)),
            Cell::figure(used.flushes.map_or_else(|| "?".to_owned(), |it| it.to_string())),
            Cell::figure(format!("{:.2} s", used.busy_s)),
            Cell::figure(format!("{:.1}", used.queued_s / used.busy_s.max(1e-9))),
        ]
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    if !rows.is_empty() {
        page.table(&head, &rows);
    }
}

fn generator(report: &Report) -> Pairs {
    let mut rows = generator_settings(&report.generator);
    for core in &report.cores {
        rows.push(pair(
            &format!("CPU {}", core.cpu),
            format!("busy {:.0} %, longest turn {}", core.busy * 100.0, micros(core.turn_max_us)),
        ));
    }
    if let Some(cost) = report.generator_core_s_per_gb {
        rows.push(pair("its own work", format!("{cost:.2} core-s/GB")));
    }
    rows
}

fn generator_settings(generator: &Generator) -> Pairs {
    vec![
        pair("load cores", format!("{:?}", generator.cores)),
        pair(
            "bytes of a batch as it travels",
            format!("{:.0}", generator.pool.wire_bytes_per_batch),
        ),
    ]
}

/// Everything that it takes to run it again.
fn settings(environment: &Environment, target: &Target, page: &mut Page) {
    page.heading("Environment");
    page.pairs(&environment_rows(environment));
    page.heading("The broker");
    let mut rows = vec![
        pair("address", &target.bootstrap),
        pair("topic", &target.topic),
        pair("process", target.pid.map(|it| it.to_string()).unwrap_or_default()),
        pair("CPUs", target.cpus.as_ref().map(|it| format!("{it:?}")).unwrap_or_default()),
        pair("protocol versions", joined(&flat(&target.versions))),
        pair("feature levels", joined(&flat(&target.features))),
    ];
    if let Some(host) = &target.host {
        rows.extend(host_rows(host));
    }
    rows.push(pair("topic configuration", joined(&flat(&target.topic_configs))));
    page.pairs(&rows);
    if !target.broker_configs.is_empty() {
        page.heading("The broker's configuration (what is not the default, and what tells)");
        let rows = target.broker_configs.iter().map(|(name, value)| pair(name, value));
        page.pairs(&rows.collect::<Pairs>());
    }
}

fn environment_rows(environment: &Environment) -> Pairs {
    let version = format!("{} {}", environment.tool_version, environment.tool_commit);
    let command = environment.command.join(" ");
    let mut rows = vec![
        pair("tool", format!("thalweg-bench {}", version.trim())),
        pair("command", command),
        pair("kernel", &environment.kernel),
        pair(
            "CPU",
            format!(
                "{}, {} online, {} of them for the generator's process",
                environment.cpu, environment.cpus_online, environment.cpus_allowed
            ),
        ),
        pair("frequency governor", environment.governor.as_deref().unwrap_or("none to be seen")),
        pair("memory", words::bytes(environment.memory_bytes)),
    ];
    rows.push(pair("kernel settings", joined(&flat(&environment.kernel_settings))));
    rows
}

fn host_rows(host: &Host) -> Pairs {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|it| it.display().to_string()).unwrap_or_default()
    };
    let mut rows = vec![
        pair("version", host.version.as_deref().unwrap_or_default()),
        pair("program", path(&host.executable)),
        pair("command", host.command.join(" ")),
        pair("data directory", path(&host.data_dir)),
    ];
    if let Some(it) = &host.file_system {
        let text = format!(
            "{} on {} ({}), mounted with {}",
            it.kind,
            it.mount_point.display(),
            it.source,
            it.options
        );
        rows.push(pair("file system", text));
    }
    if let Some(it) = &host.device {
        let model = it.model.as_deref().unwrap_or("no model named");
        rows.push(pair("device", format!("{}, {model}, {}", it.name, words::bytes(it.size_bytes))));
        rows.push(pair("device settings", joined(&flat(&it.settings))));
    }
    rows
}

/// The fields of a flat value, in its own order, as text. A workload's fields grow with the tool;
/// none is forgotten here.
fn fields<T: serde::Serialize>(value: &T) -> Pairs {
    flat(value).into_iter().map(|(name, value)| (name.replace('_', " "), value)).collect()
}

fn flat<T: serde::Serialize>(value: &T) -> BTreeMap<String, String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(value) else {
        return BTreeMap::new();
    };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    fields.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn joined(values: &BTreeMap<String, String>) -> String {
    let parts = values.iter().filter(|(_, value)| !value.is_empty());
    parts.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// The page of a search.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn of_search(found: &Saturation) -> Result<String, ChartError> {
    let title = if found.label.is_empty() { "Saturation" } else { &found.label };
    let mut page = Page::new(title);
    if let Some(setting) = &found.setting {
        page.paragraph("terms", &words::moment(setting.environment.reported_at_s));
        let terms = words::terms_without_rate(&setting.workload, &setting.target);
        page.paragraph("terms", &terms);
    }
    let rate = match (found.saturation_mb_per_s, found.saturation_records_per_s) {
        (Some(mb), Some(records)) => vec![
            pair_of(format!("{mb:.1} MB/s"), "saturation"),
            pair_of(format!("{}/s", count(records as u64)), "records at saturation"),
        ],
        _ => vec![pair_of("none".to_owned(), "no rate was held")],
    };
    let mut figures = rate;
    figures.push(pair_of(format!("{} ms", found.p99_max_ms), "p99 allowed"));
    figures.push(pair_of(format!("{} ms", found.delay_max_ms), "delay p99 allowed"));
    page.figures(&figures);
    if let Some(setting) = &found.setting {
        let durability = words::durability(&setting.workload, &setting.target);
        page.paragraph("durability", &format!("Durability: {durability}."));
    }
    page.heading("Latency over throughput");
    page.charts(&pictures::of_search(found))?;
    page.heading("Steps");
    steps(found, &mut page);
    if let Some(setting) = &found.setting {
        page.heading("The generator");
        page.pairs(&generator_settings(&setting.generator));
        settings(&setting.environment, &setting.target, &mut page);
        page.heading("Workload of a step");
        page.pairs(&fields(&setting.workload));
    }
    Ok(page.finish())
}

fn steps(found: &Saturation, page: &mut Page) {
    let head = ["offered MB/s", "acked MB/s", "records/s", "p50", "p99", "p99.9", "core-s/GB"];
    let mut head: Vec<Cell> = head.into_iter().map(Cell::figure).collect();
    head.push(Cell::words("held"));
    head.push(Cell::words("notes"));
    let rows = found.steps.iter().map(|step| {
        let us = |name: &str| step.publish.as_ref().and_then(|it| it.us(name));
        let latency = |name: &str| Cell::figure(us(name).map_or_else(String::new, micros));
        let cost = step.core_s_per_gb.map_or_else(String::new, |it| format!("{it:.2}"));
        let held =
            step.not_held.as_ref().map_or_else(|| "yes".to_owned(), |it| format!("no: {it}"));
        vec![
            Cell::figure(format!("{:.1}", step.offered_mb_per_s)),
            Cell::figure(format!("{:.1}", step.produced_mb_per_s)),
            Cell::figure(count(step.records_per_s as u64)),
            latency("p50"),
            latency("p99"),
            latency("p99.9"),
            Cell::figure(cost),
            Cell::words(held),
            Cell::words(step.warnings.join(", ")),
        ]
    });
    page.table(&head, &rows.collect::<Vec<_>>());
}
