//! A comparison as a page, and its charts.

use hdrhistogram::Histogram;

use super::{Comparison, table};
use crate::chart::{Axis, Chart, ChartError, Curve, Line, Mark, Marker, Rgb, Scale, palette};
use crate::measure::percentiles::REPORTED;
use crate::report::html::{Cell, Page};
use crate::report::live::{count, micros};
use crate::report::pictures;

/// Tags of the latencies with the words of charts and tables, and the charts' names.
const LATENCIES: [(&str, &str, &str); 4] = [
    ("publish", "Publish latency by percentile", "percentiles-publish"),
    ("service", "Service time by percentile", "percentiles-service"),
    ("delay", "Delay before sending by percentile", "percentiles-delay"),
    ("end_to_end", "End-to-end latency by percentile", "percentiles-end-to-end"),
];

/// Height of a row of the chart of ratios, and of what surrounds the rows, px.
const ROW_HEIGHT: u32 = 24;
const AROUND_ROWS: u32 = 160;

/// The page.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn render(found: &Comparison) -> Result<String, ChartError> {
    let names: Vec<&str> = found.groups.iter().map(|group| group.name.as_str()).collect();
    let mut page = Page::new(&names.join(" and "));
    let base = &found.groups[0].name;
    let head = ["group", "runs", "broker", "durability"].map(Cell::words);
    let groups = found.groups.iter().map(|group| {
        vec![
            Cell::words(&group.name),
            Cell::words(group.files.len().to_string()),
            Cell::words(&group.broker),
            Cell::words(&group.durability),
        ]
    });
    page.table(&head, &groups.collect::<Vec<_>>());
    page.warnings(&found.warnings);
    let (curves, ratios): (Vec<_>, Vec<_>) =
        charts(found).into_iter().partition(|chart| chart.name != "ratios");
    page.heading("Ratios");
    page.charts(&ratios)?;
    let mut head = vec![Cell::words("median [lowest..highest]")];
    head.extend(names.iter().map(|name| Cell::figure(*name)));
    for name in &names[1..] {
        head.push(Cell::figure(format!("{name} / {base}")));
        head.push(Cell::words(""));
    }
    let rows = found.rows.iter().map(|row| {
        let mut cells = vec![Cell::words(format!("{} ({})", row.figure.name, row.figure.unit))];
        cells.extend((0..names.len()).map(|idx| Cell::figure(table::median(row, idx))));
        for ratio in &row.ratios {
            cells.push(Cell::figure(ratio.as_ref().map(table::ratio_text).unwrap_or_default()));
            cells.push(Cell::words(ratio.as_ref().map_or("", |it| table::verdict(row, it))));
        }
        cells
    });
    page.table(&head, &rows.collect::<Vec<_>>());
    page.paragraph("terms", &table::how(found));
    if !curves.is_empty() {
        page.heading("Latency of all runs of a group together");
        page.charts(&curves)?;
        merged(found, &mut page);
    }
    page.heading("Files");
    let files = found.groups.iter().map(|group| (group.name.clone(), group.files.join(", ")));
    page.pairs(&files.collect::<Vec<_>>());
    Ok(page.finish())
}

fn merged(found: &Comparison, page: &mut Page) {
    let mut head = vec![Cell::words("latency"), Cell::words("group")];
    head.extend(REPORTED.iter().map(|(_, name)| Cell::figure(*name)));
    head.extend([Cell::figure("longest"), Cell::figure("samples")]);
    let mut rows = Vec::new();
    for (tag, ..) in LATENCIES {
        for group in &found.groups {
            let Some(summary) = group.merged.get(tag) else { continue };
            let mut cells = vec![Cell::words(tag.replace('_', " ")), Cell::words(&group.name)];
            cells.extend(summary.percentiles.iter().map(|it| {
                let mark = if it.firm { "" } else { "~" };
                Cell::figure(format!("{mark}{}", micros(it.us)))
            }));
            cells.push(Cell::figure(micros(summary.max_us)));
            cells.push(Cell::figure(count(summary.samples)));
            rows.push(cells);
        }
    }
    page.table(&head, &rows);
}

/// The charts: the ratios, and percentile curves of publish and end-to-end latency.
#[must_use]
pub fn charts(found: &Comparison) -> Vec<Chart> {
    let mut charts: Vec<Chart> = ratios(found).into_iter().collect();
    let terms = |group: &super::GroupSummary| format!("{}: {}", group.name, group.durability);
    let subtitle = found.groups.iter().map(terms).collect::<Vec<_>>().join("; ");
    for (tag, title, name) in LATENCIES {
        if tag == "delay" || tag == "service" {
            continue; // in the table; they explain, they are not what is asked
        }
        let distributions: Vec<(String, Histogram<u64>)> = found
            .groups
            .iter()
            .filter_map(|it| Some((it.name.clone(), it.histograms.get(tag)?.clone())))
            .collect();
        if !distributions.is_empty() {
            let chart = pictures::percentiles(title.to_owned(), subtitle.clone(), &distributions);
            charts.push(Chart { name, ..chart });
        }
    }
    charts
}

/// What a ratio is called in the legend, with its colour and marker.
const KINDS: [(&str, Rgb, Marker); 5] = [
    ("better", palette::BLUE, Marker::Circle),
    ("worse", palette::VERMILION, Marker::Square),
    ("differs", palette::PURPLE, Marker::Triangle),
    ("within noise", palette::GREY, Marker::Diamond),
    ("too few runs", palette::GREY, Marker::Cross),
];

/// Ratios with their intervals, one line for each figure and group.
fn ratios(found: &Comparison) -> Option<Chart> {
    let base = &found.groups[0].name;
    let mut names = Vec::new();
    let mut curves: Vec<Curve> = Vec::new();
    for (kind, color, marker) in KINDS {
        curves.push(Curve {
            name: kind.to_owned(),
            color,
            marker,
            line: Line::None,
            points: Vec::new(),
        });
    }
    for (idx, group) in found.groups[1..].iter().enumerate() {
        for row in &found.rows {
            let Some(ratio) = row.ratios[idx].as_ref().filter(|it| it.ratio > 0.0) else {
                continue;
            };
            let place = names.len() as f64;
            let several = found.groups.len() > 2;
            let whose = if several { format!("{}: ", group.name) } else { String::new() };
            names.push(format!("{whose}{}", row.figure.name));
            let kind = table::verdict(row, ratio);
            let at = KINDS.iter().position(|it| it.0 == kind)?;
            curves[at].points.push((ratio.ratio, place));
            if let Some(it) = &ratio.interval {
                curves.push(Curve {
                    name: String::new(),
                    color: KINDS[at].1,
                    marker: Marker::None,
                    line: if it.firm { Line::Solid } else { Line::Dashed },
                    points: vec![(it.low, place), (it.high, place)],
                });
            }
        }
    }
    // Kinds that nothing is of need no place in the legend.
    curves.retain(|curve| !curve.points.is_empty());
    if names.is_empty() {
        return None;
    }
    let mut ratios = found.rows.iter().flat_map(|row| row.ratios.iter().flatten());
    let barred = ratios.any(|ratio| ratio.interval.is_some());
    let note = if barred { "; bars: 95 % intervals, dashed with fewer than five runs" } else { "" };
    let height = AROUND_ROWS + ROW_HEIGHT * names.len() as u32;
    let compared: Vec<&str> = found.groups[1..].iter().map(|it| it.name.as_str()).collect();
    Some(Chart {
        name: "ratios",
        title: format!("{} over {base}", compared.join(", ")),
        subtitle: format!("ratios of medians, 1 is equal{note}").trim_end_matches("; ").to_owned(),
        x: Axis { label: format!("times what {base} has (ratio, logarithmic)"), scale: Scale::Log },
        y: Axis { label: String::new(), scale: Scale::Names(names) },
        curves,
        marks: vec![Mark::AtX(1.0, String::new())],
        height,
    })
}
