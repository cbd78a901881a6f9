//! Which charts a run and a search show.
//!
//! Not here: drawing (`chart`). Invariant: what a curve rests on too few samples for is dashed.

use hdrhistogram::Histogram;

use super::Report;
use super::words;
use crate::chart::{Axis, Chart, Curve, HEIGHT, Line, MARKERS, Mark, Marker, Rgb, Scale, palette};
use crate::measure::encoded;
use crate::measure::percentiles::{SAMPLES_BEYOND_MIN, Summary};
use crate::run::collect::Second;
use crate::saturate::{Saturation, Step};

/// Points of a curve.
type Points = Vec<(f64, f64)>;

/// Points of a percentile curve for each halving of what is beyond.
const STEPS_PER_HALVING: u32 = 8;

/// The charts of a run: those that it has figures for.
#[must_use]
pub fn of_run(report: &Report) -> Vec<Chart> {
    let terms = words::terms(&report.workload, &report.target);
    let mut charts = vec![throughput(report, &terms)];
    type Pick = fn(&Second) -> Option<&Summary>;
    let series: [(&'static str, &str, Pick); 2] = [
        ("publish-latency", "Publish latency over time", |it| it.response.as_ref()),
        ("end-to-end-latency", "End-to-end latency over time", |it| it.end_to_end.as_ref()),
    ];
    for (name, title, pick) in series {
        if report.seconds.iter().any(|second| pick(second).is_some()) {
            charts.push(latency(report, (name, title), &terms, pick));
        }
    }
    let distributions: Vec<(String, Histogram<u64>)> = DISTRIBUTIONS
        .iter()
        .filter_map(|&(tag, name)| {
            let histogram = encoded::decode(report.histograms.get(tag)?).ok()?;
            Some((name.to_owned(), histogram))
        })
        .collect();
    if !distributions.is_empty() {
        charts.push(percentiles("Latency by percentile".to_owned(), terms, &distributions));
    }
    charts
}

/// The latencies of a percentile curve, by their tags.
const DISTRIBUTIONS: [(&str, &str); 3] = [
    ("publish", "publish"),
    ("service", "service (from actual send)"),
    ("end_to_end", "end to end (to a consumer)"),
];

fn time_axis() -> Axis {
    Axis { label: "time since the first send (s)".to_owned(), scale: Scale::Linear }
}

/// A second's figures stand in its middle.
fn middle(second: &Second) -> f64 {
    second.second as f64 + 0.5
}

/// Seconds in which load was offered; what trickles in behind is no series.
fn in_time(report: &Report) -> impl Iterator<Item = &Second> {
    let length = report.workload.warmup + report.workload.duration;
    report.seconds.iter().filter(move |it| (it.second as f64) < length.as_secs_f64())
}

fn warm_up(report: &Report) -> Vec<Mark> {
    let length = report.workload.warmup.as_secs_f64();
    let span = Mark::Span { from_to: (0.0, length), label: "warm-up, not measured".to_owned() };
    if length > 0.0 { vec![span] } else { Vec::new() }
}

fn throughput(report: &Report, terms: &str) -> Chart {
    let mut curves = Vec::new();
    let mut add = |name: &str, color, marker, bytes: fn(&Second) -> u64| {
        let points = in_time(report).map(|it| (middle(it), bytes(it) as f64 / 1e6)).collect();
        curves.push(Curve { name: name.to_owned(), color, marker, line: Line::Solid, points });
    };
    if report.workload.producers > 0 {
        let name = "produced and acknowledged (record values)";
        add(name, palette::BLUE, Marker::Circle, |it| it.acked_value_bytes);
    }
    if report.workload.consumers > 0 {
        let name = "consumed (whole batches)";
        add(name, palette::VERMILION, Marker::Square, |it| it.fetched_bytes);
    }
    let mut marks = warm_up(report);
    let rates = &report.throughput;
    if let Some(requests) = rates.offered_requests_per_s
        && report.workload.producers > 0
    {
        let offered = requests * report.generator.pool.value_bytes_per_batch / 1e6;
        marks.push(Mark::AtY(offered, format!("offered: {offered:.1} MB/s")));
    }
    Chart {
        name: "throughput",
        title: "Throughput over time".to_owned(),
        subtitle: terms.to_owned(),
        x: time_axis(),
        y: Axis { label: "throughput (MB/s)".to_owned(), scale: Scale::Linear },
        curves,
        marks,
        height: HEIGHT,
    }
}

/// Percentiles of each second, with their colours and markers.
const OVER_TIME: [(&str, Rgb, Marker); 3] = [
    ("p50", palette::BLUE, Marker::Circle),
    ("p99", palette::VERMILION, Marker::Square),
    ("p99.9", palette::GREEN, Marker::Triangle),
];

fn latency(
    report: &Report,
    (name, title): (&'static str, &str),
    terms: &str,
    pick: fn(&Second) -> Option<&Summary>,
) -> Chart {
    let seconds: Vec<(f64, Option<&Summary>)> =
        in_time(report).map(|second| (middle(second), pick(second))).collect();
    let ms = |us: Option<f64>| us.map_or(f64::NAN, |us| us / 1e3);
    let is_firm = |wanted: &str| {
        let firm = |it: &Summary| it.percentiles.iter().any(|p| p.name == wanted && p.firm);
        let seen = seconds.iter().filter(|it| it.1.is_some()).count();
        seconds.iter().filter(|it| it.1.is_some_and(firm)).count() * 2 > seen
    };
    let mut curves: Vec<Curve> = OVER_TIME
        .iter()
        // A second with a thousand requests has no p99.9 worth a curve.
        .filter(|(percentile, ..)| *percentile != "p99.9" || is_firm(percentile))
        .map(|&(percentile, color, marker)| Curve {
            name: percentile.to_owned(),
            color,
            marker,
            line: if is_firm(percentile) { Line::Solid } else { Line::Dashed },
            points: seconds
                .iter()
                .map(|(at, summary)| (*at, ms(summary.and_then(|it| it.us(percentile)))))
                .collect(),
        })
        .collect();
    curves.push(Curve {
        name: "longest".to_owned(),
        color: palette::GREY,
        marker: Marker::Diamond,
        line: Line::Dashed,
        points: seconds.iter().map(|(at, it)| (*at, ms(it.map(|it| it.max_us)))).collect(),
    });
    Chart {
        name,
        title: format!("{title}, each second"),
        subtitle: terms.to_owned(),
        x: time_axis(),
        y: Axis { label: "latency (ms)".to_owned(), scale: Scale::Log },
        curves,
        marks: warm_up(report),
        height: HEIGHT,
    }
}

/// HdrHistogram's percentile curve for each named distribution (ns).
#[must_use]
pub fn percentiles(
    title: String,
    subtitle: String,
    distributions: &[(String, Histogram<u64>)],
) -> Chart {
    let mut curves = Vec::new();
    for (idx, (name, histogram)) in distributions.iter().enumerate() {
        let color = palette::CURVES[idx % palette::CURVES.len()];
        let marker = MARKERS[idx % MARKERS.len()];
        let (firm, rest) = percentile_points(histogram);
        let name = format!("{name}, {} samples", super::live::count(histogram.len()));
        curves.push(Curve { name, color, marker, line: Line::Solid, points: firm });
        let name = String::new();
        curves.push(Curve { name, color, marker: Marker::None, line: Line::Dashed, points: rest });
    }
    Chart {
        name: "percentiles",
        title: format!("{title} (dashed: fewer than {SAMPLES_BEYOND_MIN} samples beyond)"),
        subtitle,
        x: Axis { label: "percentile (%)".to_owned(), scale: Scale::Percentile },
        y: Axis { label: "latency (ms)".to_owned(), scale: Scale::Log },
        curves,
        marks: Vec::new(),
        height: HEIGHT,
    }
}

/// Quantile and latency (ms): those with enough samples beyond them, and the others. The curve
/// ends with the last sample, whose own quantile would be 100 %.
fn percentile_points(histogram: &Histogram<u64>) -> (Points, Points) {
    let samples = histogram.len() as f64;
    let last = 1.0 - 1.0 / (samples + 1.0);
    let firm_until = 1.0 - SAMPLES_BEYOND_MIN as f64 / samples;
    let (mut firm, mut rest) = (Vec::new(), Vec::new());
    let step = 0.5f64.powf(1.0 / f64::from(STEPS_PER_HALVING));
    let mut beyond: f64 = 1.0;
    loop {
        let quantile = (1.0 - beyond).min(last);
        let ms = histogram.value_at_quantile(quantile).min(histogram.max()) as f64 / 1e6;
        if quantile <= firm_until {
            firm.push((quantile, ms))
        } else {
            rest.push((quantile, ms))
        }
        if quantile >= last {
            break;
        }
        beyond *= step;
    }
    // The dashes begin where the line ends.
    rest.splice(0..0, firm.last().copied());
    (firm, rest)
}

/// The charts of a search.
#[must_use]
pub fn of_search(found: &Saturation) -> Vec<Chart> {
    let terms = found.setting.as_ref();
    let subtitle = terms.map(|it| words::terms_without_rate(&it.workload, &it.target));
    let held: Vec<&Step> = found.steps.iter().filter(|it| it.not_held.is_none()).collect();
    let failed: Vec<&Step> = found.steps.iter().filter(|it| it.not_held.is_some()).collect();
    let points = |steps: &[&Step], percentile: &str| {
        let point = |step: &&Step| {
            let us = step.publish.as_ref().and_then(|it| it.us(percentile));
            (step.produced_mb_per_s, us.unwrap_or(f64::NAN) / 1e3)
        };
        steps.iter().map(point).collect()
    };
    let mut curves: Vec<Curve> = OVER_TIME
        .iter()
        .map(|&(percentile, color, marker)| Curve {
            name: percentile.to_owned(),
            color,
            marker,
            line: Line::Solid,
            points: points(&held, percentile),
        })
        .collect();
    curves.push(Curve {
        name: "p99 where the rate was not held".to_owned(),
        color: palette::GREY,
        marker: Marker::Cross,
        line: Line::None,
        points: points(&failed, "p99"),
    });
    let bound = found.p99_max_ms;
    let mut marks = vec![Mark::AtY(bound, format!("held if p99 is at most {bound} ms"))];
    if let Some(rate) = found.saturation_mb_per_s {
        marks.push(Mark::AtX(rate, format!("saturation: {rate:.1} MB/s")));
    }
    vec![Chart {
        name: "latency-throughput",
        title: "Publish latency over throughput".to_owned(),
        subtitle: subtitle.unwrap_or_default(),
        x: Axis { label: "throughput acknowledged (MB/s)".to_owned(), scale: Scale::Linear },
        y: Axis { label: "latency (ms)".to_owned(), scale: Scale::Log },
        curves,
        marks,
        height: HEIGHT,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::latency_histogram;

    #[test]
    fn a_percentile_curve_reaches_the_longest_and_marks_what_few_samples_carry() {
        let mut histogram = latency_histogram();
        (1..=10_000u64).for_each(|at| histogram.saturating_record(at * 1_000_000));
        let (firm, rest) = percentile_points(&histogram);
        assert!(firm.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        // 20 of 10,000 are beyond p99.8.
        assert!(firm.last().is_some_and(|it| it.0 <= 0.998 && it.0 > 0.997));
        assert_eq!(rest.first(), firm.last());
        let (quantile, ms) = rest.last().copied().expect("it ends");
        assert!(quantile < 1.0 && (ms / 10_000.0 - 1.0).abs() < 0.001, "{ms}");
    }

    #[test]
    fn a_single_sample_is_a_curve_too() {
        let mut histogram = latency_histogram();
        histogram.saturating_record(5_000_000);
        let chart = percentiles(String::new(), String::new(), &[("a".to_owned(), histogram)]);
        assert!(chart.svg().is_ok());
    }
}
