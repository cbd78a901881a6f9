//! `thalweg-bench workload explain`: the workload that a file and flags make together.

use std::fmt::Write;

use super::{Workload, file};
use crate::args::WorkloadCommand;
use crate::run::{Outcome, RunError};
use crate::wire::pool::BatchPool;

/// `thalweg-bench workload`.
///
/// # Errors
/// A workload that cannot be.
pub fn command(command: &WorkloadCommand) -> Result<Outcome, RunError> {
    let WorkloadCommand::Explain { workload } = command;
    for (idx, workload) in workload.all().iter().enumerate() {
        let text = explain(workload).map_err(RunError::Flags)?;
        if idx > 0 {
            println!();
        }
        print!("{text}");
    }
    Ok(Outcome::Fine)
}

/// The workload as a file, with what follows from it as comments.
///
/// # Errors
/// A sentence that says why it cannot be.
pub fn explain(workload: &Workload) -> Result<String, String> {
    if let Some(flaw) = workload.flaw() {
        return Err(match &workload.name[..] {
            "" => flaw,
            name => format!("workload `{name}`: {flaw}"),
        });
    }
    let mut out = file::write(workload);
    // Writing to a String does not fail.
    let _ = follow(workload, &mut out)?;
    Ok(out)
}

fn follow(workload: &Workload, out: &mut String) -> Result<std::fmt::Result, String> {
    if workload.producers == 0 {
        return Ok(Ok(()));
    }
    let pool = BatchPool::build(workload).map_err(|error| error.to_string())?;
    let facts = pool.facts();
    let mut write = || {
        writeln!(
            out,
            "# batches: {} prebuilt, {:.0} B of values and {:.0} B on the wire in the mean, records \
             {:.2} times smaller",
            facts.batches,
            facts.value_bytes_per_batch,
            facts.wire_bytes_per_batch,
            facts.compress_ratio
        )?;
        if facts.distinct_keys > 0 {
            writeln!(out, "# keys: {} of {} in them", facts.distinct_keys, workload.key_count)?;
        }
        for step in workload.rates() {
            let bytes = facts.value_bytes_per_batch;
            match step.rate.batches_per_second(workload.batch_records, bytes) {
                None => writeln!(out, "# closed loop")?,
                Some(requests) => writeln!(
                    out,
                    "# {step}: {requests:.1} requests/s, {:.1} records/s, {:.3} MB/s",
                    requests * f64::from(workload.batch_records),
                    requests * bytes / 1e6
                )?,
            }
        }
        Ok(())
    };
    Ok(write())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_a_file_that_means_the_same() {
        let text = "keys = \"zipf\"\nrate = \"5MB/s\"\nrecord_bytes = \"uniform:10..100\"";
        let workload = file::parse(text).expect("a workload").remove(0);
        let explained = explain(&workload).expect("explains");
        assert_eq!(file::parse(&explained).expect("reads back"), [workload]);
        assert!(explained.contains("requests/s, "), "{explained}");
    }

    #[test]
    fn a_workload_that_cannot_be_is_not_explained() {
        let workload = Workload { name: "x".into(), in_flight: 0, ..Workload::default() };
        let error = explain(&workload).expect_err("cannot be");
        assert!(error.contains("`x`") && error.contains("--in-flight"), "{error}");
    }
}
