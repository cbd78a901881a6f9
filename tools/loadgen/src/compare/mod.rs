//! Runs beside each other: medians, ratios with confidence intervals, percentiles from merged
//! histograms, and what of it is more than noise.
//!
//! Not here: measuring; statistics (`stats`). Works on the JSON that runs left, of whichever version of
//! this tool and whichever broker.
//! Invariant: different workloads are not compared unless that is asked for, and then it is said.
//! Callers: `main`.

mod figures;
mod load;
mod page;
mod stats;
mod table;

use std::collections::BTreeMap;
use std::io;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::CompareArgs;
use crate::measure::percentiles::Summary;
use crate::report::files;
use crate::run::{Outcome, RunError, write_json};
use figures::Figure;
use load::{Group, RunFile};
pub use stats::{Interval, RUNS_FIRM_MIN, RUNS_MIN, Verdict, median};

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Rises when a reader of the JSON would stumble.
    pub schema_version: u32,
    /// The groups; the first is what the others are compared with.
    pub groups: Vec<GroupSummary>,
    /// Whether ratios are of pairs of runs.
    pub paired: bool,
    /// Seed of the intervals.
    pub seed: u64,
    /// The figures.
    pub rows: Vec<Row>,
    /// What makes it doubtful.
    pub warnings: Vec<String>,
}

/// One group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Vec<String>,
    /// What its acknowledgements meant.
    pub durability: String,
    /// Its broker, as far as it is known.
    pub broker: String,
    /// Latencies of all its runs together, by the names of the `.hlog` tags.
    pub merged: BTreeMap<String, Summary>,
    /// The distributions themselves, for the chart.
    #[serde(skip)]
    histograms: BTreeMap<String, Histogram<u64>>,
}

/// One figure in all groups.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub figure: Figure,
    /// The median of each group's runs; none where no run has it.
    pub medians: Vec<Option<f64>>,
    /// Lowest and highest of each group's runs.
    pub spreads: Vec<Option<(f64, f64)>>,
    /// Each further group against the first.
    pub ratios: Vec<Option<Ratio>>,
}

/// One group's figure against the first group's.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Ratio of the medians; of pairs, the median of the ratios.
    pub ratio: f64,
    /// Where it lies with 95 % confidence, if there are enough runs to say so.
    pub interval: Option<Interval>,
    /// Whether it is more than noise.
    pub verdict: Verdict,
}

/// `thalweg-bench compare`.
///
/// # Errors
/// Files that cannot be read or are no runs; runs that must not be compared.
pub fn command(args: &CompareArgs) -> Result<Outcome, RunError> {
    files::check_folders([
        ("--json", args.json.as_deref()),
        ("--html", args.html.as_deref()),
        ("--charts", args.charts.as_deref()),
    ])?;
    let groups = args.groups.iter().map(|text| load::group(text));
    let groups = groups.collect::<Result<Vec<Group>, String>>().map_err(RunError::Flags)?;
    let found = compare(groups, args).map_err(RunError::Flags)?;
    print!("{}", table::render(&found));
    if let Some(path) = &args.json {
        write_json(path, &found)?;
    }
    let drawn = |error| RunError::Io("the page", io::Error::other(error));
    if let Some(path) = &args.html {
        files::write_html(path, &page::render(&found).map_err(drawn)?)?;
    }
    if let Some(folder) = &args.charts {
        files::write_charts(folder, &page::charts(&found))?;
    }
    Ok(Outcome::Fine)
}

/// Compares `groups`.
///
/// # Errors
/// Why they must not be compared.
fn compare(groups: Vec<Group>, args: &CompareArgs) -> Result<Comparison, String> {
    let mut warnings = load::differences(&groups, args.force)?;
    if args.paired && groups.iter().any(|group| group.runs.len() != groups[0].runs.len()) {
        return Err("--paired needs groups of equally many runs".to_owned());
    }
    let mut rows = Vec::new();
    for figure in figures::ALL {
        let of_group = |group: &Group| group.runs.iter().map(|run| run.figure(&figure)).collect();
        let values: Vec<Vec<Option<f64>>> = groups.iter().map(of_group).collect();
        if values.iter().flatten().any(Option::is_some) {
            rows.push(row(figure, &values, args));
        }
    }
    let fewest = groups.iter().map(|group| group.runs.len()).min().unwrap_or(0);
    if fewest < RUNS_MIN {
        warnings.push(format!(
            "a group has fewer than {RUNS_MIN} runs: nothing tells a difference from noise"
        ));
    } else if fewest < RUNS_FIRM_MIN {
        warnings.push(format!(
            "a group has fewer than {RUNS_FIRM_MIN} runs: the intervals (marked ~) are too narrow to \
             tell a difference from noise"
        ));
    }
    let summaries = groups.into_iter().map(summarize).collect::<Result<Vec<_>, _>>()?;
    Ok(Comparison {
        schema_version: crate::report::SCHEMA_VERSION,
        groups: summaries,
        paired: args.paired,
        seed: args.seed,
        rows,
        warnings,
    })
}

fn row(figure: Figure, values: &[Vec<Option<f64>>], args: &CompareArgs) -> Row {
    let known: Vec<Vec<f64>> =
        values.iter().map(|group| group.iter().copied().flatten().collect()).collect();
    let spread = |group: &Vec<f64>| {
        let low = group.iter().copied().reduce(f64::min)?;
        Some((low, group.iter().copied().reduce(f64::max)?))
    };
    let ratio = |idx: usize| {
        let ratios = if args.paired {
            let pairs = values[0].iter().zip(&values[idx]);
            let pairs: Vec<(f64, f64)> = pairs.filter_map(|(a, b)| a.zip(*b)).collect();
            stats::paired(&pairs, args.seed)
        } else {
            stats::unpaired(&known[0], &known[idx], args.seed)
        };
        ratios.map(|(ratio, interval)| Ratio {
            ratio,
            verdict: stats::judge(interval.as_ref()),
            interval,
        })
    };
    Row {
        figure,
        medians: known.iter().map(|group| stats::median(group)).collect(),
        spreads: known.iter().map(spread).collect(),
        ratios: (1..values.len()).map(ratio).collect(),
    }
}

fn summarize(group: Group) -> Result<GroupSummary, String> {
    let mut histograms: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for run in &group.runs {
        for (tag, histogram) in &run.histograms {
            match histograms.get_mut(tag) {
                Some(merged) => merged
                    .add(histogram)
                    .map_err(|error| format!("{}: {tag}: {error}", run.path.display()))?,
                None => {
                    histograms.insert(tag.clone(), histogram.clone());
                }
            }
        }
    }
    let first = group.runs.first();
    Ok(GroupSummary {
        name: group.name,
        files: group.runs.iter().map(|run| run.path.display().to_string()).collect(),
        durability: first.map(RunFile::durability).unwrap_or_default(),
        broker: first.map(RunFile::broker).unwrap_or_default(),
        merged: histograms
            .iter()
            .filter_map(|(tag, it)| Some((tag.clone(), Summary::of(it)?)))
            .collect(),
        histograms,
    })
}

#[cfg(test)]
mod tests;
