//! The comparison as tables: aligned for a terminal, and Markdown for README.md and
//! docs/BENCHMARKS.md. Both come from the same cells.

use std::fmt::Write;

use super::args::Part;
use super::result::{Block, Column, Comparison, Figure, Row};
use super::stats::Spread;

/// A table with a title and what has to be known to read it.
struct Table {
    title: String,
    about: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The sections: part, mode, title, what has to be known.
const SECTIONS: [(Part, &str, &str, &str); 5] = [
    (
        Part::Produce,
        "max",
        "Produce, as fast as it goes (closed loop)",
        "Latency here is that of a full queue: compare it at half rate, below. A broker's own CPU \
         is counted; what the kernel's threads take to write its dirty pages is not.",
    ),
    (
        Part::Produce,
        "half",
        "Produce at half of that, each broker at half of its own (open loop)",
        "Publish latency, from the intended send time.",
    ),
    (Part::Fetch, "page cache", "Fetch from the beginning of the log", "As it was written."),
    (
        Part::Fetch,
        "page cache dropped",
        "Fetch from the beginning of the log, page cache dropped",
        "From the disk, whoever reads it.",
    ),
    (
        Part::Restart,
        "kill -9",
        "Restart after kill -9 under load",
        "From the start of the process until every partition names its offsets.",
    ),
];

/// The rows of the summary.
const SUMMARY: [(Part, &str, Figure, &str); 8] = [
    (Part::Produce, "max", Figure::ProducedMbPerS, "produce, MB/s"),
    (Part::Produce, "max", Figure::CoreSPerGb, "produce, core-s/GB"),
    (Part::Produce, "max", Figure::WrittenPerByte, "bytes written per byte produced"),
    (Part::Produce, "half", Figure::P99Ms, "publish p99 at half rate, ms"),
    (Part::Fetch, "page cache", Figure::FetchedMbPerS, "fetch, MB/s"),
    (Part::Fetch, "page cache", Figure::CoreSPerGb, "fetch, core-s/GB"),
    (Part::Fetch, "page cache dropped", Figure::FetchedMbPerS, "fetch, page cache dropped, MB/s"),
    (Part::Restart, "kill -9", Figure::RestartS, "restart after kill -9, s"),
];

const RATIOS: &str = "How many times better the first broker is: the median of the rounds' ratios, \
                      and their range. Above 1 it is ahead.";
const SUMMARY_ABOUT: &str = "Medians; in brackets how many times better the first broker is (the \
                             median of the rounds' ratios; above 1 it is ahead).";

/// For a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut out = head(comparison).join("\n") + "\n";
    for table in tables(comparison) {
        let _ = write!(out, "\n{}\n{}\n", table.title, table.about);
        let all = || std::iter::once(&table.head).chain(&table.rows);
        let widths: Vec<usize> = (0..table.head.len())
            .map(|at| all().map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        for row in all() {
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, figures to the right.
                let names = table.head.get(at).is_some_and(|it| is_name(it));
                let _ = if names {
                    write!(out, "{cell:<width$}  ")
                } else {
                    write!(out, "{cell:>width$}  ")
                };
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
    }
    notes(comparison, "", &mut out);
    out
}

/// For README.md and docs/BENCHMARKS.md.
#[must_use]
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    for line in head(comparison) {
        let _ = writeln!(out, "- {line}");
    }
    for table in tables(comparison) {
        let _ = write!(out, "\n### {}\n\n{}\n\n", table.title, table.about);
        let _ = writeln!(out, "| {} |", table.head.join(" | "));
        let rules: Vec<&str> =
            table.head.iter().map(|it| if is_name(it) { "---" } else { "---:" }).collect();
        let _ = writeln!(out, "| {} |", rules.join(" | "));
        for row in &table.rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
    }
    notes(comparison, "- ", &mut out);
    out
}

fn is_name(head: &str) -> bool {
    matches!(head, "workload" | "broker" | "figure")
}

fn head(comparison: &Comparison) -> Vec<String> {
    let machine = &comparison.environment;
    let settings = &comparison.settings;
    let mut lines = vec![format!(
        "{}, {:.0} GiB, kernel {}; brokers on CPU {}, generator on CPU {}",
        machine.cpu,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.kernel,
        settings.broker_core,
        settings.load_core
    )];
    for software in &comparison.software {
        lines.push(format!("{}: {}; {}", software.name, software.version, software.flags));
    }
    lines.push(format!(
        "{} rounds in turn of {} s after {} s each; each broker loaded for {} s before the first",
        settings.rounds, settings.duration_s, settings.run_warmup_s, settings.warmup_s
    ));
    if let Some(raw) = comparison.raw_durable_write_mb_per_s {
        lines.push(format!(
            "raw durable writes of 1 MiB on the same disk, one at a time, between the runs: {:.0} \
             MB/s [{:.0}..{:.0}]",
            raw.median, raw.min, raw.max
        ));
    }
    lines
}

fn tables(comparison: &Comparison) -> Vec<Table> {
    let mut tables = vec![summary(comparison)];
    for (part, mode, title, about) in SECTIONS {
        let blocks: Vec<&Block> =
            comparison.blocks.iter().filter(|it| it.part == part && it.mode == mode).collect();
        if let Some(first) = blocks.first().and_then(|block| block.rows.first()) {
            tables.push(figures(title, about, &blocks, first));
            tables.push(ratio_table(title, &blocks, first));
        }
    }
    tables
}

fn figures(title: &str, about: &'static str, blocks: &[&Block], first: &Row) -> Table {
    let mut head = vec!["workload".to_owned(), "broker".to_owned()];
    head.extend(first.columns.iter().map(|it| it.figure.head().to_owned()));
    let rows = blocks.iter().flat_map(|block| block.rows.iter().map(move |row| (block, row)));
    let rows = rows.map(|(block, row)| {
        let mut cells = vec![block.workload.clone(), row.broker.clone()];
        cells.extend(row.columns.iter().map(plain));
        cells
    });
    Table { title: title.to_owned(), about, head, rows: rows.collect() }
}

fn ratio_table(title: &str, blocks: &[&Block], first: &Row) -> Table {
    let merits = || first.columns.iter().filter(|it| it.better.is_some());
    let mut head = vec!["workload".to_owned(), "broker".to_owned()];
    head.extend(merits().map(|it| it.figure.head().to_owned()));
    let others =
        blocks.iter().flat_map(|block| block.rows.iter().skip(1).map(move |row| (block, row)));
    let rows = others.map(|(block, row)| {
        let mut cells = vec![block.workload.clone(), row.broker.clone()];
        let ratios = row.columns.iter().filter(|it| it.better.is_some());
        cells.extend(ratios.map(|it| it.ratio.map_or_else(none, ratio_range)));
        cells
    });
    Table { title: format!("{title}: ratios"), about: RATIOS, head, rows: rows.collect() }
}

/// One row for each figure that matters, one column for each broker.
fn summary(comparison: &Comparison) -> Table {
    let mut brokers: Vec<String> = Vec::new();
    for row in comparison.blocks.iter().flat_map(|it| &it.rows) {
        if !brokers.contains(&row.broker) {
            brokers.push(row.broker.clone());
        }
    }
    let mut head = vec!["figure".to_owned(), "workload".to_owned()];
    head.extend(brokers.iter().cloned());
    let mut rows = Vec::new();
    for (part, mode, figure, name) in SUMMARY {
        let blocks = comparison.blocks.iter().filter(|it| it.part == part && it.mode == mode);
        for block in blocks {
            let mut cells = vec![name.to_owned(), block.workload.clone()];
            cells.extend(brokers.iter().map(|broker| {
                let row = block.rows.iter().find(|row| row.broker == *broker);
                row.and_then(|row| row.column(figure)).map_or_else(String::new, with_ratio)
            }));
            rows.push(cells);
        }
    }
    Table { title: "Summary".to_owned(), about: SUMMARY_ABOUT, head, rows }
}

fn none() -> String {
    "-".to_owned()
}

fn plain(column: &Column) -> String {
    let mark = if column.firm { "" } else { "~" };
    column.spread.map_or_else(none, |it| format!("{mark}{}", number(it.median)))
}

fn with_ratio(column: &Column) -> String {
    match column.ratio {
        Some(ratio) => format!("{} ({}x)", plain(column), number(ratio.median)),
        None => plain(column),
    }
}

fn ratio_range(ratio: Spread) -> String {
    let Spread { median, min, max } = ratio;
    // One round has no range.
    if min == max {
        return number(median);
    }
    format!("{} [{}..{}]", number(median), number(min), number(max))
}

/// Three digits or so: what a median of a few rounds is good for.
fn number(value: f64) -> String {
    match value.abs() {
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What was left out, failed or is doubtful: beside the figures, not in a file that nobody opens.
fn notes(comparison: &Comparison, bullet: &str, out: &mut String) {
    let mut lines: Vec<String> =
        comparison.left_out.iter().map(|it| format!("left out: {it}")).collect();
    let mut soft = false;
    for block in &comparison.blocks {
        for row in &block.rows {
            soft |= row.columns.iter().any(|it| !it.firm);
            let place = format!("{}, {} ({})", block.workload, row.broker, block.mode);
            if row.failed_rounds > 0 {
                lines.push(format!("{place}: {} rounds FAILED", row.failed_rounds));
            }
            for doubt in &row.doubts {
                let (rounds, kind, text) = (doubt.rounds, &doubt.kind, &doubt.text);
                lines.push(format!("{place}: {kind} in {rounds} rounds: {text}"));
            }
        }
    }
    if soft {
        lines.push("~ rests on fewer than 20 samples beyond it in some round".to_owned());
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nNotes. A figure with a doubt beside it is not one to publish:");
    if !bullet.is_empty() {
        out.push('\n');
    }
    for line in lines {
        let _ = writeln!(out, "{bullet}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare_brokers::result::{Round, SCHEMA_VERSION, Settings, Software};
    use crate::report::env::Environment;

    fn comparison() -> Comparison {
        let round = |s: f64| Round::Figures(vec![(Figure::RestartS, s), (Figure::LogGb, 8.0)]);
        let rounds = vec![
            ("A".to_owned(), vec![round(0.1), round(0.2)]),
            ("B".to_owned(), vec![round(1.0), round(3.0)]),
            ("C".to_owned(), vec![Round::Failed("it is gone".to_owned()), round(0.1)]),
        ];
        let figures = [Figure::RestartS, Figure::LogGb];
        let block = Block::new((Part::Restart, "kill -9"), "16 partitions", "", &figures, rounds);
        Comparison {
            schema_version: SCHEMA_VERSION,
            environment: Environment::capture(),
            settings: Settings {
                rounds: 2,
                duration_s: 4.0,
                run_warmup_s: 3.0,
                warmup_s: 80.0,
                broker_core: 0,
                load_core: 1,
            },
            software: vec![Software { name: "A", version: "1".into(), flags: "-x".into() }],
            raw_durable_write_mb_per_s: Spread::of([2000.0]),
            blocks: vec![block],
            left_out: vec!["fetch: no fetch today".to_owned()],
        }
    }

    #[test]
    fn a_ratio_is_how_many_times_better_the_first_is_whatever_way_is_better() {
        let text = markdown(&comparison());
        // 1.0 / 0.1 and 3.0 / 0.2; seconds are better when there are fewer.
        assert!(text.contains("| 16 partitions | B | 12.5 [10.0..15.0] |"), "{text}");
        assert!(
            text.contains("| restart after kill -9, s | 16 partitions | 0.15 | 2.00 (12.5x) |")
        );
        // C has one round only, in which it was twice as fast.
        assert!(text.contains("| 16 partitions | C | 0.50 |"), "{text}");
    }

    #[test]
    fn what_failed_or_was_left_out_stands_beside_the_figures() {
        for text in [markdown(&comparison()), text(&comparison())] {
            assert!(text.contains("16 partitions, C (kill -9): 1 rounds FAILED"), "{text}");
            assert!(text.contains("no-run in 1 rounds: it is gone"), "{text}");
            assert!(text.contains("left out: fetch: no fetch today"), "{text}");
            assert!(text.contains("2000 MB/s [2000..2000]"), "{text}");
        }
        assert!(comparison().failed());
    }

    #[test]
    fn columns_of_the_terminal_s_tables_are_aligned() {
        let text = text(&comparison());
        let rows: Vec<&str> =
            text.lines().filter(|line| line.starts_with("16 partitions ")).collect();
        // Three brokers in the table of figures, two in that of ratios; the last column is flush.
        let (figures, ratios) = rows.split_at(3);
        let flush = |rows: &[&str]| {
            rows.windows(2).all(|pair| pair[0].chars().count() == pair[1].chars().count())
        };
        assert!(ratios.len() == 2 && flush(figures) && flush(ratios), "{text}");
    }
}
