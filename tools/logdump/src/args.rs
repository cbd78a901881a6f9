//! The command line.

use std::ops::Range;
use std::path::PathBuf;

use clap::Parser;

/// Prints and verifies a data directory offline: journals, segments, indexes, snapshots,
/// checkpoints, metadata. Reads only; takes no lock.
///
/// Exit codes: 0 nothing is damaged; 1 something could not be read; 2 wrong flags; 3 damage found.
#[derive(Debug, Parser)]
#[command(name = "thalweg-logdump", version)]
pub struct Args {
    /// The data directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Check every batch of every file, not only headers and what a start would read.
    #[arg(long)]
    pub verify: bool,
    /// One topic, by name or id (22 characters, or 32 hexadecimal digits): its files and batches.
    #[arg(long, value_name = "NAME|ID", conflicts_with = "journal")]
    pub topic: Option<String>,
    /// One partition of the topic.
    #[arg(long, value_name = "N", requires = "topic")]
    pub partition: Option<i32>,
    /// Batches with offsets from A up to, but not including, B; either may be left out.
    #[arg(long, value_name = "A..B", requires = "topic", value_parser = parse_offsets)]
    pub offsets: Option<Range<i64>>,
    /// The records, too: keys, values, headers, timestamps, decompressed.
    #[arg(long, requires = "topic")]
    pub records: bool,
    /// Bytes shown of a key, a value, or a header.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_bytes: usize,
    /// The groups and entries of one shard's journal.
    #[arg(long, value_name = "SHARD")]
    pub journal: Option<u16>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Exit with 3 also for what a crash leaves (torn ends) and what is rebuilt (stale files).
    #[arg(long)]
    pub strict: bool,
    /// The metadata store, where it is in another data directory [default: DIR/metadata.redb]
    #[arg(long, value_name = "FILE")]
    pub metadata: Option<PathBuf>,
}

fn parse_offsets(text: &str) -> Result<Range<i64>, String> {
    let number = |text: &str, missing| match text {
        "" => Ok(missing),
        text => text.parse::<i64>().map_err(|_| format!("{text:?} is not an offset")),
    };
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (number(first, 0)?, number(end, i64::MAX)?),
        None => {
            let one = number(text, -1)?;
            (one, one.saturating_add(1))
        }
    };
    if first < 0 || first >= end {
        return Err("it must be A..B with 0 <= A < B, or one offset".to_owned());
    }
    Ok(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_may_be_open_at_either_end_or_one() {
        assert_eq!(parse_offsets("3..7"), Ok(3..7));
        assert_eq!(parse_offsets("3.."), Ok(3..i64::MAX));
        assert_eq!(parse_offsets("..7"), Ok(0..7));
        assert_eq!(parse_offsets("5"), Ok(5..6));
        for wrong in ["", "x", "7..3", "-2..4", "3..3", "1..2..3"] {
            assert!(parse_offsets(wrong).is_err(), "{wrong}");
        }
    }
}
