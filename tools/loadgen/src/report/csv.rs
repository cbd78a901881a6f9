//! The seconds of a run as CSV, for spreadsheets and plotting tools.

use std::fmt::Write;

use super::Report;
use crate::measure::percentiles::{REPORTED, Summary};

/// One line for each second under one line of names; an empty field where a second has no such
/// figure. No field needs quotes.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::from(
        "second,measured,sent_requests,acked_records,acked_value_bytes,fetched_records,\
         fetched_bytes,failed_requests,errors,busiest_core",
    );
    for kind in ["publish", "end_to_end"] {
        for (_, name) in REPORTED {
            let _ = write!(out, ",{kind}_{name}_us");
        }
        let _ = write!(out, ",{kind}_max_us");
    }
    out.push('\n');
    for line in &report.seconds {
        let _ = write!(
            out,
            "{},{},{},{},{},{},{},{},{},{:.3}",
            line.second,
            line.measured,
            line.sent_requests,
            line.acked_records,
            line.acked_value_bytes,
            line.fetched_records,
            line.fetched_bytes,
            line.failed_requests,
            line.errors,
            line.busiest_core,
        );
        latencies(line.response.as_ref(), &mut out);
        latencies(line.end_to_end.as_ref(), &mut out);
        out.push('\n');
    }
    out
}

/// Writing to a `String` does not fail.
fn latencies(summary: Option<&Summary>, out: &mut String) {
    let Some(summary) = summary else {
        out.extend(std::iter::repeat_n(',', REPORTED.len() + 1));
        return;
    };
    for percentile in &summary.percentiles {
        let _ = write!(out, ",{:.1}", percentile.us);
    }
    let _ = write!(out, ",{:.1}", summary.max_us);
}
