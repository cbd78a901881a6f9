//! Batches and records, in the words of Kafka's own DumpLogSegments.

use serde_json::{Value, json};
use thalweg::base::ids::TopicPartition;
use thalweg::record::{BatchHeader, Record, StoredBatch, TimestampType, records};
use thalweg::storage::dump::BatchInfo;

use crate::print::Printer;
use crate::values::Shown;

/// No batch is larger than a request may be (100 MiB by default); what claims to be is not opened.
pub const BATCH_BYTES_MAX: u64 = 256 << 20;

/// Bytes that one batch's records may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = 512 << 20;

/// Prints a batch.
pub fn print(printer: &mut Printer<'_>, tp: TopicPartition, info: &BatchInfo) {
    let header = &info.header;
    let producer = header.producer();
    let id = producer.map_or(-1, |stamp| stamp.id.0);
    let epoch = producer.map_or(-1, |stamp| stamp.epoch.0);
    let sequences = producer.map_or((-1, -1), |it| (it.base_sequence.0, it.last_sequence.0));
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    let path = printer.short(&info.path);
    let (first, last) = (header.base_offset().0, header.last_offset().0);
    printer.line(
        || {
            format!(
                "baseOffset: {first} lastOffset: {last} count: {} baseSequence: {} \
                 lastSequence: {} producerId: {id} producerEpoch: {epoch} \
                 partitionLeaderEpoch: {} isTransactional: {} isControl: {} position: {} \
                 {}: {} size: {} magic: {} compresscodec: {codec} crc: {} isvalid: {} \
                 in: {} ({path})",
                header.record_count(),
                sequences.0,
                sequences.1,
                header.leader_epoch(),
                header.is_transactional(),
                header.is_control(),
                info.pos,
                time_name(header),
                header.max_timestamp(),
                info.bytes,
                header.magic(),
                header.crc(),
                info.is_valid,
                info.source.name(),
            )
        },
        || {
            json!({
                "type": "batch", "topic_id": tp.topic_id.to_string(),
                "partition": tp.partition.0, "base_offset": first, "last_offset": last,
                "count": header.record_count(), "producer_id": id, "producer_epoch": epoch,
                "base_sequence": sequences.0, "last_sequence": sequences.1,
                "leader_epoch": header.leader_epoch().0,
                "is_transactional": header.is_transactional(),
                "is_control": header.is_control(), "timestamp_type": time_name(header),
                "max_timestamp": header.max_timestamp(), "bytes": info.bytes, "codec": codec,
                "crc": header.crc(), "is_valid": info.is_valid, "in": info.source.name(),
                "path": path, "pos": info.pos,
            })
        },
    );
}

fn time_name(header: &BatchHeader) -> &'static str {
    match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// Prints the records of a batch with an offset in `offsets`, each field up to `limit` bytes.
pub fn print_records(
    printer: &mut Printer<'_>,
    info: &BatchInfo,
    content: Option<&[u8]>,
    (offsets, limit): (&std::ops::Range<i64>, usize),
) {
    let note = |printer: &mut Printer<'_>, why: String| {
        let first = info.header.base_offset().0;
        printer.line(
            || format!("| not shown: {why}"),
            || json!({"type": "records_not_shown", "base_offset": first, "why": why}),
        );
    };
    if !info.is_valid {
        return note(printer, "the batch does not check".to_owned());
    }
    let Some(content) = content else {
        return note(printer, format!("the batch has more than {BATCH_BYTES_MAX} bytes"));
    };
    let opened = StoredBatch::split_first(content)
        .and_then(|(batch, _)| records(batch, DECOMPRESSED_BYTES_MAX));
    let mut records = match opened {
        Ok(records) => records,
        Err(error) => return note(printer, error.to_string()),
    };
    let base_sequence = info.header.producer().map_or(-1, |it| it.base_sequence.0);
    while let Some(record) = records.next_record() {
        match record {
            Ok(record) if offsets.contains(&record.offset().0) => {
                print_record(printer, info, (&record, base_sequence), limit);
            }
            Ok(_) => {}
            Err(error) => return note(printer, error.to_string()),
        }
        if printer.is_closed() {
            return;
        }
    }
}

fn print_record(
    printer: &mut Printer<'_>,
    info: &BatchInfo,
    (record, base_sequence): (&Record<'_>, i32),
    limit: usize,
) {
    let header = &info.header;
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let (key, value) = (record.key(), record.value());
    let delta = record.offset().0 - header.base_offset().0;
    let sequence = match i32::try_from(delta) {
        Ok(delta) if base_sequence >= 0 => {
            thalweg::base::ids::Sequence(base_sequence).plus(delta).0
        }
        _ => -1,
    };
    let control = header.is_control().then(|| control_name(key));
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or_else(|| "null".to_owned(), |bytes| Shown::new(bytes, limit).text())
    };
    let json_of =
        |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| Shown::new(bytes, limit).json());
    printer.line(
        || {
            let headers: Vec<String> = record
                .headers()
                .map(|(key, value)| format!("{}={}", text(Some(key)), text(value)))
                .collect();
            let control = control.map_or(String::new(), |name| format!(" control: {name}"));
            format!(
                "| offset: {} {}: {} keySize: {} valueSize: {} sequence: {sequence} \
                 headers: [{}]{control} key: {} payload: {}",
                record.offset(),
                time_name(header),
                record.timestamp(),
                size(key),
                size(value),
                headers.join(", "),
                text(key),
                text(value),
            )
        },
        || {
            let headers: Vec<Value> = record
                .headers()
                .map(|(key, value)| json!({"key": json_of(Some(key)), "value": json_of(value)}))
                .collect();
            json!({
                "type": "record", "offset": record.offset().0, "timestamp": record.timestamp(),
                "timestamp_type": time_name(header), "sequence": sequence, "control": control,
                "key": json_of(key), "value": json_of(value), "headers": headers,
            })
        },
    );
}

/// What a control record says: its key is a version and a type, 16 bits each.
fn control_name(key: Option<&[u8]>) -> &'static str {
    match key {
        Some([_, _, 0, 0, ..]) => "abort",
        Some([_, _, 0, 1, ..]) => "commit",
        _ => "unknown",
    }
}
