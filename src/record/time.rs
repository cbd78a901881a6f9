//! Look-ups by time inside one batch, exact to the record also where records are compressed
//! (redpanda answered with the batch's base offset until 2025, its #25769).

use crate::base::ids::Offset;

use super::cursor::records;
use super::error::BatchError;
use super::header::TimestampType;
use super::stored::StoredBatch;

/// The first record whose timestamp is at least `target_ms`: its offset and timestamp. A batch
/// whose header rules that out is not opened.
///
/// # Errors
/// As [`records`], and `Invalid` for a broken record before the one that is looked for.
pub fn find_timestamp(
    batch: StoredBatch<'_>,
    target_ms: i64,
    limit: usize,
) -> Result<Option<(Offset, i64)>, BatchError> {
    find_timestamp_from(batch, target_ms, Offset(i64::MIN), limit)
}

/// As [`find_timestamp`], among the records at or after `from`: in the batch that a log's start
/// cuts (DeleteRecords), an earlier record must not be found.
///
/// # Errors
/// As [`find_timestamp`].
pub fn find_timestamp_from(
    batch: StoredBatch<'_>,
    target_ms: i64,
    from: Offset,
    limit: usize,
) -> Result<Option<(Offset, i64)>, BatchError> {
    if batch.max_timestamp() < target_ms || batch.last_offset() < from {
        return Ok(None);
    }
    let mut records = records(batch, limit)?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if record.timestamp() >= target_ms && record.offset() >= from {
            return Ok(Some((record.offset(), record.timestamp())));
        }
    }
    Ok(None)
}

/// The largest timestamp of the batch's records and the first record that has it, counted from the
/// records and not from the header's claim. `None` for an emptied batch.
///
/// # Errors
/// As [`records`], and `Invalid` for a broken record.
pub fn find_max_timestamp(
    batch: StoredBatch<'_>,
    limit: usize,
) -> Result<Option<(Offset, i64)>, BatchError> {
    let append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
    let mut records = records(batch, limit)?;
    let mut found: Option<(Offset, i64)> = None;
    while let Some(record) = records.next_record() {
        let record = record?;
        if found.is_none_or(|(_, max_ms)| record.timestamp() > max_ms) {
            found = Some((record.offset(), record.timestamp()));
        }
        if append_time {
            break; // all records have the same
        }
    }
    Ok(found)
}
