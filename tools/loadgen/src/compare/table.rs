//! A comparison as text for a terminal.

use std::fmt::Write;

use super::figures::Better;
use super::{Comparison, Ratio, Row, Verdict};
use crate::measure::percentiles::REPORTED;
use crate::report::live::{count, micros};

/// Width of a name, of a figure, of a ratio.
const NAME: usize = 32;
const FIGURE: usize = 26;
const RATIO: usize = 46;

/// The comparison as text.
#[must_use]
pub fn render(found: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_all(found, &mut out);
    out
}

fn write_all(found: &Comparison, out: &mut String) -> std::fmt::Result {
    writeln!(out)?;
    for group in &found.groups {
        let runs = group.files.len();
        let plural = if runs == 1 { "run" } else { "runs" };
        writeln!(out, "{}: {runs} {plural}, {}, {}", group.name, group.broker, group.durability)?;
    }
    write!(out, "\n{:<NAME$}", "median [lowest..highest]")?;
    for group in &found.groups {
        write!(out, "{:>FIGURE$}", group.name)?;
    }
    for group in &found.groups[1..] {
        write!(out, "   {:<RATIO$}", format!("{} / {}", group.name, found.groups[0].name))?;
    }
    writeln!(out)?;
    for row in &found.rows {
        write!(out, "{:<NAME$}", format!("{}, {}", row.figure.name, row.figure.unit))?;
        for idx in 0..found.groups.len() {
            write!(out, "{:>FIGURE$}", median(row, idx))?;
        }
        for ratio in &row.ratios {
            let text = ratio.as_ref().map_or_else(
                || "-".to_owned(),
                |it| format!("{}  {}", ratio_text(it), verdict(row, it)),
            );
            write!(out, "   {text:<RATIO$}")?;
        }
        writeln!(out)?;
    }
    merged(found, out)?;
    writeln!(out)?;
    writeln!(out, "{}", how(found))?;
    for warning in &found.warnings {
        writeln!(out, "note: {warning}")?;
    }
    Ok(())
}

/// How the ratios came about, in a sentence.
#[must_use]
pub fn how(found: &Comparison) -> String {
    let what = if found.paired {
        "Ratios are medians of the ratios of pairs"
    } else {
        "Ratios are of medians"
    };
    format!(
        "{what}; [..] is their 95 % interval (bootstrap, seed {}). A difference is outside the noise \
         if the interval does not hold 1; of twenty that are none, one looks like one.",
        found.seed
    )
}

/// A group's median with its spread.
#[must_use]
pub fn median(row: &Row, idx: usize) -> String {
    let Some(median) = row.medians[idx] else { return "-".to_owned() };
    match row.spreads[idx] {
        Some((low, high)) if low < high => {
            format!("{} [{}..{}]", figure(median), figure(low), figure(high))
        }
        _ => figure(median),
    }
}

/// Three or four digits that count.
#[must_use]
pub fn figure(value: f64) -> String {
    match value.abs() {
        it if it >= 1e6 => count(value as u64),
        it if it >= 1e3 => format!("{value:.0}"),
        it if it >= 1e2 => format!("{value:.1}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A ratio with its interval.
#[must_use]
pub fn ratio_text(ratio: &Ratio) -> String {
    match &ratio.interval {
        Some(it) => {
            let mark = if it.firm { "" } else { "~" };
            format!("{:.3} {mark}[{:.3}..{:.3}]", ratio.ratio, it.low, it.high)
        }
        None => format!("{:.3}", ratio.ratio),
    }
}

/// What a ratio says.
#[must_use]
pub fn verdict(row: &Row, ratio: &Ratio) -> &'static str {
    match (ratio.verdict, row.figure.better, ratio.ratio > 1.0) {
        (Verdict::Unknown, ..) => "too few runs",
        (Verdict::Within, ..) => "within noise",
        (Verdict::Outside, Better::Neither, _) => "differs",
        (Verdict::Outside, Better::More, true) | (Verdict::Outside, Better::Less, false) => {
            "better"
        }
        (Verdict::Outside, ..) => "worse",
    }
}

/// Percentiles of all runs of a group together.
fn merged(found: &Comparison, out: &mut String) -> std::fmt::Result {
    if found.groups.iter().all(|group| group.merged.is_empty()) {
        return Ok(());
    }
    write!(out, "\n{:<NAME$}", "all runs of a group together")?;
    for (_, name) in REPORTED {
        write!(out, "{name:>11}")?;
    }
    writeln!(out, "{:>11}{:>11}", "longest", "samples")?;
    let mut tags: Vec<&String> = found.groups.iter().flat_map(|it| it.merged.keys()).collect();
    tags.sort();
    tags.dedup();
    for tag in tags {
        for group in &found.groups {
            let Some(summary) = group.merged.get(tag) else { continue };
            write!(out, "{:<NAME$}", format!("{}, {}", tag.replace('_', " "), group.name))?;
            for percentile in &summary.percentiles {
                let mark = if percentile.firm { "" } else { "~" };
                write!(out, "{:>11}", format!("{mark}{}", micros(percentile.us)))?;
            }
            writeln!(out, "{:>11}{:>11}", micros(summary.max_us), count(summary.samples))?;
        }
    }
    Ok(())
}
