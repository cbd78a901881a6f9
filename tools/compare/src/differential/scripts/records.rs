//! Produce: what the records in a batch may say. Kafka walks all of them; Thalweg does where the
//! topic asks for it (`record.validation=full` there, which Kafka does not know).

use super::BASE_TIMESTAMP;
use crate::batch::{Batch, Record};
use crate::differential::script::Script;

/// Enough for all cases.
const PARTITIONS: i32 = 50;

pub fn run(script: &mut Script) {
    // Each case has a partition of its own: whether one is accepted says nothing about the next.
    script.create("records", PARTITIONS, &[]);
    let topic = script.topic("records");
    let mut partitions = 0..PARTITIONS;
    let mut next = || partitions.next().unwrap_or(PARTITIONS);
    let plain = Record { value: Some(b"v".to_vec()), ..Record::default() };
    let with = |change: fn(&mut Record)| {
        let mut record = plain.clone();
        change(&mut record);
        vec![record]
    };
    let at = |delta: i64| Record { offset_delta: Some(delta), ..plain.clone() };
    let header = |key: &[u8]| (key.to_vec(), Some(b"v".to_vec()));
    let named =
        |headers: Vec<(Vec<u8>, Option<Vec<u8>>)>| vec![Record { headers, ..plain.clone() }];
    let cases: Vec<(&str, Vec<Record>)> = vec![
        ("good", vec![plain.clone()]),
        ("offset deltas 1, 2", vec![at(1), at(2)]),
        ("offset deltas 0, 2", vec![at(0), at(2)]),
        ("offset deltas 0, 0", vec![at(0), at(0)]),
        ("offset deltas 1, 0", vec![at(1), at(0)]),
        ("offset delta -1", vec![at(-1)]),
        ("record one byte too long", with(|record| record.length_error = 1)),
        ("record one byte too short", with(|record| record.length_error = -1)),
        ("record length negative", with(|record| record.length_error = -100)),
        ("record length huge", with(|record| record.length_error = 1 << 30)),
        ("header count -1", with(|record| record.header_count = Some(-1))),
        ("header count 1 without one", with(|record| record.header_count = Some(1))),
        ("header count huge", with(|record| record.header_count = Some(i64::from(i32::MAX)))),
        ("header key no UTF-8", named(vec![header(&[0xff, 0xfe])])),
        ("header key empty", named(vec![header(b"")])),
        ("header value null", named(vec![(b"k".to_vec(), None)])),
        ("header twice", named(vec![header(b"k"), header(b"k")])),
        ("timestamp delta -5", with(|record| record.timestamp_delta = -5)),
    ];
    for (what, records) in cases {
        let batch = Batch::of_records(BASE_TIMESTAMP, &records);
        let case = format!("records v9, {what}");
        script.produce(&case, 9, &topic, next(), Some(batch.encode()));
        let case = format!("records v9, gzip, {what}");
        script.produce(&case, 9, &topic, next(), Some(batch.gzip().encode()));
    }
    let mut behind = Batch::of(BASE_TIMESTAMP, &[b"one"]);
    behind.payload.extend([1, 2, 3]);
    script.produce("records v9, bytes behind the last", 9, &topic, next(), Some(behind.encode()));
    let gzip = behind.gzip().encode();
    script.produce("records v9, gzip, bytes behind the last", 9, &topic, next(), Some(gzip));
    let mut cut = Batch::of(BASE_TIMESTAMP, &[&[7; 300]]).gzip();
    cut.payload.truncate(100);
    script.produce("records v9, gzip, cut", 9, &topic, next(), Some(cut.encode()));
    let mut nested = Batch::of(BASE_TIMESTAMP, &[b"one"]).gzip();
    nested = nested.gzip();
    script.produce("records v9, gzip in gzip", 9, &topic, next(), Some(nested.encode()));
}
